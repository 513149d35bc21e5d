"""Requests as documents, and what was said of their windows before."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from pipelines.adapters import files, reader, requests
from pipelines.adapters.requests import Logged
from pipelines.core.drift.policy import Outcome
from pipelines.core.drift.sample import Sample
from pipelines.errors import ArtifactError

LARGEST = 1e30
"""Numbers beyond are damage, not measurements."""

Measure = Literal["seconds", "first_token_seconds", "prompt_tokens", "completion_tokens", "nats_per_token"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
"""Figures of the log itself that are compared between weeks of traffic; a release has no reference for them."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request of the log."""

    id: str
    time: float
    """Seconds since 1970."""
    manifest_sha256: str | None
    """Of the release that answered."""
    text: str | None
    """What was asked, where the logging of text is switched on and its time is not over."""
    columns: dict[str, float]


def read(folder: Path) -> list[Request]:
    """All requests of the log, in the order in which they were written, each once."""
    found: dict[str, Request] = {}
    for record in requests.read(folder):
        if record.get("id") and isinstance(record.get("prompt_descriptors"), dict):
            request = _request(record)
            found.setdefault(request.id, request)
    return list(found.values())


def _request(record: Logged) -> Request:
    columns = _numbers(record["prompt_descriptors"], "")
    columns |= _numbers(record.get("response_descriptors"), "response ")
    columns |= _numbers({name: record.get(name) for name in MEASURES}, "")
    if isinstance(status := record.get("status"), int):
        columns["failed"] = float(status >= 500)
    if finish := record.get("finish"):
        reasons = finish if isinstance(finish, list) else [finish]
        columns["cut short"] = sum(reason == "length" for reason in reasons) / len(reasons)
    text = record.get("prompt")
    return Request(
        id=str(record["id"]),
        time=datetime.fromisoformat(record["time"]).timestamp(),
        manifest_sha256=record.get("manifest_sha256"),
        text=text if isinstance(text, str) else None,
        columns=columns,
    )


def _numbers(values: Any, prefix: str) -> dict[str, float]:
    """The entries that are numbers; one too large for a float is none."""
    entries = values.items() if isinstance(values, dict) else ()
    return {
        prefix + name: float(value)
        for name, value in entries
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST
    }


def sample(asked: Sequence[Request], folder: Path, threads: int | None) -> Sample:
    """Requests as the model in `folder` reads them; columns alone where some of the texts are not kept."""
    names = sorted({name for request in asked for name in request.columns})
    columns = {
        name: np.array([request.columns.get(name, np.nan) for request in asked], dtype=np.float32) for name in names
    }
    columns = {name: values for name, values in columns.items() if np.isfinite(values).any()}
    texts = [request.text for request in asked if request.text is not None]
    if not asked or len(texts) < len(asked):
        return Sample(columns=columns)
    made = reader.read(folder, texts, threads=threads)
    return Sample(
        columns={**columns, **made.columns}, tokens=made.tokens, offsets=made.offsets, embeddings=made.embeddings
    )


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What was said of one window. Of its requests only the ids are kept, never the texts."""

    number: int
    ids: tuple[str, ...]
    began: float | None
    ended: float | None
    outcome: Outcome
    against_release: Outcome
    accepted: bool
    """It belongs to what is normal."""
    effects: dict[str, float]
    """Test -> effect against the release's reference."""
    ratios: dict[str, float]
    """Test -> effect over own variation, in the comparison that decided."""


class History:
    """The judged windows of one release: one file each, written whole or not at all.

    Args:
        folder: Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def windows(self) -> list[Judged]:
        """All windows, oldest first.

        Raises:
            ArtifactError: when a file is torn.
        """
        return [self._read(path) for path in sorted(self._folder.glob("window-*.json"))]

    def _read(self, path: Path) -> Judged:
        values = files.read_json(path)
        try:
            return Judged(**{**values, "ids": tuple(values["ids"])})
        except (KeyError, TypeError) as error:
            raise ArtifactError(
                f"{path} is of another version ({error}): remove it; its requests are judged again."
            ) from None

    def write(self, judged: Judged) -> None:
        """Add a window, or replace the one with its number."""
        files.write_json(self._folder / f"window-{judged.number:06d}.json", judged.__dict__)

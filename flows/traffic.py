"""Requests as documents, and what was said of their windows before."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.adapters import files, reader
from pipelines.core.drift.policy import Outcome
from pipelines.core.drift.sample import Sample
from pipelines.errors import ArtifactError

_NUMBERS = re.compile(r"(\d+)")

LARGEST = 1e30
"""Numbers beyond are damage, not measurements."""

MEASURES = ("seconds", "first_token_seconds", "prompt_tokens", "completion_tokens", "nats_per_token")
"""Figures of the log itself that are compared between weeks of traffic; a release has no reference for them."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request of the log."""

    id: str
    time: float | None
    """Seconds since 1970."""
    text: str | None
    """What was asked, where the logging of text is switched on and its time is not over."""
    columns: dict[str, float]


def read(folder: Path) -> list[Request]:
    """All requests of the log's segments, in the order in which they were written.

    A torn last line is what a killed process leaves; it is no request and is left out.
    """
    found: dict[str, Request] = {}
    for path in sorted(folder.glob("*.jsonl"), key=_natural):
        for request in _segment(path):
            found.setdefault(request.id, request)
    return list(found.values())


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in _NUMBERS.split(path.name)]


def _segment(path: Path) -> Iterator[Request]:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return  # closed and removed since the folder was listed
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and record.get("id") and isinstance(record.get("prompt_descriptors"), dict):
            yield _request(record)


def _request(record: Mapping[str, Any]) -> Request:
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
        time=_seconds(record.get("time")),
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


def _seconds(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if abs(value) < LARGEST else None
    try:
        return datetime.fromisoformat(value).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def sample(requests: Sequence[Request], folder: Path, threads: int | None) -> Sample:
    """Requests as the model in `folder` reads them; columns alone where some of the texts are not kept."""
    names = sorted({name for request in requests for name in request.columns})
    columns = {
        name: np.array([request.columns.get(name, np.nan) for request in requests], dtype=np.float32) for name in names
    }
    columns = {name: values for name, values in columns.items() if np.isfinite(values).any()}
    texts = [request.text for request in requests if request.text is not None]
    if not requests or len(texts) < len(requests):
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

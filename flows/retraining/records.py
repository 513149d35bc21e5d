"""Retrainings as records on disk: what one is, how far it came, where it works."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipelines.adapters import files
from pipelines.artifacts import State
from pipelines.errors import ArtifactError

Reason = Literal["by hand", "schedule", "drift", "resume"]
Status = Literal[
    "running", "promoted", "refused", "unchanged", "finished", "failed", "not published", "given up", "replaced"
]
UNFINISHED = ("running", "not published")
RECORD, WORKSPACE = "record.json", "workspace"


@dataclass(frozen=True, kw_only=True)
class Order:
    """What somebody asks for."""

    reason: Reason = "by hand"
    key: str = ""
    """Of the event or the time of the schedule; the same key never starts a second retraining. Empty: always new."""
    start: str | None = None
    """Run this stage and all below it again, changed or not."""
    profile: str | None = None
    """Instead of `retraining.profile`."""


@dataclass(kw_only=True)
class Record:
    """One retraining and how far it came."""

    id: str
    commit: str
    reason: str
    keys: list[str]
    start: str | None
    profile: str | None
    started: float
    """Seconds since 1970."""
    attempts: int = 0
    done: list[str] = field(default_factory=list)
    """Steps that need not be done again."""
    status: Status = "running"
    note: str = ""
    version: int | None = None
    ended: float | None = None
    new_files: int = 0
    """Files of accepted data."""
    accepted: str = ""
    """Fingerprint of these files."""

    @property
    def because(self) -> str:
        """Why it is made, and the attempt where it is not the first, in a few words."""
        again = f", attempt {self.attempts}" if self.attempts > 1 else ""
        return {"by hand": "by hand", "schedule": "on schedule", "drift": "for drift"}.get(self.reason, "") + again


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """Why nothing was started."""

    why: str


def read(checkout: Path = Path()) -> list[Record]:
    """All retrainings of this checkout, oldest first; a record that cannot be read is left out."""
    found = []
    for path in sorted((checkout / State.RETRAININGS).glob(f"*/{RECORD}")):
        try:
            found.append(Record(**files.read_json(path)))
        except (ArtifactError, TypeError):
            continue
    return sorted(found, key=lambda record: (record.started, record.id))


def save(checkout: Path, record: Record) -> None:
    """Write down how far it came."""
    files.write_json(checkout / State.RETRAININGS / record.id / RECORD, dataclasses.asdict(record))


def folder(checkout: Path, record: Record) -> Path:
    """Where a retraining works."""
    return checkout / State.RETRAININGS / record.id / WORKSPACE


def log(checkout: Path, record: Record) -> Path:
    """What the lifecycle of a retraining said, when it was not told to a terminal."""
    return checkout / State.RETRAININGS / record.id / "lifecycle.log"

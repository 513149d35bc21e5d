"""What the server on this machine says of itself: what it serves, and what it refused to swap in."""

from pathlib import Path
from typing import TypedDict

from pipelines.adapters import files
from pipelines.artifacts import State
from pipelines.errors import ArtifactError


class Serving(TypedDict):
    """A version that answers."""

    version: str
    manifest_sha256: str


class Refused(Serving):
    """A version that was not swapped in."""

    reason: str
    time: str
    """UTC, ISO 8601, whole seconds."""


class Status(TypedDict):
    """The file."""

    serving: Serving | None
    refused: list[Refused]


def write(path: Path, status: Status) -> None:
    """Replace the file.

    Raises:
        ResourceError: when the disk is full.
    """
    files.write_json(path, status)


def read(root: Path) -> Status:
    """The file of the workspace `root`; nothing is served and nothing refused where there is none, or a torn one."""
    try:
        status: Status = files.read_json(root / State.SERVING_STATUS)
    except ArtifactError:
        return {"serving": None, "refused": []}
    return status

"""The records that stages hand on: JSON lines in folders, one file per kind and split."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pipelines.adapters import files

Kind = Literal["corpus", "instructions", "preferences"]
Split = Literal["train", "valid", "test"]
KINDS: tuple[Kind, ...] = ("corpus", "instructions", "preferences")
SPLITS: tuple[Split, ...] = ("train", "valid", "test")


def file(folder: Path, kind: Kind, split: Split) -> Path:
    """Where the records of one kind and split lie; every stage writes all nine files, empty ones too."""
    return folder / f"{kind}.{split}.jsonl"


def records(folder: Path, kind: Kind, split: Split) -> Iterator[dict[str, Any]]:
    """Stream the records of one kind and split.

    Raises:
        ArtifactError: when the file is missing or torn.
    """
    return files.read_jsonl(file(folder, kind, split))

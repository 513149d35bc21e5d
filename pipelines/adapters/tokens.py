"""Token shards: one long row of ids per split, in files that are read piece by piece, never whole."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.adapters import files
from pipelines.errors import ArtifactError

INDEX = "index.json"


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A run of documents as ids, the end token after each."""

    ids: NDArray[Any]
    num_bytes: int
    """UTF-8 bytes of their text."""
    num_documents: int


def write_split(folder: Path, split: str, runs: Iterable[Encoded], *, dtype: str, shard_tokens: int) -> dict[str, Any]:
    """Write the shards of one split into `folder`, streaming; return the split's entry of the index."""
    entry: dict[str, Any] = {"files": {}, "tokens": 0, "bytes": 0, "documents": 0}
    for run in runs:
        ids = run.ids.astype(dtype)
        start = 0
        while start < len(ids):
            number, filled = divmod(entry["tokens"], shard_tokens)
            piece = ids[start : start + shard_tokens - filled]
            name = f"corpus.{split}.{number:03}.bin"
            with (folder / name).open("ab") as file:
                file.write(piece.data)  # not `tofile`, whose error on a full disk does not say so
            entry["files"][name] = entry["files"].get(name, 0) + len(piece)
            entry["tokens"] += len(piece)
            start += len(piece)
        entry["bytes"] += run.num_bytes
        entry["documents"] += run.num_documents
    return entry


def count(folder: Path) -> int | None:
    """Tokens of all splits, by the index alone; None where there is none that can be read."""
    try:
        splits = files.read_json(folder / INDEX)["splits"]
        return sum(int(split["tokens"]) for split in splits.values())
    except (ArtifactError, OSError, LookupError, TypeError, ValueError, AttributeError):
        return None


def dtype_for(vocab_size: int) -> str:
    """The smallest unsigned type that holds every id."""
    return "uint16" if vocab_size <= 2**16 else "uint32"


class Shard:
    """A file of ids. It is read and not mapped: mapped pages of a large corpus count as memory of the process."""

    def __init__(self, path: Path, dtype: str, count: int, vocab_size: int) -> None:
        self._path, self._file, self._dtype, self._count = path, path.open("rb"), np.dtype(dtype), count
        self._vocab_size = vocab_size

    def __len__(self) -> int:
        return self._count

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Ids from `start` to before `stop`, cut to what there is.

        Raises:
            ArtifactError: when the file has become shorter, or holds an id that the vocabulary does not have.
        """
        first = max(0, start)
        last = max(first, min(self._count, stop))
        size = self._dtype.itemsize
        read = os.pread(self._file.fileno(), (last - first) * size, first * size)
        if len(read) != (last - first) * size:
            raise ArtifactError(f"{self._path} ends before id {last:,}: run tokenization again.")
        ids = np.frombuffer(read, dtype=self._dtype)
        if len(ids) and ids.max() >= self._vocab_size:
            raise ArtifactError(
                f"{self._path} holds id {ids.max():,}, beyond the {self._vocab_size:,} entries of its vocabulary:"
                f" remove {self._path.parent} and run tokenization again."
            )
        return ids


class Tokens:
    """The row of one split. `tokens[a:b]` is a copy, across shards; it satisfies `core.learning.batches.Row`."""

    def __init__(self, shards: Sequence[Shard], *, num_bytes: int, num_documents: int, dtype: str) -> None:
        self.num_bytes = num_bytes
        self.num_documents = num_documents
        self._shards = shards
        self._starts = np.cumsum([0, *map(len, shards)])
        self._dtype = dtype

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, span: slice) -> NDArray[Any]:
        start, stop, _ = span.indices(len(self))
        pieces = [
            shard.read(start - first, stop - first)
            for shard, first in zip(self._shards, self._starts.tolist(), strict=False)
            if first < stop and first + len(shard) > start
        ]
        return np.concatenate(pieces) if pieces else np.empty(0, dtype=self._dtype)


class TokenStore:
    """The folder that the stage tokenization writes: shards and their index."""

    def __init__(self, folder: Path, index: dict[str, Any]) -> None:
        self.folder = folder
        self.eos: int = index["eos"]
        self.vocab_size: int = index["vocab_size"]
        self._dtype: str = index["dtype"]
        self._splits: dict[str, Any] = index["splits"]

    @classmethod
    def open(cls, folder: Path) -> "TokenStore":
        """Read the index and check that every shard has its size.

        Raises:
            ArtifactError: when the index or a shard is missing, torn or does not fit.
        """
        index = files.read_json(folder / INDEX)
        try:
            store = cls(folder, index)
            for split in store._splits.values():
                store._check(split)
        except (KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"{folder / INDEX} lacks {error}. Run tokenization again.") from None
        return store

    def _check(self, split: dict[str, Any]) -> None:
        itemsize = np.dtype(self._dtype).itemsize
        if sum(split["files"].values()) != split["tokens"]:
            raise ArtifactError(
                f"{self.folder / INDEX}: the files do not add up to the tokens. Run tokenization again."
            )
        for name, count in split["files"].items():
            path = self.folder / name
            size = path.stat().st_size if path.is_file() else -1
            if size != count * itemsize:
                state = "is missing" if size < 0 else f"has {size:,} bytes, not the {count * itemsize:,} of its index"
                raise ArtifactError(f"{path} {state}: remove {self.folder} and run tokenization again.")

    def split(self, name: str) -> Tokens:
        """The row of `train`, `valid` or `test`."""
        entry = self._splits[name]
        shards = [
            Shard(self.folder / file, self._dtype, count, self.vocab_size) for file, count in entry["files"].items()
        ]
        return Tokens(shards, num_bytes=entry["bytes"], num_documents=entry["documents"], dtype=self._dtype)

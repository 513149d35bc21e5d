"""Tables of descriptors: a row a record, in a temporary SQLite file, so that memory does not grow with the records."""

import sqlite3
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import ResourceError

INDEX: Final = ("id", "split", "line")
"""Columns by which a row is named."""
_TYPES: Final = {"id": "TEXT", "split": "TEXT", "line": "INTEGER"}


class Tables:
    """A table for each kind of record; the file is gone when the block ends.

    Args:
        columns: Kind -> descriptor -> values, of which only the type counts. The columns of `INDEX` come before them.

    Raises:
        ResourceError: from the block, when there is no space for the file.
    """

    def __init__(self, columns: Mapping[str, Mapping[str, NDArray[Any]]]) -> None:
        types = {
            kind: _TYPES | {name: "INTEGER" if values.dtype.kind in "iu" else "REAL" for name, values in items.items()}
            for kind, items in columns.items()
        }
        self.columns = {kind: tuple(items) for kind, items in types.items()}
        self._folder = tempfile.TemporaryDirectory(prefix="moteur-")
        self.path = Path(self._folder.name) / "descriptors.sqlite"
        self._database = sqlite3.connect(self.path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        for kind, items in types.items():
            described = ", ".join(f'"{name}" {stored}' for name, stored in items.items())
            self._database.execute(f'CREATE TABLE "{kind}" ({described})')
        self._database.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._database.close()
        folder = self.path.parent.parent
        self._folder.cleanup()
        if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise ResourceError(
                f"No space for the table of descriptors in {folder}. Free some, or set the environment variable TMPDIR"
                " to a folder that has more, and run again: nothing that was made before is lost."
            ) from error

    def add(
        self,
        kind: str,
        split: str,
        ids: Sequence[object],
        lines_N: NDArray[np.int64],
        columns: Mapping[str, NDArray[Any]],
    ) -> None:
        """Append N rows; a value that is not a number is no value."""
        named = (ids, [split] * len(ids), lines_N.tolist())
        described = [columns[name].tolist() for name in self.columns[kind][len(INDEX) :]]
        places = ", ".join("?" * len(self.columns[kind]))
        rows = zip(*named, *described, strict=True)
        self._database.executemany(f'INSERT INTO "{kind}" VALUES ({places})', rows)  # noqa: S608  a key of `columns`

    def commit(self) -> None:
        """Let others see the rows, and find those of an id: whether each is the only one is asked three times."""
        for kind in self.columns if self._database.in_transaction else ():
            self._database.execute(f'CREATE INDEX "id of {kind}" ON "{kind}" (id)')
        if self._database.in_transaction:
            self._database.execute("COMMIT")

    def extremes(self, kind: str, column: str) -> Iterable[dict[str, Any]]:
        """The rows with the least, the middle and the greatest value of a column."""
        names = ", ".join(f'"{name}"' for name in dict.fromkeys((*INDEX, column)))
        (count,) = self._database.execute(f'SELECT COUNT(*) FROM "{kind}"').fetchone()  # noqa: S608  as above
        ordered = f'SELECT {names} FROM "{kind}" ORDER BY "{column}" IS NULL, "{column}", rowid'  # noqa: S608  as above
        for place in (0, count // 2, count - 1) if count else ():
            found = self._database.execute(f"{ordered} LIMIT 1 OFFSET {place}")
            (row,) = found
            yield dict(zip([name for name, *_ in found.description], row, strict=True))

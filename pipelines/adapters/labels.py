"""Files of labels that people made somewhere else: JSON lines, and tables as CSV."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipelines.adapters import rankings
from pipelines.adapters.rankings import Reject
from pipelines.core.learning import labels
from pipelines.errors import DataError

SUFFIXES = (".jsonl", ".csv")
DELIMITERS = ",;\t"
"""Of which the first line of a table has most; spreadsheets in much of Europe write semicolons."""

LONGEST_CELL = 100_000_000
"""Characters; the library's own limit, 131,072, is below a long prompt with its context."""


def read(path: Path) -> Iterator[tuple[int, dict[str, Any] | None] | Reject]:
    """Each label with the number of its line, as a line of the schema that is not yet checked; None: not labelled yet.

    Raises:
        DataError: the file is missing, is neither JSON lines nor a table, or the table cannot be told into rows.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path} is neither {' nor '.join(SUFFIXES)}: save it as one of them")
    try:
        yield from _objects(path) if suffix == ".jsonl" else _rows(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any] | None] | Reject]:
    for number, data in rankings.lines(path):
        try:
            yield number, labels.line(rankings.decoded(data))
        except ValueError as error:
            yield Reject(file=path.as_posix(), line=number, reason=str(error))


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | None] | Reject]:
    header: Sequence[str] = ()
    for number, cells in _cells(path):
        if not header:
            header = [name.strip() for name in cells]
            if len(set(header)) != len(header):
                raise DataError(f"{path} has two columns of one name in its first line: rename or remove one")
            continue
        try:
            if len(cells) != len(header):
                raise ValueError(f"{len(cells)} cells, but {len(header)} columns")
            yield number, labels.line(labels.from_cells(dict(zip(header, cells, strict=True))))
        except ValueError as error:
            yield Reject(file=path.as_posix(), line=number, reason=str(error))


def _cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, with the number of their first line."""
    csv.field_size_limit(LONGEST_CELL)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max(DELIMITERS, key=first.count), strict=True)
            before = 0
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield before + 1, cells
                before = reader.line_num
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}): save it as CSV UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path}, below line {before}, is no CSV: {error}") from None

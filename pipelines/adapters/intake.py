"""Intake: rows of sources become records in the nine files, or go to the quarantine with a reason."""

import json
import sqlite3
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Self

from pipelines.adapters import datasets
from pipelines.adapters.datasets import KINDS, SPLITS, Kind, Split
from pipelines.adapters.source_files import shown
from pipelines.adapters.sources import Input
from pipelines.artifacts import State
from pipelines.core.text.lines import Bad, Good, excerpt
from pipelines.core.text.records import CONTRACTS, Record, UnfitError, conform, drawn_split, grouping_key
from pipelines.core.world import gold
from pipelines.errors import DataError
from pipelines.params import Ingestion, Source

QUARANTINE: Final = "quarantine.jsonl"
CACHE_KIB: Final = 4096
"""Of the ids that were read, this much is held in memory."""
HOPELESS_ROWS: Final = 1000
"""An input whose first rows, this many, are all bad is given up at once."""


@dataclass(frozen=True)
class Task:
    """A source of params with the inputs it names."""

    kind: Kind
    split: Split
    source: Source
    inputs: list[Input]

    @property
    def name(self) -> str:
        """What the report calls it."""
        return f"{self.kind}.{self.split} {shown(self.source.uri)}"


class Intake:
    """Sorts rows into the nine files and the quarantine."""

    def __init__(self, folder: Path, settings: Ingestion) -> None:
        self._settings = settings
        self._stack = ExitStack()
        self._files: dict[str, IO[str]] = {
            f"{kind}.{split}": self._open(datasets.file(folder, kind, split)) for kind in KINDS for split in SPLITS
        }
        self._quarantine = self._open(folder / QUARANTINE)
        self._lacking = {
            kind: frozenset(split for split in ("valid", "test") if not getattr(getattr(settings, kind), split))
            for kind in KINDS
        }
        self._ids = Ids()
        self._stack.callback(self._ids.close)
        self.num_records: Counter[str] = Counter(dict.fromkeys(self._files, 0))
        self.reasons: Counter[str] = Counter()
        self.num_bytes = 0

    def _open(self, path: Path) -> IO[str]:
        return self._stack.enter_context(path.open("w", encoding="utf-8", newline="\n"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def take(self, task: Task) -> Iterator[Record]:
        """Read a source to its end or limit, write its records and give each.

        Raises:
            DataError: too many rows of one input are bad, or it holds none.
        """
        left = task.source.limit
        for item in task.inputs:
            faults = Faults(item.name, self._settings.max_bad_line_share)
            for row in item.rows():
                if left == 0:
                    break
                fit = self._fit(task, item.name, row)
                if isinstance(fit, Bad):
                    self._put_aside(item.name, fit)
                    faults.add(fit)
                    continue
                faults.num_good += 1
                left = None if left is None else left - 1
                self._write(task, fit)
                yield fit
            faults.check()
            if left == 0:
                return

    def _fit(self, task: Task, name: str, row: Good | Bad) -> Record | Bad:
        if isinstance(row, Bad):
            return row
        try:
            record = conform(
                task.kind, row.values, columns=task.source.columns, constants=task.source.constants, source=name
            )
            _check_gold(record)
            self._check_id(task.kind, record)
        except UnfitError as error:
            return Bad(row.line, error.reason, error.detail, _excerpt(row.values))
        return record

    def _check_id(self, kind: str, record: Record) -> None:
        if self._ids.clash((kind, record["id"]), tuple(record[name] for name in CONTRACTS[kind].content)):
            raise UnfitError(
                "duplicate id",
                f"{record['id']!r} was read before with other content; where the ids of a source mean nothing, give it"
                " `constants: {id: ''}` in params.yaml and they are made from the content",
            )

    def _write(self, task: Task, record: Record) -> None:
        split: str = task.split
        lacking = self._lacking[task.kind]
        if split == "train" and lacking:
            key = grouping_key(task.kind, record)
            split = drawn_split(key, self._settings.held_out_share, lacking)
        name = f"{task.kind}.{split}"
        line = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
        self._files[name].write(line)
        self.num_records[name] += 1
        self.num_bytes += len(line) if line.isascii() else len(line.encode())

    def _put_aside(self, name: str, bad: Bad) -> None:
        self.reasons[bad.reason] += 1
        entry = {"file": name, "line": bad.line, "reason": bad.reason, "detail": bad.detail, "text": bad.excerpt}
        self._quarantine.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def check_draws(self) -> None:
        """See that a split that was to be drawn from train has records.

        Raises:
            DataError: it has none, though train has some.
        """
        for kind in ("corpus", "instructions"):
            drawn = sorted(self._lacking[kind])
            read = sum(self.num_records[f"{kind}.{split}"] for split in ("train", *drawn))
            if 0 < read <= len(drawn):
                raise DataError(
                    f"The number of records that ingestion.{kind}.train gives is {read}, too few to draw"
                    f" {' and '.join(drawn)} from them: give more, or give ingestion.{kind}.{drawn[0]} sources of its"
                    " own in params.yaml. A text whose documents no blank line parts (see `separator` of a source), or"
                    " whose lines end in CR alone, is one record"
                )
            for split in drawn:
                if self.num_records[f"{kind}.train"] and not self.num_records[f"{kind}.{split}"]:
                    raise DataError(
                        f"ingestion.held_out_share is {self._settings.held_out_share}, and so none of the"
                        f" {self.num_records[f'{kind}.train']:,} records of {kind}.train fell to {split}: raise it, or"
                        f" give ingestion.{kind}.{split} sources of its own in params.yaml"
                    )


def _check_gold(record: Record) -> None:
    """Gold facts are what our scorer judges by; those of somebody else would end the stages that do."""
    try:
        if "gold" in record:
            gold.check(record["gold"])
    except ValueError as error:
        raise UnfitError(
            "unknown gold facts",
            f"{error}; where the field means something else in a source, name another column there,"
            " `columns: {gold: none}` in params.yaml",
        ) from None


class Ids:
    """What each id stood for: two hashes an id, in a temporary file, so that memory does not grow with the corpus."""

    def __init__(self) -> None:
        self._table = sqlite3.connect("", isolation_level=None)  # no name: its own file, gone with the connection
        self._table.execute("PRAGMA journal_mode = OFF")
        self._table.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._table.execute("CREATE TABLE ids (id INTEGER PRIMARY KEY, content INTEGER)")
        self._table.execute("BEGIN")

    def clash(self, name: Hashable, content: Hashable) -> bool:
        """Whether the id was read before with other content; one that was not is remembered."""
        entry = (hash(name), hash(content))
        if self._table.execute("INSERT OR IGNORE INTO ids VALUES (?, ?)", entry).rowcount:
            return False
        return self._table.execute("SELECT 1 FROM ids WHERE id = ? AND content = ?", entry).fetchone() is None

    def close(self) -> None:
        """Remove the file."""
        self._table.close()


class Faults:
    """The bad rows of one input, counted against the limit."""

    def __init__(self, name: str, limit: float) -> None:
        self._name, self._limit = name, limit
        self._examples: list[Bad] = []
        self.num_good = self.num_bad = 0

    def add(self, bad: Bad) -> None:
        """Count a bad row.

        Raises:
            DataError: there have been only bad rows for so long that the rest is hopeless.
        """
        self.num_bad += 1
        if len(self._examples) < 3:
            self._examples.append(bad)
        if self.num_bad == HOPELESS_ROWS and not self.num_good:
            self.check()

    def check(self) -> None:
        """Compare with the limit.

        Raises:
            DataError: the share of bad rows is too great, or there are no rows at all.
        """
        rows = self.num_good + self.num_bad
        if not rows:
            raise DataError(f"{self._name} holds no records: fetch it again or remove it from params.yaml")
        if self.num_bad <= self._limit * rows:
            return
        examples = "\n".join(
            f"  {self._name}:{bad.line}  {bad.reason}: {bad.detail}  {bad.excerpt[:80]!r}" for bad in self._examples
        )
        raise DataError(
            f"{self._name}: {self.num_bad:,} of {rows:,} records are bad, more than ingestion.max_bad_line_share"
            f" ({self._limit}) permits. For instance:\n{examples}\n"
            f"All are in {State.QUARANTINE}. Mend the file, or the columns and constants of its source, or"
            " raise the share in params.yaml."
        )


def _excerpt(values: Record) -> str:
    return excerpt(json.dumps(values, ensure_ascii=True, default=str))

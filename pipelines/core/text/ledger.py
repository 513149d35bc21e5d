"""The ledger of validation: verdicts and descriptors of every record in typed arrays, never its text."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.core.text.descriptors import Columns
from pipelines.core.text.profile import WordCounts, concatenated, profile
from pipelines.core.text.records import CONTRACTS, Record
from pipelines.core.text.screening import REASONS, SPLIT_ORDER, Screen, Screened

KINDS: Final = tuple(CONTRACTS)
SPLITS: Final = tuple(reversed(SPLIT_ORDER))


@dataclass
class Part:
    """What is known of one file: a few bytes a record."""

    kind: str
    split: str
    ids: list["pd.Series[str]"] = field(default_factory=list)
    columns: list[Columns] = field(default_factory=list)
    codes: list[NDArray[np.uint8]] = field(default_factory=list)
    redacted: set[int] = field(default_factory=set)
    num_personal: int = 0

    @property
    def verdicts(self) -> NDArray[np.uint8]:
        """Index into `REASONS` of each record."""
        return np.concatenate([np.empty(0, dtype=np.uint8), *self.codes])

    def add(self, batch: Sequence[Record], screened: Screened, *, redact: bool) -> None:
        """Note a batch."""
        if redact:
            start = sum(map(len, self.codes))
            self.redacted |= {start + index for index in screened.personal}
        self.ids.append(pd.Series([record["id"] for record in batch], dtype="string[pyarrow]"))
        self.columns.append({name: _narrow(values) for name, values in screened.columns.items()})
        self.codes.append(screened.codes_N)
        self.num_personal += len(screened.personal)

    def table(self) -> pd.DataFrame:
        """The accepted records, one a row: id, split, line, descriptors."""
        if not self.codes:
            return pd.DataFrame()
        accepted = self.verdicts == 0
        columns = concatenated(self.columns)
        frame = pd.DataFrame({"id": pd.concat(self.ids, ignore_index=True)[accepted]})
        frame["split"] = pd.Categorical([self.split], categories=list(SPLITS)).repeat(len(frame))
        frame["line"] = np.flatnonzero(accepted) + 1
        return frame.assign(**{name: values[accepted] for name, values in columns.items()})


def _narrow(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(np.int32) if values.dtype.kind == "i" else values


class Ledger:
    """All parts, the words of the training data, and examples of what was rejected."""

    def __init__(self) -> None:
        self.parts = {(kind, split): Part(kind, split) for kind in KINDS for split in SPLITS}
        self._words = {kind: WordCounts() for kind in KINDS}
        self._examples: dict[str, list[Record]] = {kind: [] for kind in KINDS}

    def add(self, kind: str, split: str, batch: Sequence[Record], screened: Screened, *, redact: bool) -> None:
        """Note a batch."""
        self.parts[kind, split].add(batch, screened, redact=redact)
        if split == "train":
            self._words[kind].add(screened.words, screened.codes_N == 0)

    def add_example(self, kind: str, entry: Record, text: str) -> None:
        """Keep the first rejected records, one of each reason."""
        examples = self._examples[kind]
        if len(examples) < 3 and all(entry["reason"] != other["reason"] for other in examples):
            examples.append({**entry, "text": text})

    def _reasons(self, kinds: Sequence[str]) -> Counter[str]:
        counts = Counter(dict.fromkeys(REASONS, 0))
        for part in self.parts.values():
            if part.kind in kinds:
                codes = np.bincount(part.verdicts, minlength=len(REASONS)).tolist()
                counts.update(dict(zip(REASONS, codes, strict=True)))
        return counts

    def excess(self, kind: str, limit: float) -> str:
        """What is to be said when a greater share of `kind` than `limit` is rejected: reasons, three records."""
        counts = self._reasons([kind])
        total, rejected = counts.total(), counts.total() - counts["accepted"]
        if rejected <= limit * total:
            return ""
        reasons = "\n".join(
            f"  {count:>8,}  {reason}" for reason, count in counts.most_common() if count and reason != "accepted"
        )
        rows = "\n".join(
            f"  {item['file']}:{item['line']}  {item['id']}  {item['reason']} ({item['detail']})  {item['text']!r}"
            for item in self._examples[kind]
        )
        return f"{rejected:,} of {total:,} records of {kind} are rejected:\n{reasons}\nFor instance:\n{rows}"

    def table(self, kind: str) -> pd.DataFrame:
        """The accepted records of one kind, all splits."""
        tables = [table for split in SPLITS if len(table := self.parts[kind, split].table())]
        return pd.concat(tables, ignore_index=True) if tables else self._empty_table(kind)

    def _empty_table(self, kind: str) -> pd.DataFrame:
        columns = Screen.columns(kind)
        return pd.DataFrame({name: pd.Series(dtype="float64") for name in ["id", "split", "line", *columns]})

    def profile(self, kind: str) -> dict[str, Any]:
        """The reference profile of one kind."""
        part = self.parts[kind, "train"]
        accepted = part.verdicts == 0
        columns = {name: values[accepted] for name, values in concatenated(part.columns).items()}
        return profile(columns, self._words[kind])

    @property
    def reasons(self) -> Counter[str]:
        """How many records of all kinds each of `REASONS` has."""
        return self._reasons(KINDS)

    @property
    def num_accepted(self) -> dict[str, int]:
        """By `<kind>.<split>`."""
        return {f"{kind}.{split}": int((part.verdicts == 0).sum()) for (kind, split), part in self.parts.items()}

    @property
    def num_personal(self) -> int:
        """Records in which personal data were found."""
        return sum(part.num_personal for part in self.parts.values())

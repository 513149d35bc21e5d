"""The ledger of validation: verdicts, descriptors and words are counted; nothing is kept of a single record."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.core.text.profile import WordCounts, profile
from pipelines.core.text.records import CONTRACTS, Record
from pipelines.core.text.screening import REASONS, SPLIT_ORDER, Screen, Screened
from pipelines.core.text.tally import Tally

KINDS: Final = tuple(CONTRACTS)
SPLITS: Final = tuple(reversed(SPLIT_ORDER))


class Ledger:
    """Verdicts of all records, values and words of the training data, and examples of what was rejected."""

    def __init__(self) -> None:
        self._verdicts: dict[tuple[str, str], NDArray[np.int64]] = {
            (kind, split): np.zeros(len(REASONS), dtype=np.int64) for kind in KINDS for split in SPLITS
        }
        self._tallies = {kind: {name: Tally() for name in Screen.columns(kind)} for kind in KINDS}
        self._words = {kind: WordCounts() for kind in KINDS}
        self._examples: dict[str, list[Record]] = {kind: [] for kind in KINDS}
        self.num_personal = 0
        """Records in which personal data were found."""

    def add(self, kind: str, split: str, screened: Screened) -> None:
        """Note a batch."""
        self._verdicts[kind, split] += np.bincount(screened.codes_N, minlength=len(REASONS))
        self.num_personal += len(screened.personal)
        if split == "train":
            accepted_N = screened.codes_N == 0
            self._words[kind].add(screened.words, accepted_N)
            for name, tally in self._tallies[kind].items():
                tally.add(screened.columns[name][accepted_N])

    def add_example(self, kind: str, entry: Record, text: str) -> None:
        """Keep the first rejected records, one of each reason."""
        examples = self._examples[kind]
        if len(examples) < 3 and all(entry["reason"] != other["reason"] for other in examples):
            examples.append({**entry, "text": text})

    def _reasons(self, kinds: Sequence[str]) -> Counter[str]:
        counts = sum(counts for (kind, _), counts in self._verdicts.items() if kind in kinds)
        return Counter(dict(zip(REASONS, np.asarray(counts).tolist(), strict=True)))

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

    def profile(self, kind: str) -> dict[str, Any]:
        """The reference profile of one kind."""
        return profile(int(self._verdicts[kind, "train"][0]), self._tallies[kind], self._words[kind])

    @property
    def reasons(self) -> Counter[str]:
        """How many records of all kinds each of `REASONS` has."""
        return self._reasons(KINDS)

    @property
    def num_accepted(self) -> dict[str, int]:
        """By `<kind>.<split>`."""
        return {f"{kind}.{split}": int(counts[0]) for (kind, split), counts in self._verdicts.items()}

"""Screening: each record is accepted or gets one reason to reject it, a batch at a time.

Records must come split by split in the order of `SPLIT_ORDER`, every kind of one split before the next split: text
for evaluation is known when training text is judged, and of two equal records the one for evaluation stays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.core.text import personal_data
from pipelines.core.text.contamination import EvaluationRuns
from pipelines.core.text.descriptors import Columns, describe, field_lengths, whole_texts
from pipelines.core.text.duplicates import ExactDuplicates, NearDuplicates
from pipelines.core.text.records import CONTRACTS, Record
from pipelines.core.text.words import Words, split_words

SPLIT_ORDER: Final[tuple[Literal["test", "valid", "train"], ...]] = ("test", "valid", "train")

REASONS: Final = (
    "accepted",
    "empty",
    "too short",
    "too long",
    "control characters",
    "encoding damage",
    "personal data",
    "equal responses",
    "contamination",
    "exact duplicate",
    "near duplicate",
)
"""By code; of several reasons the first counts."""

CODES: Final[Mapping[str, int]] = {reason: code for code, reason in enumerate(REASONS)}

MAY_BE_EMPTY: Final = ("context",)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The limits; the section `data_validation` of params explains each."""

    min_characters: int
    max_characters: int
    near_duplicate_similarity: float
    max_control_character_share: float
    max_damaged_character_share: float
    personal_data: Literal["reject", "redact", "report"]
    contamination_words: int


@dataclass(frozen=True)
class Screened:
    """What became of N records.

    Attributes:
        columns: Descriptor -> N values.
        codes_N: Index into `REASONS`; 0 is accepted.
        details: Index of a record -> what exactly was found.
        personal: Index of a record -> kinds of personal data in it.
        words: Of the N records.
    """

    columns: Columns
    codes_N: NDArray[np.uint8]
    details: dict[int, str]
    personal: dict[int, list[str]]
    words: Words


class Screen:
    """Judges records and remembers what later ones are compared with: a few bytes each, never the text."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._exact = {kind: ExactDuplicates() for kind in CONTRACTS}
        self._near = NearDuplicates(rules.near_duplicate_similarity)
        self._runs = EvaluationRuns(rules.contamination_words)

    def judge(self, kind: str, split: str, records: Sequence[Record]) -> Screened:
        """Judge a batch.

        Args:
            kind: A key of `CONTRACTS`.
            split: One of `SPLIT_ORDER`.
            records: N records; where personal data are to be redacted they are changed in place.
        """
        texts = whole_texts(kind, records)
        personal = self._personal_data(kind, records, texts)
        if personal and self._rules.personal_data == "redact":
            texts = whole_texts(kind, records)
        words = split_words(texts)
        columns = describe(texts, words) | field_lengths(kind, records)
        verdict = _Verdict(len(records))
        self._judge_form(kind, records, columns, personal, verdict)
        self._judge_leaks(kind, split, records, words, verdict)
        self._judge_duplicates(kind, records, words, verdict)
        return Screened(columns, verdict.codes_N, verdict.details, personal, words)

    @staticmethod
    def columns(kind: str) -> Columns:
        """The descriptors of a kind of record, without values."""
        return describe([], split_words([])) | field_lengths(kind, [])

    def _personal_data(self, kind: str, records: Sequence[Record], texts: Sequence[str]) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        content = CONTRACTS[kind].content
        searched = [
            "\n".join([text, *_references(record)]) if _references(record) else text
            for text, record in zip(texts, records, strict=True)
        ]
        for index in personal_data.suspects(searched):
            record = records[index]
            own = [*(record[name] for name in content), *_references(record)]
            spans = [span for text in own for span in personal_data.find(text)]
            if spans:
                found[index] = sorted({label for label, *_ in spans})
                if self._rules.personal_data == "redact":
                    redact_record(kind, record)
        return found

    def _judge_form(
        self,
        kind: str,
        records: Sequence[Record],
        columns: Columns,
        personal: Mapping[int, list[str]],
        verdict: "_Verdict",
    ) -> None:
        rules = self._rules
        needed = [name for name in CONTRACTS[kind].content if name not in MAY_BE_EMPTY]
        for name in needed:
            blank = [index for index, record in enumerate(records) if not record[name] or record[name].isspace()]
            verdict.reject(blank, "empty", [name] * len(blank))
        if kind == "corpus":
            sizes = columns["characters"]
            verdict.reject_where(sizes < rules.min_characters, "too short", sizes, "characters")
            verdict.reject_where(sizes > rules.max_characters, "too long", sizes, "characters")
        for name, limit, reason in (
            ("control_character_share", rules.max_control_character_share, "control characters"),
            ("damaged_character_share", rules.max_damaged_character_share, "encoding damage"),
        ):
            verdict.reject_where(columns[name] > limit, reason, columns[name], "of the characters")
        if rules.personal_data == "reject":
            verdict.reject(list(personal), "personal data", [", ".join(kinds) for kinds in personal.values()])
        if kind == "preferences":
            equal = [index for index, record in enumerate(records) if record["chosen"] == record["rejected"]]
            verdict.reject(equal, "equal responses", ["chosen is rejected"] * len(equal))

    def _judge_leaks(self, kind: str, split: str, records: Sequence[Record], words: Words, verdict: "_Verdict") -> None:
        if split != "train":
            self._runs.add([record[name] for name in CONTRACTS[kind].content for record in records])
            return
        leaks = np.flatnonzero(self._runs.found(words)).tolist()
        detail = f"{self._rules.contamination_words} words in a row stand in valid or test data"
        verdict.reject(leaks, "contamination", [detail] * len(leaks))

    def _judge_duplicates(self, kind: str, records: Sequence[Record], words: Words, verdict: "_Verdict") -> None:
        content = CONTRACTS[kind].content
        sound = np.flatnonzero(verdict.codes_N == 0)
        seen = self._exact[kind].add(_together([records[index] for index in sound.tolist()], content))
        equal = sound[seen].tolist()
        verdict.reject(equal, "exact duplicate", ["but for case and white space"] * len(equal))
        if kind == "corpus":
            like = self._near.add([record["id"] for record in records], words, verdict.codes_N == 0)
            verdict.reject(list(like), "near duplicate", [f"of {name}" for name in like.values()])


def _references(record: Record) -> Sequence[str]:
    """Further accepted answers: no content that is learnt, but they go on with the record."""
    return record.get("references") or ()


def _together(records: Sequence[Record], names: Sequence[str]) -> list[str]:
    """The fields of each record as one text that no other fields give."""
    first, *others = names
    if not others:
        return [record[first] for record in records]
    return ["\x1f".join([record[name] for name in names]) for record in records]


class _Verdict:
    def __init__(self, count: int) -> None:
        self.codes_N = np.zeros(count, dtype=np.uint8)
        self.details: dict[int, str] = {}

    def reject(self, indices: Sequence[int], reason: str, details: Sequence[str]) -> None:
        for index, detail in zip(indices, details, strict=True):
            if not self.codes_N[index]:
                self.codes_N[index] = CODES[reason]
                self.details[index] = detail

    def reject_where(self, bad_N: NDArray[np.bool_], reason: str, values_N: NDArray[Any], unit: str) -> None:
        indices = np.flatnonzero(bad_N).tolist()
        self.reject(indices, reason, [f"{values_N[index]:.4g} {unit}" for index in indices])


def redact_record(kind: str, record: Record) -> None:
    """Put labels in the place of personal data in every text of the record."""
    for name in CONTRACTS[kind].content:
        record[name] = personal_data.redact(record[name], personal_data.find(record[name]))
    if "references" in record:
        record["references"] = [personal_data.redact(text, personal_data.find(text)) for text in record["references"]]

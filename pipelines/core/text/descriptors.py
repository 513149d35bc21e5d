"""Descriptors: what a text looks like in numbers, computed for a batch at once.

Shape suffixes: N texts, B bytes of the batch.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.core.text.records import CONTRACTS
from pipelines.core.text.words import Words, distinct_counts, encoded

Columns = dict[str, NDArray[Any]]

COUNTS: Final = ("characters", "bytes", "words", "lines", "longest_line_bytes")
SHARES: Final = (
    "distinct_word_share",
    "repeated_trigram_share",
    "control_character_share",
    "damaged_character_share",
    "non_ascii_share",
    "digit_share",
    "upper_case_share",
    "punctuation_share",
)

_NON_ASCII, _WORD, _DIGIT, _UPPER, _PUNCTUATION, _CONTROL, _INNER, _SPACE = range(8)


def _byte_classes() -> NDArray[np.uint8]:
    table = np.full(256, _PUNCTUATION, dtype=np.uint8)
    table[:32] = _CONTROL
    table[[9, 10, 13, 32]] = _SPACE
    table[127] = _CONTROL
    table[ord("a") : ord("z") + 1] = _WORD
    table[ord("A") : ord("Z") + 1] = _UPPER
    table[ord("0") : ord("9") + 1] = _DIGIT
    table[0x80:0xC0] = _INNER
    table[0xC0:] = _NON_ASCII
    return table


_CLASSES: Final = _byte_classes().tobytes()

_DAMAGE: Final = re.compile(
    "[\ufffd\x80-\x9f]"  # the replacement character; C1 controls, which are cp1252 read as Latin-1
    "|[ÃÂ][\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]"  # noqa: RUF001  two-byte UTF-8 read as Latin-1 or cp1252
    "|â€[\x80-\xbf‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]?"  # noqa: RUF001  general punctuation read so
)
"""Characters that arise when text is decoded with the wrong encoding."""


def damaged_characters(text: str) -> int:
    """How many characters show that the text was decoded with the wrong encoding."""
    return 0 if text.isascii() else sum(1 for _ in _DAMAGE.finditer(text))


def describe(texts: Sequence[str], words: Words) -> Columns:
    """The descriptors that every kind of record has.

    Args:
        texts: N texts.
        words: `split_words` of the same texts.

    Returns:
        Column name -> N values. Counts are whole numbers; shares lie in [0, 1] and are 0 for an empty text.
    """
    data, sizes_N = encoded(texts)
    classes = _class_counts(data, sizes_N + 1)
    characters_N = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    trigrams, offsets = words.ngrams(3)
    letters_N = sizes_N + 1 - sum(classes[other] for other in (_PUNCTUATION, _CONTROL, _INNER, _SPACE))
    damaged_N = np.zeros(len(texts), dtype=np.int64)
    if not data.isascii():
        damaged_N[:] = [damaged_characters(text) for text in texts]
    lines_N, longest_N = _lines(np.frombuffer(data, dtype=np.uint8), sizes_N)
    return {
        "characters": characters_N,
        "bytes": sizes_N,
        "words": words.counts,
        "lines": lines_N,
        "longest_line_bytes": longest_N,
        "mean_word_length": _share(letters_N, words.counts),
        "distinct_word_share": _share(distinct_counts(words.hashes_W, words.offsets_N1), words.counts),
        "repeated_trigram_share": _share(np.diff(offsets) - distinct_counts(trigrams, offsets), np.diff(offsets)),
        "control_character_share": _share(classes[_CONTROL], characters_N),
        "damaged_character_share": _share(damaged_N, characters_N),
        "non_ascii_share": _share(classes[_NON_ASCII], characters_N),
        "digit_share": _share(classes[_DIGIT], characters_N),
        "upper_case_share": _share(classes[_UPPER], characters_N),
        "punctuation_share": _share(classes[_PUNCTUATION], characters_N),
    }


def _share(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(part / np.maximum(whole, 1), dtype=np.float32)


def _class_counts(data: bytes, spans_N: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    """How many bytes of each class, that of lower-case letters aside, each span has."""
    starts_N = np.cumsum(spans_N) - spans_N
    classes = data.translate(_CLASSES)
    classes_B = np.frombuffer(classes, dtype=np.uint8)
    counts = dict.fromkeys(range(8), np.zeros(len(spans_N), dtype=np.int64))
    for wanted in {*counts} - {_WORD}:
        if wanted in classes:
            counts[wanted] = np.add.reduceat((classes_B == wanted).view(np.uint8), starts_N, dtype=np.int64)
    return counts


def _lines(bytes_B: NDArray[np.uint8], sizes_N: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lines, and bytes of the longest; every text is followed by a line end in `bytes_B`."""
    if not len(sizes_N):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    ends = np.flatnonzero(bytes_B == 10)
    last_N = np.searchsorted(ends, np.cumsum(sizes_N + 1) - 1)
    first_N = np.concatenate(([0], last_N[:-1] + 1))
    lengths = np.diff(ends, prepend=-1) - 1
    lines_N = np.where(sizes_N > 0, last_N - first_N + 1, 0)
    return lines_N, np.maximum.reduceat(lengths, first_N)


def whole_text(kind: str, record: Mapping[str, Any]) -> str:
    """All that a model reads of a record, as one text."""
    content = CONTRACTS[kind].content
    return (
        str(record[content[0]]) if len(content) == 1 else "\n\n".join(record[name] for name in content if record[name])
    )


def whole_texts(kind: str, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """`whole_text` of each record."""
    content = CONTRACTS[kind].content
    if len(content) == 1:
        return [record[content[0]] for record in records]
    return [whole_text(kind, record) for record in records]


def field_lengths(kind: str, records: Sequence[Mapping[str, Any]]) -> Columns:
    """Characters of each field with text, for kinds with more than one: `prompt_characters` and so on."""
    content = CONTRACTS[kind].content
    if len(content) == 1:
        return {}
    return {
        f"{name}_characters": np.fromiter((len(record[name]) for record in records), np.int64, len(records))
        for name in content
    }

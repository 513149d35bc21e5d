"""Words as 64-bit hashes, a batch of texts at a time: what duplicates, contamination and descriptors are made from.

A word is a run of ASCII letters and digits and of characters beyond ASCII, in lower case; general punctuation parts
words, and each character of the blocks that are written without spaces (East Asian, Thai, Lao, Myanmar, Khmer) is a
word. The hash of a word is made from its bytes, eight at a
time; that of an n-gram is a polynomial over the hashes of its words modulo 2**64, taken from one running sum over the
batch (Karp and Rabin 1987). No Python object is made for a word.

Shape suffixes: N texts, B bytes of the batch, W words of the batch, P pieces of eight bytes.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Offsets = NDArray[np.int64]

_BASE: Final = 0x9E3779B97F4A7C15
_STEP: Final = 0xD1342543DE82EF95


def mix(values: Hashes) -> Hashes:
    """Spread every bit over all bits (the finaliser of splitmix64, Steele et al. 2014)."""
    mixed = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


_IN_WORD: Final = bytes(byte >= 0x80 or chr(byte).isdigit() or chr(byte).islower() for byte in range(256))
_PIECE: Final = 8
_MASKS: Final = np.array([(1 << 8 * count) - 1 for count in range(_PIECE + 1)], dtype=np.uint64)
"""By how many bytes of a piece count."""
_SPACELESS: Final = ((0x0E00, 0x0EFF), (0x1000, 0x10BF), (0x1780, 0x17FF), (0x3000, 0x9FFF))
"""Thai and Lao; Myanmar, and Georgian capitals, which no lower-case text has; Khmer; East Asian. All of three bytes."""
_WORD: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u10bf\u1780-\u17ff\u3040-\u9fff]"
    "|[a-z0-9\u0080-\u0dff\u0f00-\u0fff\u10c0-\u177f\u1800-\u1fff\u2080-\u2fff\ua000-\U0010ffff]+"
)
_LONGEST_SHOWN: Final = 64


def spoken(text: str) -> list[str]:
    """The words of one text themselves."""
    return _WORD.findall(text.lower())


@cache
def _starts_alone() -> NDArray[np.bool_]:
    """For the first two bytes of a character, as one number: whether it is a word by itself."""
    alone = np.zeros(1 << 16, dtype=np.bool_)
    for first, last in _SPACELESS:
        for code in range(first, last + 1, 1 << 6):
            alone[int.from_bytes(chr(code).encode()[:2], "big")] = True
    return alone


@lru_cache(maxsize=8)
def _powers(base: int, count: int) -> tuple[Hashes, Hashes]:
    """The powers 0 to count - 1 of an odd base and of its inverse, modulo 2**64."""
    inverse = pow(base, -1, 2**64)
    both = []
    for factor in (base, inverse):
        steps = np.full(count, factor, dtype=np.uint64)
        steps[0] = 1
        both.append(np.cumprod(steps, dtype=np.uint64))
    return both[0], both[1]


def _enough(count: int) -> int:
    return max(1 << 12, 1 << (count - 1).bit_length()) if count else 1 << 12


@dataclass(frozen=True)
class Words:
    """The words of a batch of texts.

    Attributes:
        hashes_W: One hash a word, all texts after one another.
        offsets_N1: Text i has the words from offsets[i] up to offsets[i + 1].
        starts_W: Where in `data` each word starts.
        data: The lower-case UTF-8 of all texts, each followed by a line end.
    """

    hashes_W: Hashes
    offsets_N1: Offsets
    starts_W: Offsets
    data: bytes

    @property
    def counts(self) -> Offsets:
        """Words of each text."""
        return np.diff(self.offsets_N1)

    def text(self, word: int) -> str:
        """The word with index `word` itself."""
        start = int(self.starts_W[word])
        found = _WORD.match(self.data[start : start + _LONGEST_SHOWN].decode(errors="ignore"))
        return found[0] if found else ""

    def ngrams(self, length: int) -> tuple[Hashes, Offsets]:
        """Hashes of all runs of `length` words within one text, and their offsets by text."""
        words = len(self.hashes_W)
        counts = np.maximum(self.counts - length + 1, 0)
        offsets = _offsets(counts)
        if not offsets[-1]:
            return np.empty(0, dtype=np.uint64), offsets
        sums, inverses = self._sums
        runs = (sums[length:] - sums[:-length]) * inverses[: words + 1 - length]
        ends = np.repeat(self.offsets_N1[1:], self.counts)[: len(runs)]
        within = np.arange(length, words + 1) <= ends
        return mix(runs[within]), offsets

    @cached_property
    def _sums(self) -> tuple[Hashes, Hashes]:
        """The running sum of hash times power, and the inverses of the powers."""
        words = len(self.hashes_W)
        powers, inverses = _powers(_STEP, _enough(words + 1))
        sums = np.zeros(words + 1, dtype=np.uint64)
        np.cumsum(self.hashes_W * powers[:words], out=sums[1:])
        return sums, inverses


def _offsets(counts: NDArray[Any]) -> Offsets:
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def encoded(texts: Sequence[str]) -> tuple[bytes, Offsets]:
    """The UTF-8 of all texts, each followed by a line end, and the bytes of each without it."""
    whole = "\n".join([*texts, ""])
    data = whole.encode()
    sizes: Iterable[int] = map(len, texts)
    if len(data) > len(whole):
        sizes = (len(text) if text.isascii() else len(text.encode()) for text in texts)
    return data, np.fromiter(sizes, dtype=np.int64, count=len(texts))


def split_words(texts: Sequence[str]) -> Words:
    """The words of a batch of texts; a megabyte or so at a time is fastest."""
    data, sizes_N = encoded([text if text.isascii() else text.lower() for text in texts])
    data = data.lower()
    in_word_B = np.frombuffer(data.translate(_IN_WORD), dtype=np.bool_)
    cuts = np.empty(0, dtype=np.int64)
    if not data.isascii():
        in_word_B, cuts = _beyond_ascii(np.frombuffer(data, dtype=np.uint8), in_word_B.copy())
    changes_B = in_word_B.copy()
    np.not_equal(in_word_B[1:], in_word_B[:-1], out=changes_B[1:])
    bounds = np.flatnonzero(changes_B)  # a line end follows each text, so every run has an end
    starts_W, ends_W = bounds[::2], bounds[1::2]
    if len(cuts):
        runs = starts_W
        starts_W = np.union1d(runs, cuts)
        ends_W = ends_W[np.searchsorted(runs, starts_W, side="right") - 1]
        ends_W[:-1] = np.minimum(ends_W[:-1], starts_W[1:])
    offsets_N1 = np.searchsorted(starts_W, _offsets(sizes_N + 1)).astype(np.int64)
    return Words(_hashes(data, starts_W, ends_W - starts_W), offsets_N1, starts_W, data)


def _hashes(data: bytes, starts_W: Offsets, sizes_W: Offsets) -> Hashes:
    """Of the words that start there and have this many bytes."""
    pieces_B = np.ndarray(len(data), dtype="<u8", buffer=data + bytes(_PIECE), strides=(1,))
    hashes_W = mix(pieces_B[starts_W] & _MASKS[np.minimum(sizes_W, _PIECE)])
    long = np.flatnonzero(sizes_W > _PIECE)
    if len(long):
        counts = -(-sizes_W[long] // _PIECE)
        first = _offsets(counts)[:-1]
        places_P = np.arange(counts.sum()) - np.repeat(first, counts)
        left_P = np.repeat(sizes_W[long], counts) - places_P * _PIECE
        starts_P = np.repeat(starts_W[long], counts) + places_P * _PIECE
        mixed_P = mix(pieces_B[starts_P] & _MASKS[np.minimum(left_P, _PIECE)])
        powers, _ = _powers(_BASE, _enough(int(counts.max())))
        hashes_W[long] = mix(np.add.reduceat(mixed_P * powers[places_P], first))
    return hashes_W


def _beyond_ascii(bytes_B: NDArray[np.uint8], in_word_B: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], Offsets]:
    """What is in words, and where words start within a run of such bytes.

    General and CJK punctuation (U+2000-207F, U+3000-303F) parts words; a character of `_SPACELESS` is a word.
    """
    first_B, second_B = bytes_B[:-2], bytes_B[1:-1]
    punctuation = np.flatnonzero(
        ((first_B == 0xE2) & ((second_B == 0x80) | (second_B == 0x81))) | ((first_B == 0xE3) & (second_B == 0x80))
    )
    for shift in range(3):
        in_word_B[punctuation + shift] = False
    pairs_B = (first_B.astype(np.uint16) << np.uint16(8)) | second_B
    leads = np.flatnonzero(_starts_alone()[pairs_B] & in_word_B[:-2])
    after = leads + 3
    after = after[after < len(bytes_B)]
    return in_word_B, np.union1d(leads, after[in_word_B[after]])


def distinct_counts(hashes: Hashes, offsets_N1: Offsets) -> Offsets:
    """How many different hashes each text has (44 bits of each are compared)."""
    keys = np.sort(_keys_by_text(hashes, offsets_N1))
    first = np.ones(len(keys), dtype=np.bool_)
    first[1:] = keys[1:] != keys[:-1]
    return np.bincount((keys[first] >> np.uint64(44)).astype(np.int64), minlength=len(offsets_N1) - 1)


def _keys_by_text(hashes: Hashes, offsets_N1: Offsets) -> Hashes:
    texts = np.repeat(np.arange(len(offsets_N1) - 1, dtype=np.uint64), np.diff(offsets_N1))
    return (texts << np.uint64(44)) | (hashes >> np.uint64(20))

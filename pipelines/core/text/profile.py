"""The reference profile: how the accepted training data are distributed; drift is measured against it later."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.core.text.tally import Tally, quantiles
from pipelines.core.text.words import Hashes, Words

QUANTILES: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
BINS: Final = 20
TOP_WORDS: Final = 1000
MOST_TYPES: Final = 200_000


class WordCounts:
    """Counts words; of more than `MOST_TYPES` different ones the rarer half is forgotten."""

    def __init__(self) -> None:
        self._types: Hashes = np.empty(0, dtype=np.uint64)
        self._counts = np.empty(0, dtype=np.int64)
        self._words: dict[int, str] = {}
        self.total = 0

    def add(self, words: Words, wanted_N: NDArray[np.bool_]) -> None:
        """Count the words of the wanted texts."""
        hashes = words.hashes_W[np.repeat(wanted_N, words.counts)]
        types, counts = np.unique(hashes, return_counts=True)
        self._learn(words, np.setdiff1d(types, self._types, assume_unique=True))
        self._counts[np.searchsorted(self._types, types)] += counts
        self.total += len(hashes)
        if len(self._types) > MOST_TYPES:
            self._forget()

    def _learn(self, words: Words, fresh: Hashes) -> None:
        if not len(fresh):
            return
        places = np.flatnonzero(np.isin(words.hashes_W, fresh))
        types, first = np.unique(words.hashes_W[places], return_index=True)
        spelled = map(words.text, places[first].tolist())
        self._words |= dict(zip(types.tolist(), spelled, strict=True))
        slots = np.searchsorted(self._types, types)
        self._types = np.insert(self._types, slots, types)
        self._counts = np.insert(self._counts, slots, 0)

    def _ranked(self) -> list[tuple[int, str, int]]:
        """Negative count, word, hash: the most frequent first, of equally frequent ones the first by alphabet."""
        return sorted(
            (-count, self._words[word], word)
            for word, count in zip(self._types.tolist(), self._counts.tolist(), strict=True)
        )

    def _forget(self) -> None:
        kept = np.array(sorted(word for _, _, word in self._ranked()[: MOST_TYPES // 2]), dtype=np.uint64)
        self._counts = self._counts[np.isin(self._types, kept)]
        self._types = kept
        self._words = {word: self._words[word] for word in kept.tolist()}

    def top(self, count: int = TOP_WORDS) -> dict[str, float]:
        """The most frequent words with their shares of all words, the most frequent first."""
        return {word: rounded(-negative / self.total) for negative, word, _ in self._ranked()[:count]}


def distribution(tally: Tally) -> dict[str, Any]:
    """Moments, quantiles and a histogram whose bins hold about equal shares.

    Args:
        tally: At least one number.

    Returns:
        mean, std, min, max; quantiles by level; edges (ascending, distinct) and the share of the values in each bin:
        bin i holds edges[i] <= x < edges[i + 1], the last one its right edge too.
    """
    values, counts = tally.counted()
    total = counts.sum()
    mean = (values * counts).sum() / total
    edges = _edges(values, counts)
    found = np.histogram(values, edges, weights=counts)[0]
    levels = quantiles(values, counts, QUANTILES)
    return {
        "mean": rounded(mean),
        "std": rounded(np.sqrt((np.square(values - mean) * counts).sum() / total)),
        "min": rounded(values[0]),
        "max": rounded(values[-1]),
        "quantiles": {str(level): rounded(value) for level, value in zip(QUANTILES, levels, strict=True)},
        "edges": [float(edge) for edge in edges],
        "shares": [rounded(count / total) for count in found],
    }


def _edges(values: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    least, most = values[0], values[-1]
    if least == most:
        return np.array([least, least + 1])
    inner = {rounded(edge) for edge in quantiles(values, counts, np.linspace(0, 1, BINS + 1)[1:-1])}
    return np.array([least, *sorted(edge for edge in inner if least < edge < most), most])


def profile(records: int, tallies: Mapping[str, Tally], words: WordCounts) -> dict[str, Any]:
    """The profile of one kind of record.

    Args:
        records: How many there are.
        tallies: Of the values of each descriptor.
        words: Of all records.
    """
    return {
        "records": records,
        "words": words.total,
        "descriptors": {name: distribution(tally) for name, tally in tallies.items()} if records else {},
        "top_words": words.top(),
    }


def rounded(value: Any) -> float:
    """Six significant digits: readable, and the same on every machine."""
    return float(f"{float(value):.6g}")

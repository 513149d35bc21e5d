"""The reference profile: how the accepted training data are distributed; drift is measured against it later."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

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


def distribution(values_N: NDArray[Any]) -> dict[str, Any]:
    """Moments, quantiles and a histogram whose bins hold about equal shares.

    Args:
        values_N: At least one number.

    Returns:
        mean, std, min, max; quantiles by level; edges (ascending, distinct) and the share of the values in each bin:
        bin i holds edges[i] <= x < edges[i + 1], the last one its right edge too.
    """
    values = values_N.astype(np.float64)
    edges = _edges(values)
    counts = np.histogram(values, edges)[0]
    return {
        "mean": rounded(values.mean()),
        "std": rounded(values.std()),
        "min": rounded(values.min()),
        "max": rounded(values.max()),
        "quantiles": {
            str(level): rounded(value) for level, value in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)
        },
        "edges": [float(edge) for edge in edges],
        "shares": [rounded(count / len(values)) for count in counts],
    }


def _edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    least, most = values.min(), values.max()
    if least == most:
        return np.array([least, least + 1])
    inner = {rounded(edge) for edge in np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1])}
    return np.array([least, *sorted(edge for edge in inner if least < edge < most), most])


def profile(columns: dict[str, NDArray[Any]], words: WordCounts) -> dict[str, Any]:
    """The profile of one kind of record."""
    count = len(next(iter(columns.values()), ()))
    return {
        "records": count,
        "words": words.total,
        "descriptors": {name: distribution(values) for name, values in columns.items()} if count else {},
        "top_words": words.top(),
    }


def rounded(value: Any) -> float:
    """Six significant digits: readable, and the same on every machine."""
    return float(f"{float(value):.6g}")


def concatenated(parts: Sequence[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Join batches of columns."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}

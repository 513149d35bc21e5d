"""Values and how often each came: exact statistics of a stream in memory that grows with the different values alone."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_MOST_PENDING: Final = 1 << 16


class Tally:
    """Counts values; `values` ascend and are distinct, `counts` are theirs."""

    def __init__(self) -> None:
        self._values: NDArray[Any] = np.empty(0)
        self._counts = np.empty(0, dtype=np.int64)
        self._pending: list[NDArray[Any]] = []
        self._num_pending = 0

    def add(self, values: NDArray[Any]) -> None:
        """Count values; all must be of one type."""
        self._pending.append(values)
        self._num_pending += len(values)
        if self._num_pending > _MOST_PENDING:
            self._merge()

    def _merge(self) -> None:
        values, counts = np.unique(np.concatenate(self._pending), return_counts=True)
        self._pending, self._num_pending = [], 0
        merged = np.union1d(self._values, values) if len(self._values) else values
        every = np.zeros(len(merged), dtype=np.int64)
        every[np.searchsorted(merged, self._values)] += self._counts
        every[np.searchsorted(merged, values)] += counts
        self._values, self._counts = merged, every

    def counted(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The distinct values, ascending, and how often each came."""
        if self._pending:
            self._merge()
        return self._values.astype(np.float64), self._counts


def quantiles(values_V: NDArray[np.float64], counts_V: NDArray[np.int64], levels: Any) -> NDArray[np.float64]:
    """As `numpy.quantile` of the values each repeated as often as it came: between two of them by straight lines."""
    places = np.asarray(levels) * (counts_V.sum() - 1)
    lower = np.floor(places).astype(np.int64)
    ends = np.cumsum(counts_V)
    last = len(values_V) - 1
    before = values_V[np.searchsorted(ends, lower, side="right")]
    after = values_V[np.minimum(np.searchsorted(ends, lower + 1, side="right"), last)]
    part = places - lower
    # from the nearer one of the two, as numpy does: the same to the last bit
    found: NDArray[np.float64] = np.where(
        part < 0.5, before + (after - before) * part, after - (after - before) * (1 - part)
    )
    return found

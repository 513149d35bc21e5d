"""Permutation tests: exact at any sample size, whatever the statistic.

Under the hypothesis that reference and window are drawn alike, every way to deal the pooled documents into the two is
equally likely. The observed deal is therefore one of `permutations + 1` exchangeable ones, and the share of them with a
statistic at least as great is a p-value with P(p <= a) <= a for every a, with equality where a is a multiple of
1 / (permutations + 1) and there are no ties (Phipson and Smyth 2010, doi:10.2202/1544-6115.1585).

All statistics of a comparison are computed for the same deals, as matrix products over all deals at once.

Shape suffixes: N pooled documents (reference first), P deals (row 0 is the observed one).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Deals = NDArray[np.float32]
"""(P, N): 1 where a document is dealt to the window, 0 where to the reference."""

TIE: Final = 1e-6
"""Statistics that differ by less than this share of their scale are ties: sums in another order are not evidence."""


def deals(reference: int, window: int, permutations: int, rng: np.random.Generator) -> Deals:
    """The observed deal and `permutations` random ones.

    Args:
        reference: Documents of the reference.
        window: Documents of the window.
        permutations: Random deals.
        rng: Decides them.
    """
    observed_N = np.repeat(np.array([0, 1], dtype=np.uint8), [reference, window])
    random_PN = rng.permuted(np.broadcast_to(observed_N, (permutations, len(observed_N))), axis=1)
    return np.concatenate([observed_N[None], random_PN]).astype(np.float32)


def p_value(statistic_P: NDArray[np.floating]) -> float:
    """Share of the deals, the observed one included, whose statistic is at least the observed one."""
    scale = float(np.abs(statistic_P).max(initial=0.0))
    return float((statistic_P >= statistic_P[0] - TIE * scale).mean())


def excess(statistic_P: NDArray[np.floating]) -> float:
    """The observed statistic less the mean of the random deals: an effect size that does not grow with small samples.

    A plug-in divergence of two samples of one distribution is above 0, the more the smaller they are; taking off what
    chance alone gives leaves a figure that windows of different sizes can be compared by.
    """
    return float(statistic_P[0] - statistic_P[1:].mean()) if len(statistic_P) > 1 else 0.0


def chance(statistic_P: NDArray[np.floating], level: float) -> float:
    """The excess that chance alone passes with probability `level`."""
    if len(statistic_P) < 2:
        return 0.0
    return float(np.quantile(statistic_P[1:], 1 - level) - statistic_P[1:].mean())

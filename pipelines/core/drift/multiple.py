"""Many tests at once: Bonferroni for the alarm, Benjamini-Hochberg for the report."""

from collections.abc import Sequence

import numpy as np


def bonferroni(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: one at most a is a false alarm of the whole family with probability at most a."""
    return [min(1.0, p * len(p_values)) for p in p_values]


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """q-values: of the tests with q <= a, an expected share of at most a is false.

    Source: Benjamini and Hochberg 1995, doi:10.1111/j.2517-6161.1995.tb02031.x; valid for independent and for
    positively dependent tests.
    """
    if not p_values:
        return []
    p_N = np.asarray(p_values, dtype=float)
    order_N = np.argsort(p_N, kind="stable")
    raw_N = p_N[order_N] * len(p_N) / np.arange(1, len(p_N) + 1)
    smallest_N = np.minimum.accumulate(raw_N[::-1])[::-1]
    adjusted_N = np.empty(len(p_N))
    adjusted_N[order_N] = np.minimum(smallest_N, 1.0)
    return [float(value) for value in adjusted_N]

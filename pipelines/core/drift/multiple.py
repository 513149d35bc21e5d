"""Many tests at once: Bonferroni for the alarm, Benjamini-Hochberg for the report."""

from collections.abc import Sequence

from scipy.stats import false_discovery_control


def bonferroni(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: one at most a is a false alarm of the whole family with probability at most a."""
    return [min(1.0, p * len(p_values)) for p in p_values]


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """q-values: of the tests with q <= a, an expected share of at most a is false.

    Source: Benjamini and Hochberg 1995, doi:10.1111/j.2517-6161.1995.tb02031.x; valid for independent and for
    positively dependent tests.
    """
    return [float(value) for value in false_discovery_control(p_values)] if p_values else []

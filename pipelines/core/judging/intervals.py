"""Confidence intervals that respect what belongs together."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

SAMPLES = 2000
"""Bootstrap samples: the ends of a 95 % interval then move by about 2 % of its width from seed to seed."""
DRAWN_AT_ONCE = 1_000_000
"""Clusters in a block of bootstrap samples, which bounds memory to some megabytes; the draws do not depend on it."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean and where it may lie."""

    mean: float
    low: float
    high: float


def ratio_bootstrap(
    above: Sequence[float],
    below: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    seed: int,
    tail: float,
    shift: float = 0.0,
) -> Interval:
    """Percentile bounds of sum of `above` over sum of `below`, plus `shift`, drawn by whole clusters with replacement.

    Values of one cluster (the pairs of one prompt, the samples of one prompt) depend on each other; drawing them one
    by one gives intervals that are too narrow. Source: Davison and Hinkley 1997, Bootstrap Methods, section 3.8.

    Args:
        above: One for each item.
        below: One for each item; ones give the mean of `above`.
        clusters: To which each item belongs.
        seed: Of the draws.
        tail: Share of the draws that lies beyond each bound: 0.025 for both ends of a 95 % interval, 0.05 for one bound
            that holds with 95 %.
        shift: Added to the ratio; -1 makes a relative change of it.

    Raises:
        ValueError: without values, when the lengths differ, or with fewer than two clusters.
    """
    if len(above) != len(clusters):
        raise ValueError(f"{len(above)} values but {len(clusters)} clusters")
    index = {cluster: number for number, cluster in enumerate(dict.fromkeys(clusters))}
    if len(index) < 2:
        raise ValueError(f"an interval needs at least 2 clusters, there are {len(index)}")
    belongs = np.array([index[cluster] for cluster in clusters])
    above_C, below_C = (np.bincount(belongs, weights=np.asarray(side, dtype=float)) for side in (above, below))
    draw = np.random.default_rng(seed)
    block = max(1, DRAWN_AT_ONCE // len(index))
    ratios = []
    for start in range(0, SAMPLES, block):
        drawn_SC = draw.integers(len(index), size=(min(block, SAMPLES - start), len(index)))
        ratios.append(above_C[drawn_SC].sum(axis=1) / below_C[drawn_SC].sum(axis=1) + shift)
    low, high = np.quantile(np.concatenate(ratios), [tail, 1 - tail])
    return Interval(mean=float(above_C.sum() / below_C.sum()) + shift, low=float(low), high=float(high))


def cluster_bootstrap(
    values: Sequence[float], clusters: Sequence[Hashable], *, seed: int, confidence: float = 0.95
) -> Interval:
    """Interval of the mean of `values`, which lies between both ends with `confidence`; drawn as in `ratio_bootstrap`.

    Raises:
        ValueError: as in `ratio_bootstrap`.
    """
    return ratio_bootstrap(values, [1.0] * len(values), clusters, seed=seed, tail=(1 - confidence) / 2)


def paired_bootstrap(
    before: Sequence[float],
    after: Sequence[float],
    *,
    seed: int,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
) -> Interval:
    """Interval of the mean of `after - before`, item by item; an item is its own cluster unless `clusters` are given.

    Raises:
        ValueError: as in `cluster_bootstrap`.
    """
    if len(before) != len(after):
        raise ValueError(f"{len(before)} values before but {len(after)} after")
    gains = [late - early for early, late in zip(before, after, strict=True)]
    return cluster_bootstrap(gains, clusters or range(len(gains)), seed=seed, confidence=confidence)

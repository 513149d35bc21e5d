"""Champion and challenger on the same examples: paired bootstrap of a difference of means and of a ratio of sums."""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.core.judging.intervals import SAMPLES, Interval

BLOCK = 100
"""Bootstrap samples drawn at once: few enough that an exam of 10,000 texts takes some megabytes."""


def difference(
    champion: Sequence[float],
    challenger: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    seed: int,
    confidence: float,
) -> Interval:
    """Mean of challenger less champion, with one-sided bounds.

    Examples of one cluster (questions about one text) are drawn together. `low` is below the true difference with
    probability `confidence`, and `high` above it with the same: two statements of one side each.

    Raises:
        ValueError: without examples, when the lengths differ, or with fewer than two clusters.
    """
    gains = [late - early for early, late in zip(champion, challenger, strict=True)]
    return _bootstrap(np.asarray(gains), np.ones(len(gains)), clusters, seed=seed, confidence=confidence, shift=0.0)


def relative_change(
    champion: Sequence[float], challenger: Sequence[float], *, seed: int, confidence: float
) -> Interval:
    """Sum of challenger over sum of champion, less one, each example its own cluster; bounds as in `difference`.

    With negative log-likelihoods of the same documents this is the relative change of bits per byte: the bytes cancel.

    Raises:
        ValueError: as in `difference`; also when the champion's values add up to nothing.
    """
    if len(champion) != len(challenger):
        raise ValueError(f"{len(champion)} values of the champion but {len(challenger)} of the challenger")
    if min(champion, default=0.0) <= 0:
        raise ValueError("a value of the champion is not positive, so no ratio to it exists")
    return _bootstrap(
        np.asarray(challenger),
        np.asarray(champion),
        range(len(champion)),
        seed=seed,
        confidence=confidence,
        shift=-1.0,
    )


def _bootstrap(
    above: NDArray[np.float64],
    below: NDArray[np.float64],
    clusters: Sequence[Hashable],
    *,
    seed: int,
    confidence: float,
    shift: float,
) -> Interval:
    if len(above) != len(clusters):
        raise ValueError(f"{len(above)} values but {len(clusters)} clusters")
    index = {cluster: number for number, cluster in enumerate(dict.fromkeys(clusters))}
    if len(index) < 2:
        raise ValueError(f"an interval needs at least 2 clusters, there are {len(index)}")
    belongs = np.array([index[cluster] for cluster in clusters])
    above_C, below_C = np.bincount(belongs, weights=above), np.bincount(belongs, weights=below)
    draw = np.random.default_rng(seed)
    ratios = []
    for start in range(0, SAMPLES, BLOCK):
        drawn_SC = draw.integers(len(index), size=(min(BLOCK, SAMPLES - start), len(index)))
        ratios.append(above_C[drawn_SC].sum(axis=1) / below_C[drawn_SC].sum(axis=1) + shift)
    low, high = np.quantile(np.concatenate(ratios), [1 - confidence, confidence])
    return Interval(mean=float(above_C.sum() / below_C.sum()) + shift, low=float(low), high=float(high))

"""Champion and challenger on the same examples: paired bootstrap of a difference of means and of a ratio of sums."""

from collections.abc import Hashable, Sequence

from pipelines.core.judging.intervals import Interval, ratio_bootstrap


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
    return ratio_bootstrap(gains, [1.0] * len(gains), clusters, seed=seed, tail=1 - confidence)


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
    return ratio_bootstrap(challenger, champion, range(len(champion)), seed=seed, tail=1 - confidence, shift=-1.0)

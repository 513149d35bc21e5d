"""Which of two models people (or a stand-in for them) would prefer, prompt by prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.core.judging.intervals import cluster_bootstrap


@dataclass(frozen=True, kw_only=True)
class WinRate:
    """How often ours is preferred to theirs; a tie counts half for each."""

    win_rate: float
    low: float
    """Lower end of the 95 % interval."""
    high: float
    wins: int
    ties: int
    losses: int
    mean_ours: float
    mean_theirs: float


def win_rate(ours: Sequence[float], theirs: Sequence[float], *, seed: int) -> WinRate:
    """Compare two scores of each prompt.

    Raises:
        ValueError: when the lengths differ, or with fewer than two prompts.
    """
    points = [1.0 if mine > other else 0.5 if mine == other else 0.0 for mine, other in zip(ours, theirs, strict=True)]
    interval = cluster_bootstrap(points, range(len(points)), seed=seed)
    return WinRate(
        win_rate=interval.mean,
        low=interval.low,
        high=interval.high,
        wins=points.count(1.0),
        ties=points.count(0.5),
        losses=points.count(0.0),
        mean_ours=sum(ours) / len(ours),
        mean_theirs=sum(theirs) / len(theirs),
    )

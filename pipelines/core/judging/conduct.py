"""How a version answers real requests, and whether that is worse than how the one before it did."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

TESTS = 3
"""Errors, poor answers, slowness."""
SLOW_RANK = 0.9
LOOP_SHARE, LOOP_WORDS = 0.8, 20
"""An answer of this many words of which this many trigrams were said before is a loop."""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One request."""

    failed: bool
    """The server is at fault, not the client."""
    seconds: float
    words: float
    repeated_trigram_share: float

    @property
    def poor(self) -> bool:
        """Nothing was said, or the same again and again."""
        looping = self.words >= LOOP_WORDS and self.repeated_trigram_share > LOOP_SHARE
        return not self.failed and (self.words == 0 or looping)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """From when on it is worse: by how much, and how clearly."""

    error_share: float
    poor_share: float
    slowdown: float
    slow_seconds: float
    chance: float
    """One-sided p-value (Fisher's exact test; without a before the binomial one) at which a difference is no chance."""


def complaint(now: Sequence[Answered], before: Sequence[Answered], limits: Limits) -> str:
    """Why the version that answered `now` is worse than the one that answered `before`; empty when it is not.

    A share must be beyond its limit and beyond what chance gives. Without a before, errors and poor answers are held
    against the limits alone, and slowness against nothing.
    """
    if not now:
        return ""
    failed, failed_before = [one.failed for one in now], [one.failed for one in before]
    if _share(failed) > limits.error_share and _is_more(failed, failed_before, limits.error_share, limits.chance):
        return f"{_written(failed)} requests failed, before it {_written(failed_before)}"
    poor, poor_before = [one.poor for one in now], [one.poor for one in before]
    worst = limits.poor_share + _share(poor_before)
    if _share(poor) > worst and _is_more(poor, poor_before, limits.poor_share, limits.chance):
        return f"{_written(poor)} answers are empty or loops, before it {_written(poor_before)}"
    slow, usual = _slow(now), _slow(before)
    bound = max(limits.slow_seconds, limits.slowdown * usual)
    late, late_before = [one.seconds > bound for one in now], [one.seconds > bound for one in before]
    if before and slow > bound and _is_more(late, late_before, 0.0, limits.chance):
        return f"one request in ten takes {slow:.1f} s or more, before it {usual:.1f} s"
    return ""


def _share(marks: Sequence[bool]) -> float:
    return sum(marks) / max(1, len(marks))


def _written(marks: Sequence[bool]) -> str:
    return f"{_share(marks):.0%} of {len(marks)}"


def _is_more(now: Sequence[bool], before: Sequence[bool], limit: float, chance: float) -> bool:
    """Whether more of `now` are True than of `before`, or than `limit` where there is no before."""
    import numpy as np
    from scipy.stats import binomtest, fisher_exact

    hits, others = sum(now), len(now) - sum(now)
    if not before:
        return bool(binomtest(hits, len(now), limit, alternative="greater").pvalue <= chance)
    table = np.array([[hits, others], [sum(before), len(before) - sum(before)]])
    return bool(fisher_exact(table, alternative="greater").pvalue <= chance)


def _slow(answered: Sequence[Answered]) -> float:
    seconds = sorted(one.seconds for one in answered)
    return seconds[ceil(SLOW_RANK * len(seconds)) - 1] if seconds else 0.0

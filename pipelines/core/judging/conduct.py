"""How a version answers real requests, and whether that is worse than how the one before it did."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

SLOW_RANK = 0.9
LOOP_SHARE, LOOP_WORDS = 0.8, 20
"""An answer of so many words of which so many trigrams were said before is a loop."""


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
    """From when on it is worse."""

    error_share: float
    poor_share: float
    slowdown: float
    slow_seconds: float


def complaint(now: Sequence[Answered], before: Sequence[Answered], limits: Limits) -> str:
    """Why the version that answered `now` is worse than the one that answered `before`; empty when it is not.

    Without a before, errors and poor answers are held against the limits alone, and slowness against nothing.
    """
    if (errors := _errors(now)) > limits.error_share and errors > _errors(before):
        return f"{errors:.0%} of {len(now)} requests failed, before it {_errors(before):.0%} of {len(before)}"
    if (poor := _poor(now)) > limits.poor_share + _poor(before):
        return f"{poor:.0%} of {len(now)} answers are empty or loops, before it {_poor(before):.0%} of {len(before)}"
    slow, usual = _slow(now), _slow(before)
    if before and slow > limits.slow_seconds and slow > limits.slowdown * usual:
        return f"one request in ten takes {slow:.1f} s or more, before it {usual:.1f} s"
    return ""


def _errors(answered: Sequence[Answered]) -> float:
    return sum(one.failed for one in answered) / max(1, len(answered))


def _poor(answered: Sequence[Answered]) -> float:
    return sum(one.poor for one in answered) / max(1, len(answered))


def _slow(answered: Sequence[Answered]) -> float:
    seconds = sorted(one.seconds for one in answered)
    return seconds[ceil(SLOW_RANK * len(seconds)) - 1] if seconds else 0.0

"""Which of several compressed models is worth having, and which one is taken."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A compressed model as it was measured."""

    name: str
    bytes: int
    """Of the weights on disk."""
    bits_per_byte: float
    """On held-out text; lower is better."""
    task_scores: Mapping[str, float]
    """By task, on held-out instructions, in [0, 1]; higher is better."""

    @property
    def task_score(self) -> float:
        """Mean over the tasks."""
        return sum(self.task_scores.values()) / len(self.task_scores)

    @property
    def costs(self) -> tuple[float, float, float]:
        """What one would like to be small."""
        return self.bytes, self.bits_per_byte, -self.task_score


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much worse than the baseline a candidate may be."""

    max_bytes_ratio: float
    """Bytes over the baseline's."""
    max_bits_per_byte_increase: float
    """Relative."""
    max_task_score_drop: float
    """Absolute, of the mean over the tasks."""
    max_worst_task_drop: float
    """Absolute, of any one task: what a mean would hide."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The candidate that is taken."""

    name: str
    rule_met: bool
    """False: no candidate lay within the limits, and a faithful one was taken instead."""


def on_front(candidates: Sequence[Candidate]) -> list[bool]:
    """For each candidate: no other one is at least as good in all three respects and better in one."""
    return [not any(_dominates(other, one) for other in candidates) for one in candidates]


def _dominates(one: Candidate, other: Candidate) -> bool:
    pairs = list(zip(one.costs, other.costs, strict=True))
    return all(left <= right for left, right in pairs) and one.costs != other.costs


def broken_limits(candidate: Candidate, baseline: Candidate, limits: Limits) -> list[str]:
    """Names of the limits that the candidate does not keep; a figure that is not a number keeps none."""
    drops = [score - candidate.task_scores[task] for task, score in baseline.task_scores.items()]
    kept = {
        "max_bytes_ratio": candidate.bytes <= limits.max_bytes_ratio * baseline.bytes,
        "max_bits_per_byte_increase": candidate.bits_per_byte
        <= (1 + limits.max_bits_per_byte_increase) * baseline.bits_per_byte,
        "max_task_score_drop": candidate.task_score >= baseline.task_score - limits.max_task_score_drop,
        "max_worst_task_drop": all(drop <= limits.max_worst_task_drop for drop in drops),
    }
    return [name for name, is_kept in kept.items() if not is_kept]


def choose(candidates: Sequence[Candidate], limits: Limits) -> Choice:
    """The smallest candidate within the limits; among equals the one with fewer bits per byte.

    The first candidate is the baseline. Where none fits, the smallest of those that break only the limit on bytes is
    taken, so that quality is never traded away unasked; the baseline itself breaks no other.
    """
    baseline = candidates[0]
    broken = [broken_limits(candidate, baseline, limits) for candidate in candidates]
    fitting = [one for one, names in zip(candidates, broken, strict=True) if not names]
    faithful = [one for one, names in zip(candidates, broken, strict=True) if names in ([], ["max_bytes_ratio"])]
    pool = fitting or faithful or [baseline]
    return Choice(name=min(pool, key=lambda one: one.costs).name, rule_met=bool(fitting))

"""A limit, the figure it is held against, and what came of it: what gates are made of.

What is missing or not a finite number never passes.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipelines.params import RewardVerdict

Group = Literal["lineage", "quality", "service"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One limit, the figure it was held against, and what came of it."""

    group: Group
    name: str
    figure: float | str | None
    """None where there was nothing to measure, which is a fail."""
    limit: str
    passed: bool
    words: str


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """A closed range, either end open when None."""

    low: float | None = None
    high: float | None = None

    def hold(self, value: float) -> bool:
        """True when `value` lies within."""
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        parts = [("at least", self.low), ("at most", self.high)]
        return " and ".join(f"{word} {bound:g}" for word, bound in parts if bound is not None)


def limit(group: Group, name: str, value: Any, what: str, bounds: Bounds) -> Rule:
    """Hold a figure against `bounds`; `what` says in words what it is."""
    figure = number(value)
    passed = figure is not None and bounds.hold(figure)
    return Rule(
        group=group,
        name=name,
        figure=figure,
        limit=str(bounds),
        passed=passed,
        words=f"{what}: {said(value)} ({bounds}{'' if passed else ': not met'})",
    )


def rules_of_reward_model(found: Mapping[str, Any], settings: RewardVerdict) -> Iterable[Rule]:
    """Accuracy at the lower end of its interval, gain over preferring the longer response, calibration.

    Args:
        found: The report of the stage reward_modeling.
        settings: The limits.
    """
    low, error = found.get("held_out_accuracy_low"), found.get("expected_calibration_error")
    accuracy, by_length = number(found.get("held_out_accuracy")), number(found.get("length_baseline_accuracy"))
    gain = None if accuracy is None or by_length is None else accuracy - by_length
    about = "reward model: "
    yield limit(
        "quality",
        "reward model, accuracy",
        low,
        f"{about}lower end of its accuracy on held-out pairs",
        Bounds(low=settings.min_accuracy),
    )
    yield limit(
        "quality",
        "reward model, more than length",
        gain,
        f"{about}accuracy less that of preferring the longer response",
        Bounds(low=settings.min_gain_over_length),
    )
    yield limit(
        "quality",
        "reward model, calibration",
        error,
        f"{about}expected calibration error",
        Bounds(high=settings.max_calibration_error),
    )


def number(value: Any) -> float | None:
    """`value` as a float; None for everything that is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def said(value: Any) -> str:
    """A figure in words, also where there is none."""
    found = number(value)
    if found is not None:
        return f"{found:,.0f}" if found.is_integer() and abs(found) < 1e12 else f"{found:.4g}"
    return "missing" if value is None else f"{value!r}, which is no finite number"

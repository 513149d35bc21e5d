"""What the rules share."""

import math

from pipelines.core.judging.diagnosis import Evidence, Level


def upper(value: float, suspect: float, fault: float) -> Level:
    """The level of a figure that should be low."""
    return "sound" if value <= suspect else "suspect" if value <= fault else "at fault"  # NaN: at fault


def lower(value: float, suspect: float, fault: float) -> Level:
    """The level of a figure that should be high."""
    return "sound" if value >= suspect else "suspect" if value >= fault else "at fault"


def column(seen: Evidence, name: str) -> list[float]:
    """A figure of every iteration that has it; NaN alone where one of them is not a finite number."""
    values = [row[name] for row in seen.curve if name in row]
    return values if all(map(math.isfinite, values)) else [math.nan]

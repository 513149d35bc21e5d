"""What the rules share."""

from pipelines.core.judging.diagnosis import Evidence, Level


def upper(value: float, suspect: float, fault: float) -> Level:
    """The level of a figure that should be low."""
    return "at fault" if value > fault else "suspect" if value > suspect else "sound"


def lower(value: float, suspect: float, fault: float) -> Level:
    """The level of a figure that should be high."""
    return "at fault" if value < fault else "suspect" if value < suspect else "sound"


def column(seen: Evidence, name: str) -> list[float]:
    """A figure of every iteration that has it."""
    return [row[name] for row in seen.curve if name in row]

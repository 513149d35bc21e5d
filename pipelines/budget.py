"""A budget of pretraining as params.yaml writes it: time, operations, or tokens for each parameter."""

import re
from dataclasses import dataclass

FORMS = 'null, "10 minutes", "1e15 FLOPs" or "20 tokens/parameter"'
"""What may be written; hours and other units of time too."""

SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
LEAST = 1e-6
MOST = {"seconds": 1e12, "FLOP/s": 1e24, "FLOPs": 1e30, "tokens/parameter": 1e9}
"""Amounts beyond these are slips of the pen, of which a model's size or a number of steps would be no number."""
SCALES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}

_NUMBER = r"(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)"
_TIME = re.compile(rf"{_NUMBER} (second|minute|hour|day)s?(?: at {_NUMBER} ([kMGTPE]?)FLOP/s)?")
_FLOPS = re.compile(rf"{_NUMBER} FLOPs?")
_RATIO = re.compile(rf"{_NUMBER} tokens/parameter")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What pretraining may cost. Exactly one of `seconds`, `flops` and `tokens_per_parameter` is set."""

    seconds: float | None = None
    flops_per_second: float | None = None
    """The speed at which `seconds` are counted; None: it has not been measured and written down yet."""
    flops: float | None = None
    tokens_per_parameter: float | None = None

    @property
    def compute(self) -> float | None:
        """FLOPs; None for a number of tokens, and for a time without a speed."""
        if self.seconds is not None and self.flops_per_second is not None:
            return self.seconds * self.flops_per_second
        return self.flops

    @property
    def is_settled(self) -> bool:
        """True when nothing but the text is needed to say what it pays for; a time needs a speed."""
        return self.seconds is None or self.flops_per_second is not None


def parse(text: object) -> Budget:
    """Read one of `FORMS`, or a time with a speed: "10 minutes at 125 GFLOP/s".

    Raises:
        ValueError: naming what may be written, or between which amounts.
    """
    words = " ".join(text.split()) if isinstance(text, str) else ""
    if found := _TIME.fullmatch(words):
        seconds, speed = _some(float(found[1]) * SECONDS[found[2]], "seconds", text), None
        if found[3]:
            speed = _some(float(found[3]) * SCALES[found[4]], "FLOP/s", text)
            _some(seconds * speed, "FLOPs", text)
        return Budget(seconds=seconds, flops_per_second=speed)
    if found := _FLOPS.fullmatch(words):
        return Budget(flops=_some(float(found[1]), "FLOPs", text))
    if found := _RATIO.fullmatch(words):
        return Budget(tokens_per_parameter=_some(float(found[1]), "tokens/parameter", text))
    raise ValueError(f"pretraining.budget is {text!r}, which is no budget: write {FORMS} in params.yaml")


def at_speed(text: str, flops_per_second: float) -> str:
    """A budget of time with the speed at which it is counted; one that it had is replaced."""
    time = " ".join(text.split()).partition(" at ")[0]
    return f"{time} at {flops_per_second / SCALES['G']:.3g} GFLOP/s"


def _some(amount: float, unit: str, text: object) -> float:
    if not LEAST <= amount <= MOST[unit]:
        raise ValueError(
            f"pretraining.budget is {text!r}, which is {amount:g} {unit}: give between {LEAST:g} and {MOST[unit]:g}"
            " in params.yaml"
        )
    return amount

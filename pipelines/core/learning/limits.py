"""Where policy optimisation must not go."""

import math
from typing import Literal

from pipelines.params import Ppo

Stop = Literal["kl", "length collapse", "length explosion", "not finite"]
"""Why it ended before its last iteration."""


def passed(settings: Ppo, *, kl: float, length: float, first_length: float, reward: float) -> Stop | None:
    """The limit that a policy has passed, by what was measured on its responses; None: it is within all of them.

    Args:
        settings: With the limits.
        kl: Mean divergence of a response from the reference, nats.
        length: Mean tokens of a response.
        first_length: The same of the first rollout, before any update.
        reward: Mean of a response.
    """
    if not math.isfinite(kl + length + reward):
        return "not finite"
    if kl > settings.kl_limit:
        return "kl"
    if length < settings.length_collapse * first_length:
        return "length collapse"
    if length > settings.length_explosion * first_length:
        return "length explosion"
    return None

"""How far along the KL axis is the reward worth following?

A reward model stands for what people want only near the responses it learnt from. The further a policy moves from the
instruction model, the more of the reward it gains is the reward model's own error: past some divergence the reward
rises and what was meant falls. A second reward model, trained on other pairs, rises less. It has the errors that come
from where both learnt, too, so its own turn comes late or never: the divergence itself has to have a price. The best
known of these errors is length, which people and reward models both favour (Singhal et al. 2023, arXiv:2310.03716):
a policy whose responses have changed in length by more than a limit is not a candidate.

Source: Gao, Schulman and Hilton 2022, Scaling laws for reward model overoptimization, arXiv:2210.10760.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEWEST_POINTS = 3
"""A curve of two parameters through fewer says nothing."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A policy on the KL axis, measured on the held-out prompts; the first one is the instruction model."""

    updates: int
    """Iterations that it has learnt from."""
    kl: float
    """Mean divergence of a response from the instruction model, nats."""
    reward: float
    """What it was optimised for, mean."""
    held_out_reward: float
    """The same with the reward model that never taught it."""
    gold: float | None
    """Mean gold score, where there is one."""
    length: float
    """Mean tokens of a response."""
    finished: float
    """Share of the responses with an end token."""


@dataclass(frozen=True, kw_only=True)
class Law:
    """Gain over the instruction model as a function of d, the root of the KL divergence: d (alpha - beta log d)."""

    alpha: float
    beta: float

    def gain(self, kl: float) -> float:
        """At this many nats; 0 at 0."""
        return math.sqrt(kl) * (self.alpha - self.beta * math.log(kl) / 2) if kl > 0 else 0.0

    @property
    def turn(self) -> float | None:
        """Nats from which on the gain falls, (exp(alpha / beta - 1))^2; None where it never does."""
        if self.beta <= 0:
            return None
        exponent = 2 * (self.alpha / self.beta - 1)
        return math.exp(exponent) if exponent < math.log(1e6) else None


def law(kls: Sequence[float], gains: Sequence[float]) -> Law | None:
    """The law that fits gains over the instruction model best, by least squares; None with too few points.

    The form is the one for reinforcement learning; the gain is linear in alpha and beta.
    Source: Gao et al. 2022, arXiv:2210.10760, equation 2.
    """
    known = [(kl, gain) for kl, gain in zip(kls, gains, strict=True) if kl > 0]
    if len(known) < FEWEST_POINTS:
        return None
    kl_P, gain_P = np.array(known, dtype=float).T
    d_P = np.sqrt(kl_P)
    (alpha, beta), _, rank, _ = np.linalg.lstsq(np.stack([d_P, -d_P * np.log(d_P)], axis=1), gain_P)
    return Law(alpha=float(alpha), beta=float(beta)) if rank == 2 else None


def worth(point: Point, start: Point, *, spread: float, held_out_spread: float, kl_price: float) -> float:
    """The gain over the instruction model by both reward models' mean, less the price of the KL divergence.

    Gains are in deviations over the instruction model's responses, so that the reward models' scales do not count. The
    mean of several reward models is closer to gold than each (Coste et al. 2023, arXiv:2310.02743); what they get
    wrong together grows with the divergence, and no reward model shows it: that is what the price stands for.
    """
    taught = (point.reward - start.reward) / spread
    held_out = (point.held_out_reward - start.held_out_reward) / held_out_spread
    return (taught + held_out) / 2 - kl_price * point.kl


def keeps_length(point: Point, start: Point, limit: float | None) -> bool:
    """Whether the mean length differs from the instruction model's by at most this share of it; None: any may."""
    return limit is None or abs(point.length - start.length) <= limit * start.length


def before_the_turn(
    points: Sequence[Point],
    *,
    spread: float,
    held_out_spread: float,
    kl_price: float,
    max_length_change: float | None,
) -> int:
    """Index of the point with the largest `worth` of those that keep their length; of equal ones the first.

    Args:
        points: The instruction model first, then the policies.
        spread: Deviation of the rewards over the instruction model's responses.
        held_out_spread: The same of the held-out rewards.
        kl_price: What a nat costs, in those deviations.
        max_length_change: Limit for `keeps_length`.
    """
    start = points[0]
    worths = {
        place: worth(point, start, spread=spread, held_out_spread=held_out_spread, kl_price=kl_price)
        for place, point in enumerate(points)
        if keeps_length(point, start, max_length_change)
    }
    return max(worths, key=worths.__getitem__)

"""Simulated annotators: they see the gold score through individual noise, so the best reachable accuracy is known.

A Thurstone model (Thurstone 1927, case V): an annotator ranks by gold score plus Gaussian noise of their own size.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

FAILED_BELOW = 0.15
"""Gold score below which an annotator marks a response as failed ('F') where `failed_below` is not given."""


@dataclass(frozen=True)
class Annotator:
    """Somebody who ranks responses.

    Attributes:
        name: For example "simulated-3": people are never called so by chance.
        noise: Standard deviation of their noise, in units of the gold score.
        tie_margin: Perceived scores nearer than this are called a tie.
        failed_below: Gold score below which a response gets 'F' and no rank.
    """

    name: str
    noise: float
    tie_margin: float = 0.0
    failed_below: float = FAILED_BELOW


def annotators(num: int, seed: int, noise: float, tie_margin: float = 0.02) -> tuple[Annotator, ...]:
    """Hire annotators whose noise varies between half and one and a half times the given one.

    Args:
        num: How many.
        seed: Decides their individual noise.
        noise: Mean standard deviation, in units of the gold score.
        tie_margin: As in `Annotator`.

    Raises:
        ValueError: `num` is less than 1, or `noise` or `tie_margin` is negative.
    """
    if num < 1:
        raise ValueError(f"num is {num}: at least one annotator is needed")
    if noise < 0 or tie_margin < 0:
        raise ValueError(f"noise is {noise} and tie_margin is {tie_margin}: neither may be negative")
    rng = random.Random(f"annotators:{seed}")
    return tuple(Annotator(f"simulated-{i + 1}", noise * (0.5 + rng.random()), tie_margin) for i in range(num))


def rank(annotator: Annotator, scores: Sequence[float], rng: random.Random) -> list[int | None]:
    """Rank responses by what the annotator perceives.

    Args:
        annotator: Who ranks.
        scores: Gold scores of the responses.
        rng: The annotator's noise of the day.

    Returns:
        One rank a response, 1 being the best; equal ranks are ties, and ranks after a tie skip (1, 1, 3). None means
        'F': the response failed.
    """
    perceived: list[float | None] = []
    for score in scores:
        noise = rng.gauss(0.0, annotator.noise)  # drawn for failed ones too: the others' noise must not depend on them
        perceived.append(None if score < annotator.failed_below else score + noise)
    order = sorted(
        (index for index, seen in enumerate(perceived) if seen is not None), key=lambda i: (-_seen(perceived[i]), i)
    )
    ranks: list[int | None] = [None] * len(scores)
    leader = math.inf  # the best perceived score of the current rank
    current = 0
    for position, index in enumerate(order, start=1):
        seen = _seen(perceived[index])
        if position == 1 or leader - seen > annotator.tie_margin:
            leader, current = seen, position
        ranks[index] = current
    return ranks


def _seen(value: float | None) -> float:
    """Narrow the type: only ranked responses come here."""
    if value is None:
        raise TypeError("a failed response has no perceived score")
    return value

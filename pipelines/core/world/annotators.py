"""Simulated annotators: they see the gold score through individual noise, so the best reachable accuracy is known.

A Thurstone model (Thurstone 1927, case V): an annotator ranks by gold score plus Gaussian noise of their own size.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

FAILED_BELOW = 0.15
"""Gold score below which an annotator marks a response as failed ('F') where `failed_below` is not given."""


@dataclass(frozen=True)
class Annotator:
    """Somebody who ranks responses.

    Attributes:
        name: For example "annotator-3".
        noise: Standard deviation of their noise, in units of the gold score.
        tie_margin: Perceived scores nearer than this are called a tie.
        length_bias: Added to the perceived score per 100 words of a response; 0 for a fair judge.
        failed_below: Gold score below which a response gets 'F' and no rank.
    """

    name: str
    noise: float
    tie_margin: float = 0.0
    length_bias: float = 0.0
    failed_below: float = FAILED_BELOW


def annotators(
    num: int, seed: int, noise: float, tie_margin: float = 0.02, length_bias: float = 0.0
) -> tuple[Annotator, ...]:
    """Hire annotators whose noise varies between half and one and a half times the given one.

    Args:
        num: How many.
        seed: Decides their individual noise.
        noise: Mean standard deviation, in units of the gold score.
        tie_margin: As in `Annotator`.
        length_bias: As in `Annotator`.

    Raises:
        ValueError: `num` is less than 1, or `noise` or `tie_margin` is negative.
    """
    if num < 1:
        raise ValueError(f"num is {num}: at least one annotator is needed")
    if noise < 0 or tie_margin < 0:
        raise ValueError(f"noise is {noise} and tie_margin is {tie_margin}: neither may be negative")
    rng = random.Random(f"annotators:{seed}")
    return tuple(
        Annotator(f"annotator-{i + 1}", noise * (0.5 + rng.random()), tie_margin, length_bias) for i in range(num)
    )


def rank(
    annotator: Annotator, scores: Sequence[float], rng: random.Random, lengths: Sequence[int] | None = None
) -> list[int | None]:
    """Rank responses by what the annotator perceives.

    Args:
        annotator: Who ranks.
        scores: Gold scores of the responses.
        rng: The annotator's noise of the day.
        lengths: Words in each response; needed where the annotator has a length bias.

    Returns:
        One rank a response, 1 being the best; equal ranks are ties, and ranks after a tie skip (1, 1, 3). None means
        'F': the response failed.

    Raises:
        ValueError: Lengths are missing or of another number than the scores.
    """
    if annotator.length_bias and (lengths is None or len(lengths) != len(scores)):
        raise ValueError(f"{annotator.name} has a length bias: pass as many lengths as scores ({len(scores)})")
    perceived: list[float | None] = []
    for index, score in enumerate(scores):
        noise = rng.gauss(0.0, annotator.noise)  # drawn for failed ones too: the others' noise must not depend on them
        bias = annotator.length_bias * lengths[index] / 100 if lengths is not None else 0.0
        perceived.append(None if score < annotator.failed_below else score + noise + bias)
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


def best_reachable_accuracy(pairs: Iterable[tuple[float, ...]]) -> float:
    """Accuracy that the gold scorer itself reaches on pairs labelled by noisy annotators.

    Args:
        pairs: Gold scores (chosen, rejected, ...) of each pair that was kept; further members are ignored.

    Returns:
        Share of pairs in which the chosen response has the higher gold score, ties counted half.

    Raises:
        ValueError: There are no pairs.
    """
    hits, num_pairs = 0.0, 0
    for chosen, rejected, *_ in pairs:
        hits += 1.0 if chosen > rejected else 0.5 if chosen == rejected else 0.0
        num_pairs += 1
    if not num_pairs:
        raise ValueError("there are no pairs: the best reachable accuracy of nothing is unknown")
    return hits / num_pairs


def expected_accuracy(gap: float, noise: float, tie_margin: float = 0.0) -> float:
    """Chance that an annotator prefers the truly better of two responses, given that they prefer one.

    With independent noise of size s on both responses the perceived gap is Gaussian with mean `gap` and standard
    deviation s * sqrt(2), hence Phi(gap / (s sqrt 2)) without a tie margin.

    Args:
        gap: Absolute difference of the gold scores.
        noise: The annotator's standard deviation.
        tie_margin: Pairs perceived nearer than this are ties and not kept.
    """
    gap = abs(gap)
    if noise == 0:
        return 1.0 if gap > tie_margin else 0.5
    spread = noise * math.sqrt(2)
    right = _phi((gap - tie_margin) / spread)
    wrong = _phi((-gap - tie_margin) / spread)
    return right / (right + wrong) if right + wrong else 0.5


def _phi(z: float) -> float:
    """The standard normal distribution function."""
    return 0.5 * math.erfc(-z / math.sqrt(2))

"""The annotators: noisy, individual, and with a known ceiling."""

import random
from statistics import NormalDist, mean

import pytest

from pipelines.core.learning.preferences import best_reachable_accuracy
from pipelines.core.world.annotators import Annotator, annotators, rank


def test_without_noise_the_ranks_follow_the_scores_with_ties_and_failures():
    judge = Annotator("judge", noise=0.0, tie_margin=0.01)
    assert rank(judge, [0.5, 0.9, 0.1, 0.505, 0.7], random.Random(0)) == [3, 1, None, 3, 2]


def test_ranks_after_a_tie_skip():
    judge = Annotator("judge", noise=0.0)
    assert rank(judge, [0.8, 0.8, 0.5], random.Random(0)) == [1, 1, 3]


def test_annotators_differ_in_noise_and_are_the_same_for_the_same_seed():
    crew = annotators(5, seed=1, noise=0.1)
    assert crew == annotators(5, seed=1, noise=0.1)
    assert crew != annotators(5, seed=2, noise=0.1)
    assert len({one.noise for one in crew}) == 5
    assert all(0.05 <= one.noise <= 0.15 for one in crew)


@pytest.mark.parametrize(("num", "noise"), [(0, 0.1), (3, -0.1)])
def test_impossible_crews_are_refused(num, noise):
    with pytest.raises(ValueError, match=r"at least one annotator|neither may be negative"):
        annotators(num, seed=0, noise=noise)


@pytest.mark.parametrize("tie_margin", [0.0, 0.05])
def test_the_counted_ceiling_agrees_with_the_expected_one(tie_margin):
    rng = random.Random(5)
    judge = Annotator("judge", noise=0.12, tie_margin=tie_margin)
    kept, expected = [], []
    for _ in range(12_000):
        scores = (0.3 + 0.6 * rng.random(), 0.3 + 0.6 * rng.random())
        first, second = rank(judge, scores, rng)
        if first != second:
            chosen, rejected = scores if first < second else scores[::-1]
            kept.append({"gold_chosen": chosen, "gold_rejected": rejected})
            expected.append(_expected_accuracy(abs(chosen - rejected), judge.noise, tie_margin))
    assert best_reachable_accuracy(kept) == pytest.approx(mean(expected), abs=0.012)


def _expected_accuracy(gap, noise, tie_margin):
    """Thurstone: with noise of size s on both responses the perceived gap is Gaussian, of deviation s sqrt(2)."""
    perceived = NormalDist(sigma=noise * 2**0.5)
    right, wrong = perceived.cdf(gap - tie_margin), perceived.cdf(-gap - tie_margin)
    return right / (right + wrong)

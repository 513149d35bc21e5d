"""The annotators: noisy, individual, and with a known ceiling."""

import random
from statistics import mean

import pytest

from pipelines.core.world.annotators import Annotator, annotators, best_reachable_accuracy, expected_accuracy, rank


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
            kept.append(scores if first < second else scores[::-1])
            expected.append(expected_accuracy(abs(scores[0] - scores[1]), judge.noise, tie_margin))
    assert best_reachable_accuracy(kept) == pytest.approx(mean(expected), abs=0.012)


def test_expected_accuracy_is_half_without_a_gap_and_one_without_noise():
    assert expected_accuracy(0.0, 0.1) == pytest.approx(0.5)
    assert expected_accuracy(0.1, 0.0) == 1.0
    assert expected_accuracy(0.1, 0.1) == pytest.approx(0.7602, abs=1e-4)  # Phi(1 / sqrt 2)


def test_equal_gold_scores_count_half():
    assert best_reachable_accuracy([(0.9, 0.1), (0.1, 0.9), (0.5, 0.5, 7.0)]) == 0.5
    with pytest.raises(ValueError, match="there are no pairs"):
        best_reachable_accuracy([])


def test_a_length_bias_favours_the_longer_response_and_needs_lengths():
    biased = Annotator("judge", noise=0.0, length_bias=0.5)
    assert rank(biased, [0.6, 0.5], random.Random(0), lengths=[10, 100]) == [2, 1]
    with pytest.raises(ValueError, match="length bias"):
        rank(biased, [0.6, 0.5], random.Random(0))

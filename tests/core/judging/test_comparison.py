"""Bootstrap of champion against challenger: known answers, coverage, and what must hold for any numbers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.judging import comparison
from pipelines.core.judging.intervals import Interval

scores = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=30)


def test_equal_models_differ_by_nothing_and_surely_so():
    values = [0.0, 1.0, 1.0, 0.5]
    found = comparison.difference(values, values, range(4), seed=1, confidence=0.95)
    assert (found.low, found.mean, found.high) == (0.0, 0.0, 0.0)


def test_the_same_gain_everywhere_is_known_without_doubt():
    found = comparison.difference([0.1] * 5, [0.3] * 5, range(5), seed=1, confidence=0.95)
    assert found.low == pytest.approx(0.2)
    assert found.high == pytest.approx(0.2)


def test_the_bounds_are_those_of_the_normal_approximation_for_many_examples():
    draw = np.random.default_rng(3)
    champion, challenger = draw.normal(size=(2, 2000))
    gains = challenger - champion
    found = comparison.difference(champion.tolist(), challenger.tolist(), range(2000), seed=1, confidence=0.95)
    width = 1.645 * gains.std() / math.sqrt(2000)
    assert found.low == pytest.approx(gains.mean() - width, abs=0.1 * width)
    assert found.high == pytest.approx(gains.mean() + width, abs=0.1 * width)


def test_examples_about_one_text_count_as_one():
    gains = [0.0, 1.0] * 20
    zeros = [0.0] * 40
    alone = comparison.difference(zeros, gains, range(40), seed=1, confidence=0.95)
    repeated = comparison.difference(zeros * 4, gains * 4, list(range(40)) * 4, seed=1, confidence=0.95)
    assert repeated.low == pytest.approx(alone.low, abs=0.02)


def test_one_sided_bounds_fail_as_rarely_as_they_say():
    """At 0.9 the lower bound is above the true difference, 0, in a tenth of the trials, give or take."""
    draw = np.random.default_rng(8)
    above = 0
    for trial in range(120):
        champion, challenger = draw.binomial(1, 0.5, size=(2, 100)).astype(float)
        found = comparison.difference(champion.tolist(), challenger.tolist(), range(100), seed=trial, confidence=0.9)
        above += found.low > 0
    assert 3 <= above <= 24  # 12 expected; beyond these with a probability below 1 in 500


def test_the_relative_change_is_that_of_the_sums():
    found = comparison.relative_change([10.0, 30.0], [11.0, 33.0], seed=1, confidence=0.95)
    assert found.mean == pytest.approx(0.1)
    assert found.low == pytest.approx(0.1)
    assert found.high == pytest.approx(0.1)


@given(scores, st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_the_mean_lies_between_the_ends_of_what_was_drawn(pairs, seed):
    champion, challenger = (list(side) for side in zip(*pairs, strict=True))
    found = comparison.difference(champion, challenger, range(len(pairs)), seed=seed, confidence=0.95)
    gains = [late - early for early, late in pairs]
    assert min(gains) - 1e-12 <= found.low <= found.high <= max(gains) + 1e-12
    assert found.mean == pytest.approx(sum(gains) / len(gains))


@given(scores)
@settings(max_examples=15, deadline=None)
def test_the_two_sides_mirror_each_other(pairs):
    champion, challenger = (list(side) for side in zip(*pairs, strict=True))
    there = comparison.difference(champion, challenger, range(len(pairs)), seed=5, confidence=0.95)
    back = comparison.difference(challenger, champion, range(len(pairs)), seed=5, confidence=0.95)
    assert there.low == pytest.approx(-back.high)


@pytest.mark.parametrize(
    ("champion", "challenger", "clusters"),
    [([], [], []), ([1.0], [1.0], ["a"]), ([1.0, 1.0], [1.0, 1.0], ["a", "a"]), ([1.0, 2.0], [1.0], ["a", "b"])],
)
def test_what_cannot_be_compared_is_an_error(champion, challenger, clusters):
    with pytest.raises(ValueError, match=r"cluster|shorter|longer"):
        comparison.difference(champion, challenger, clusters, seed=1, confidence=0.95)


def test_a_ratio_to_nothing_is_an_error():
    with pytest.raises(ValueError, match="not positive"):
        comparison.relative_change([0.0, 1.0], [1.0, 1.0], seed=1, confidence=0.95)


def test_bounds_are_the_same_to_the_bit_as_those_of_earlier_releases():
    draw = np.random.default_rng(7)
    draw.normal(size=37)
    clusters = draw.integers(11, size=37).tolist()
    champion, challenger = ((draw.random(37) + 0.5).tolist() for _ in range(2))
    assert comparison.difference(champion, challenger, clusters, seed=5, confidence=0.95) == Interval(
        mean=-0.030628832528294386, low=-0.14936559194896204, high=0.11803878440390678
    )
    assert comparison.relative_change(champion, challenger, seed=6, confidence=0.95) == Interval(
        mean=-0.029953229468636877, low=-0.13749621187427483, high=0.08960149440621952
    )

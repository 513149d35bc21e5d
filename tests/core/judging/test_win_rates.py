import pytest

from pipelines.core.judging.forgetting import forgetting
from pipelines.core.judging.win_rates import win_rate


def test_ties_count_half():
    rate = win_rate([1.0, 0.5, 0.2, 0.9], [0.0, 0.5, 0.3, 0.9], seed=0)
    assert (rate.wins, rate.ties, rate.losses) == (1, 2, 1)
    assert rate.win_rate == 0.5
    assert rate.mean_ours == pytest.approx(0.65)
    assert rate.mean_theirs == pytest.approx(0.425)


def test_swapping_the_sides_mirrors_the_rate_and_its_interval():
    ours, theirs = [0.1, 0.9, 0.4, 0.7, 0.5, 0.5], [0.2, 0.1, 0.3, 0.7, 0.4, 0.1]
    rate, mirrored = win_rate(ours, theirs, seed=3), win_rate(theirs, ours, seed=3)
    assert rate.win_rate == pytest.approx(1 - mirrored.win_rate)
    assert rate.low == pytest.approx(1 - mirrored.high)


def test_one_sided_wins_leave_no_doubt():
    rate = win_rate([1.0] * 5, [0.0] * 5, seed=0)
    assert (rate.low, rate.win_rate, rate.high) == (1, 1, 1)


def test_different_numbers_of_prompts_are_an_error():
    with pytest.raises(ValueError, match="longer"):
        win_rate([1.0], [1.0, 2.0], seed=0)


def test_forgetting_is_relative():
    assert forgetting(2.0, 2.1) == pytest.approx(0.05)
    assert forgetting(2.0, 1.0) == pytest.approx(-0.5)

"""Calibration error, against worked examples."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.judging.calibration import calibration_curve, expected_calibration_error, pairwise_calibration_error


def test_a_judge_as_right_as_sure_has_no_error():
    assert expected_calibration_error([0.75] * 4, [1, 1, 1, 0]) == pytest.approx(0)


def test_the_error_is_the_gap_weighted_by_bin():
    sure = [0.95] * 3 + [0.55]
    right = [1, 0, 0, 1]
    assert expected_calibration_error(sure, right) == pytest.approx(3 / 4 * (0.95 - 1 / 3) + 1 / 4 * 0.45)


def test_a_confidence_of_one_belongs_to_the_last_bin():
    assert expected_calibration_error([1.0, 0.95], [1, 1]) == pytest.approx(0.025)


def test_confidences_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"each in \[0, 1\]"):
        expected_calibration_error([1.2], [1])
    with pytest.raises(ValueError, match="at least one number"):
        expected_calibration_error([], [])


def test_margins_drawn_from_the_model_itself_are_calibrated():
    draw = np.random.default_rng(0)
    size = draw.normal(0, 2, 20_000)
    wins = draw.random(20_000) < 1 / (1 + np.exp(-size))
    margins = np.where(wins, size, -size)
    assert pairwise_calibration_error(margins.tolist()) < 0.015
    assert pairwise_calibration_error((5 * margins).tolist()) > 0.1


def test_a_model_that_sees_no_difference_is_undecided_and_calibrated():
    assert pairwise_calibration_error([0.0, 0.0]) == pytest.approx(0)


def test_always_wrong_and_sure_is_the_worst():
    assert pairwise_calibration_error([-50.0] * 3) == pytest.approx(1)


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=50))
def test_the_error_lies_between_zero_and_one(margins):
    error = pairwise_calibration_error(margins)
    assert 0 <= error <= 1
    assert math.isfinite(error)


def test_the_curve_tells_confidence_accuracy_and_count_of_each_bin():
    low, high = math.log(0.62 / 0.38), math.log(0.97 / 0.03)
    first, last = calibration_curve([low, -low, high, high, -high, high])
    assert (first.confidence, first.accuracy, first.count) == (pytest.approx(0.62), 0.5, 2)
    assert (last.confidence, last.accuracy, last.count) == (pytest.approx(0.97), 0.75, 4)


@given(st.lists(st.floats(-6, 6), min_size=1, max_size=60))
def test_the_gaps_of_the_curve_are_the_calibration_error(margins):
    curve = calibration_curve(margins)
    gap = sum(one.count * abs(one.accuracy - one.confidence) for one in curve) / len(margins)
    assert gap == pytest.approx(pairwise_calibration_error(margins), abs=1e-12)

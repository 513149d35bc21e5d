"""What is held against a limit, and what never passes."""

import math

import pytest

from pipelines.core.judging.rules import Bounds, limit, rules_of_reward_model
from pipelines.params import RewardVerdict

SETTINGS = RewardVerdict(min_accuracy=0.55, min_gain_over_length=0.0, max_calibration_error=0.15)
SOUND = {
    "held_out_accuracy": 0.73,
    "held_out_accuracy_low": 0.7,
    "length_baseline_accuracy": 0.47,
    "expected_calibration_error": 0.05,
}


def failed(**changes):
    return [rule.name for rule in rules_of_reward_model({**SOUND, **changes}, SETTINGS) if not rule.passed]


def test_bounds_are_closed():
    assert limit("quality", "x", 0.5, "x", Bounds(low=0.5, high=0.5)).passed
    assert not limit("quality", "x", 0.5, "x", Bounds(low=0.6)).passed


def test_a_sound_reward_model_meets_all_three_rules():
    assert failed() == []


def test_it_is_the_lower_end_of_the_interval_that_counts():
    assert failed(held_out_accuracy_low=0.54) == ["reward model, accuracy"]
    assert failed(length_baseline_accuracy=0.74) == ["reward model, more than length"]
    assert failed(expected_calibration_error=0.16) == ["reward model, calibration"]


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "0.9", True])
@pytest.mark.parametrize("name", sorted(SOUND))
def test_what_is_no_finite_number_fails(name, value):
    assert failed(**{name: value})

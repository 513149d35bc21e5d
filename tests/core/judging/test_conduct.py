"""When a version answers worse than the one before: by so much, and so clearly."""

import dataclasses
from math import comb

import numpy as np
import pytest

from pipelines.core.judging.conduct import Answered, Limits, complaint

FINE = Answered(failed=False, seconds=0.5, words=12, repeated_trigram_share=0.0)
FAILED = dataclasses.replace(FINE, failed=True)
EMPTY = dataclasses.replace(FINE, words=0)
LOOP = dataclasses.replace(FINE, words=30, repeated_trigram_share=0.9)
SLOW = dataclasses.replace(FINE, seconds=9.0)
LIMITS = Limits(error_share=0.1, poor_share=0.2, slowdown=3.0, slow_seconds=2.0, chance=1e-5)


@pytest.mark.parametrize("bad", [FAILED, EMPTY, LOOP, SLOW])
def test_all_answers_bad_is_worse_than_all_fine_and_not_worse_than_all_bad(bad):
    assert complaint([bad] * 30, [FINE] * 300, LIMITS)
    assert complaint([bad] * 30, [bad] * 300, LIMITS) == ""
    assert complaint([FINE] * 30, [bad] * 300, LIMITS) == ""


def test_the_level_is_that_of_fishers_exact_test():
    """No failure in 300 and k in 30: the chance that all k fall among the 30 of 330."""
    chance = comb(30, 5) / comb(330, 5)
    now = [FAILED] * 5 + [FINE] * 25
    at, below = (dataclasses.replace(LIMITS, chance=chance * factor) for factor in (1.001, 0.999))
    assert complaint(now, [FINE] * 300, at) == "17% of 30 requests failed, before it 0% of 300"
    assert complaint(now, [FINE] * 300, below) == ""


def test_a_clear_but_small_difference_is_none():
    assert complaint([FAILED] * 2 + [FINE] * 28, [FINE] * 3000, dataclasses.replace(LIMITS, chance=0.05)) == ""


def test_without_a_before_errors_are_held_against_the_limit_and_slowness_against_nothing():
    assert complaint([FAILED] * 30, [], LIMITS) == "100% of 30 requests failed, before it 0% of 0"
    assert complaint([FAILED] * 4 + [FINE] * 26, [], LIMITS) == ""
    assert complaint([SLOW] * 30, [], LIMITS) == ""
    assert complaint([], [FINE] * 30, LIMITS) == ""


def test_of_many_looks_at_a_version_that_answers_as_the_one_before_hardly_any_complains():
    """Three answers in ten are poor under both; 50 probations of 360 looks at the last 30 requests."""
    draw = np.random.default_rng(0)
    limits = dataclasses.replace(LIMITS, chance=0.01 / (3 * 360))
    complaints = 0
    for _ in range(50):
        before = [EMPTY if poor else FINE for poor in draw.random(300) < 0.3]
        stream = [EMPTY if poor else FINE for poor in draw.random(30 + 2 * 360) < 0.3]
        complaints += any(complaint(stream[2 * look : 2 * look + 30], before, limits) for look in range(360))
    assert complaints <= 1

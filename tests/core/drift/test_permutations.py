"""Permutation tests: exact levels, ties that are no evidence, effects that do not grow with small samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.drift import permutations


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 50))
def test_every_deal_gives_the_window_as_many_documents_as_the_observed_one(reference, window, count):
    deals = permutations.deals(reference, window, count, np.random.default_rng(1))
    assert deals.shape == (count + 1, reference + window)
    assert (deals.sum(axis=1) == window).all()
    assert deals[0].tolist() == [0.0] * reference + [1.0] * window


def test_random_deals_are_dealt_evenly():
    deals = permutations.deals(30, 10, 4000, np.random.default_rng(2))
    assert np.abs(deals[1:].mean(axis=0) - 0.25).max() < 0.04


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_a_p_value_counts_the_observed_deal_itself(statistics):
    p = permutations.p_value(np.array(statistics))
    assert 1 / len(statistics) <= p <= 1


def test_the_greatest_statistic_has_the_smallest_p_value_and_ties_have_one():
    assert permutations.p_value(np.array([9.0, 1, 2, 3])) == 0.25
    assert permutations.p_value(np.array([1.0, 1, 1, 1])) == 1
    assert permutations.p_value(np.array([0.1 + 0.2, 0.3, 0.3, 0.2])) == 0.75


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_p_values_of_samples_from_one_source_are_uniform(seed):
    rng = np.random.default_rng(seed)
    deals = permutations.deals(20, 12, 99, rng)
    p_values = np.array(
        [
            permutations.p_value(np.abs(deals @ values / 12 - (1 - deals) @ values / 20))
            for values in rng.normal(size=(800, 32))
        ]
    )
    for level in (0.05, 0.1, 0.5):
        assert (p_values <= level).mean() == pytest.approx(level, abs=4.5 * np.sqrt(level * (1 - level) / 800))


def test_the_excess_of_a_plug_in_statistic_is_about_nought_without_a_change_at_any_size():
    rng = np.random.default_rng(3)
    for window in (20, 200):
        found = []
        for _ in range(60):
            values = rng.random(200 + window)
            deals = permutations.deals(200, window, 99, rng)
            found.append(permutations.excess((deals @ values / window - values.mean()) ** 2))
        assert np.mean(found) == pytest.approx(0, abs=0.1 / window)


def test_without_random_deals_there_is_no_effect():
    assert permutations.excess(np.array([3.0])) == 0
    assert permutations.chance(np.array([3.0]), 0.01) == 0

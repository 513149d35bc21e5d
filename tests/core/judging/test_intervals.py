"""Bootstrap intervals: do they hold what they promise?"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.judging.intervals import Interval, cluster_bootstrap, paired_bootstrap, ratio_bootstrap


def clustered(seed, clusters=60, size=5):
    """Values whose clusters share a common part of variance 1 beside one of their own."""
    draw = np.random.default_rng(seed)
    values = np.repeat(draw.normal(size=clusters), size) + draw.normal(size=clusters * size)
    return values.tolist(), np.repeat(np.arange(clusters), size).tolist()


def test_the_true_mean_is_covered_about_as_often_as_promised_and_not_without_clusters():
    held, held_blindly = 0, 0
    for seed in range(60):
        values, clusters = clustered(seed)
        interval = cluster_bootstrap(values, clusters, seed=seed)
        blind = cluster_bootstrap(values, range(len(values)), seed=seed)
        held += interval.low <= 0 <= interval.high
        held_blindly += blind.low <= 0 <= blind.high
    assert held >= 52
    assert held_blindly < 48


def test_the_width_is_that_of_the_normal_theory_for_independent_values():
    draw = np.random.default_rng(0)
    values = draw.normal(size=400)
    interval = cluster_bootstrap(values.tolist(), range(400), seed=0)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_equal_values_give_an_interval_of_no_width():
    interval = cluster_bootstrap([0.5] * 6, "aabbcc", seed=0)
    assert (interval.low, interval.mean, interval.high) == (0.5, 0.5, 0.5)


def test_the_same_seed_gives_the_same_interval():
    values, clusters = clustered(1)
    assert cluster_bootstrap(values, clusters, seed=4) == cluster_bootstrap(values, clusters, seed=4)


def test_one_cluster_has_no_interval():
    with pytest.raises(ValueError, match="at least 2 clusters, there are 1"):
        cluster_bootstrap([0.0, 1.0], "aa", seed=0)


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="3 values but 2 clusters"):
        cluster_bootstrap([1.0, 2.0, 3.0], "ab", seed=0)
    with pytest.raises(ValueError, match="1 values before but 2 after"):
        paired_bootstrap([1.0], [1.0, 2.0], seed=0)


def test_pairing_takes_out_what_both_sides_share():
    draw = np.random.default_rng(0)
    before = draw.normal(0, 10, 100)
    after = before + draw.normal(0.5, 0.5, 100)
    gain = paired_bootstrap(before.tolist(), after.tolist(), seed=0)
    assert gain.low > 0
    assert gain.high - gain.low < 0.3


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=30))
def test_the_mean_lies_within_the_range_of_the_values_and_the_ends_in_order(values):
    interval = cluster_bootstrap(values, range(len(values)), seed=0)
    assert min(values) - 1e-9 <= interval.low <= interval.high <= max(values) + 1e-9
    assert interval.mean == pytest.approx(np.mean(values))


def numbers():
    """37 values, their 11 clusters, and two sides of positive ones."""
    draw = np.random.default_rng(7)
    values, clusters = draw.normal(size=37).tolist(), draw.integers(11, size=37).tolist()
    return values, clusters, (draw.random(37) + 0.5).tolist(), (draw.random(37) + 0.5).tolist()


def test_intervals_are_the_same_to_the_bit_as_those_of_earlier_releases():
    values, clusters, base, later = numbers()
    assert cluster_bootstrap(values, clusters, seed=3) == Interval(
        mean=-0.4323376729295712, low=-0.6926853780754678, high=-0.03863660036465862
    )
    assert paired_bootstrap(base, later, seed=4, clusters=clusters, confidence=0.9) == Interval(
        mean=-0.030628832528294386, low=-0.14763378166728944, high=0.1171601662748198
    )


def test_a_confidence_of_both_ends_is_half_as_much_in_each_tail():
    values, clusters, _, _ = numbers()
    both = cluster_bootstrap(values, clusters, seed=3, confidence=0.95)
    assert ratio_bootstrap(values, [1.0] * len(values), clusters, seed=3, tail=(1 - 0.95) / 2) == both


def test_how_many_samples_are_drawn_at_once_changes_nothing(monkeypatch):
    values, clusters, base, _ = numbers()
    whole = ratio_bootstrap(values, base, clusters, seed=1, tail=0.05)
    monkeypatch.setattr("pipelines.core.judging.intervals.DRAWN_AT_ONCE", 1)
    assert ratio_bootstrap(values, base, clusters, seed=1, tail=0.05) == whole

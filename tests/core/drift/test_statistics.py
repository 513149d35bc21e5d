"""The statistics: the same as the plain formulas, for every deal at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from scipy.spatial import distance

from pipelines.core.drift import permutations, statistics

RNG = np.random.default_rng(5)


def deals(reference, window, count=7):
    return permutations.deals(reference, window, count, np.random.default_rng(1))


def sides(values, row):
    return values[row == 0], values[row == 1]


counts = hnp.arrays(np.float32, st.tuples(st.just(9), st.integers(1, 6)), elements=st.integers(0, 5).map(float))


@settings(deadline=None)
@given(counts)
def test_jensen_shannon_is_scipys_for_every_deal(counts_NV):
    counts_NV[:, 0] += 1
    dealt = deals(5, 4)
    found = statistics.jensen_shannon(counts_NV, dealt)
    for row, value in zip(dealt, found, strict=True):
        old, new = (part.sum(axis=0) for part in sides(counts_NV, row))
        assert value == pytest.approx(distance.jensenshannon(old, new, base=2) ** 2, abs=2e-6)


def test_disjoint_vocabularies_are_one_bit_apart_and_equal_ones_nothing():
    apart = np.array([[3, 0], [1, 0], [0, 2], [0, 5]], dtype=np.float32)
    assert statistics.jensen_shannon(apart, deals(2, 2))[0] == pytest.approx(1)
    same = np.array([[3, 1], [3, 1], [3, 1]], dtype=np.float32)
    assert statistics.jensen_shannon(same, deals(2, 1))[0] == pytest.approx(0, abs=1e-7)


@settings(deadline=None)
@given(counts)
def test_the_parts_of_the_divergence_by_token_add_up_to_it(counts_NV):
    counts_NV[:, 0] += 1
    row = deals(5, 4)[0]
    old, new = (part.sum(axis=0) for part in sides(counts_NV, row))
    parts = statistics.divergence_by_type(old, new)
    assert (parts > -1e-12).all()
    assert parts.sum() == pytest.approx(statistics.jensen_shannon(counts_NV, row[None])[0], abs=2e-6)


def test_the_squared_discrepancy_is_the_unbiased_estimate_of_the_paper():
    points = RNG.normal(size=(11, 3)).astype(np.float32)
    kernel = statistics.gaussian_kernel(statistics.squared_distances(points))
    dealt = deals(6, 5)
    found = statistics.squared_discrepancy(kernel, dealt)
    for row, value in zip(dealt, found, strict=True):
        old, new = np.flatnonzero(row == 0), np.flatnonzero(row == 1)
        within_old = sum(kernel[i, j] for i in old for j in old if i != j) / (6 * 5)
        within_new = sum(kernel[i, j] for i in new for j in new if i != j) / (5 * 4)
        between = sum(kernel[i, j] for i in old for j in new) / (6 * 5)
        assert value == pytest.approx(within_old + within_new - 2 * between, abs=1e-5)


def test_squared_distances_and_kernel_are_those_of_the_definition():
    points = RNG.normal(size=(8, 3)).astype(np.float32)
    squared = statistics.squared_distances(points)
    assert squared == pytest.approx(distance.cdist(points, points, "sqeuclidean"), abs=1e-4)
    median = np.median(distance.pdist(points, "sqeuclidean"))
    assert statistics.gaussian_kernel(squared) == pytest.approx(np.exp(-squared / (2 * median)), abs=1e-3)


def test_points_that_are_all_the_same_have_a_kernel_of_ones():
    squared = statistics.squared_distances(np.ones((5, 2), dtype=np.float32))
    assert statistics.gaussian_kernel(squared) == pytest.approx(np.ones((5, 5)))


@settings(deadline=None)
@given(hnp.arrays(np.float64, 13, elements=st.integers(-3, 3).map(float)))
def test_kolmogorov_smirnov_is_scipys_with_ties_too(values):
    dealt = deals(7, 6)
    found = statistics.kolmogorov_smirnov(values, dealt)
    for row, value in zip(dealt, found, strict=True):
        assert value == pytest.approx(stats.ks_2samp(*sides(values, row)).statistic, abs=1e-5)


def test_the_presence_difference_is_the_fourth_power_norm_of_standardised_differences():
    held = (RNG.random((20, 6)) < 0.4).astype(np.float32)
    held[0], held[1] = 1, 0
    dealt = deals(12, 8)
    found = statistics.presence_difference(held, dealt)
    share = held.mean(axis=0)
    for row, value in zip(dealt, found, strict=True):
        old, new = sides(held, row)
        squares = (new.mean(axis=0) - old.mean(axis=0)) ** 2 / (share * (1 - share))
        assert value == pytest.approx((squares**2).sum() ** 0.25, rel=1e-4)


def test_whitened_points_vary_alike_along_every_axis_and_constant_axes_are_gone():
    points = RNG.normal(size=(400, 4)) * [100, 10, 10, 0]
    white = statistics.whitened(points.astype(np.float32), ridge=0)
    assert white.shape == (400, 3)
    assert np.cov(white.T) == pytest.approx(np.eye(3), abs=0.01)
    assert statistics.whitened(np.ones((5, 3), dtype=np.float32)).shape == (5, 0)

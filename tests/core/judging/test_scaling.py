"""Scaling laws: a law that is known is found again, and intervals hold what they promise."""

import math

import numpy as np
import pytest

from pipelines.core.judging import budgets, scaling
from pipelines.core.judging.scaling import Run, Surface

TRUE = Surface(irreducible=0.7, a=120.0, alpha=0.42, b=400.0, beta=0.45)
FLOPS = (3e11, 1e12, 3e12)
STEPS = (-2, -1, 0, 1, 2)


def runs(noise: float = 0.0, seed: int = 0, step: float = 1.6, flops: tuple[float, ...] = FLOPS) -> list[Run]:
    """Five sizes about the true optimum of each budget, with losses of the known law and normal noise."""
    draw = np.random.default_rng(seed)
    found = []
    for compute in flops:
        for power in STEPS:
            size = 1.2 * TRUE.law.parameters(compute) * step**power
            tokens = budgets.affordable(compute, size)
            loss = TRUE.loss(size, tokens) + noise * draw.normal()
            found.append(Run(flops=compute, parameters=size, tokens=tokens, loss=loss))
    return found


def test_the_best_sizes_of_a_surface_are_where_its_loss_is_lowest_at_a_compute() -> None:
    for compute in FLOPS:
        best = TRUE.law.parameters(compute)
        losses = [TRUE.loss(best * f, budgets.affordable(compute, best * f)) for f in (0.99, 1.0, 1.01)]
        assert losses[1] == min(losses)
        assert 6 * best * TRUE.law.tokens(compute) == pytest.approx(compute)


def test_chinchillas_law_gives_twenty_tokens_for_each_parameter() -> None:
    compute = budgets.training_flops(70e9, 1.4e12)
    assert scaling.CHINCHILLA.parameters(compute) == pytest.approx(70e9)
    assert scaling.CHINCHILLA.tokens(compute) == pytest.approx(1.4e12)


def test_parabolas_find_the_exponent_and_the_best_sizes_of_a_known_law() -> None:
    found = scaling.fit(runs(step=1.3), at=1e13, seed=0)
    assert found is not None
    assert found.law.exponent == pytest.approx(TRUE.law.exponent, abs=0.01)
    for valley in found.valleys:
        assert valley.parameters == pytest.approx(TRUE.law.parameters(valley.flops), rel=0.03)
    assert found.law.parameters(1e13) == pytest.approx(TRUE.law.parameters(1e13), rel=0.03)


def test_a_parabola_is_found_exactly() -> None:
    sizes = (4e4, 7e4, 1e5, 2e5)
    every = [
        Run(flops=c, parameters=n, tokens=c / 6 / n, loss=2 + 0.1 * math.log(n / best) ** 2)
        for c, best in ((1e12, 6e4), (4e12, 1.2e5))
        for n in sizes
    ]
    found = scaling.fit(every, at=1.6e13, seed=0)
    assert found is not None
    assert found.law.exponent == pytest.approx(0.5)
    assert found.law.parameters(1.6e13) == pytest.approx(2.4e5)
    assert found.exponent is not None
    assert found.exponent.high - found.exponent.low < 1e-6
    assert found.valleys[0].loss(6e4) == pytest.approx(2)


def test_intervals_cover_the_truth_about_as_often_as_promised() -> None:
    held = dict.fromkeys(("exponent", "there", "valley"), 0)
    trials = 200
    for seed in range(trials):
        found = scaling.fit(runs(noise=0.004, seed=seed, step=1.5), at=1e13, seed=seed)
        assert found is not None
        assert found.exponent is not None
        assert found.parameters_there is not None
        valley = found.valleys[1].interval
        assert valley is not None
        held["exponent"] += found.exponent.low <= TRUE.law.exponent <= found.exponent.high
        held["there"] += found.parameters_there.low <= TRUE.law.parameters(1e13) <= found.parameters_there.high
        held["valley"] += valley.low <= TRUE.law.parameters(FLOPS[1]) <= valley.high
    assert all(0.91 <= count / trials <= 0.99 for count in held.values()), held


def test_runs_that_do_not_tell_give_no_interval() -> None:
    found = scaling.fit(runs(noise=0.3, seed=3), at=1e13, seed=0)
    assert found is None or found.exponent is None


def test_three_sizes_a_budget_give_a_law_without_intervals_and_two_give_none() -> None:
    few = [run for number, run in enumerate(runs()) if number % 5 < 3]
    found = scaling.fit(few, at=1e13, seed=0)
    assert found is not None
    assert found.exponent is None
    assert found.valleys[0].interval is None
    assert scaling.fit([run for number, run in enumerate(runs()) if number % 5 < 2], at=1e13, seed=0) is None


def falling(flops: tuple[float, ...], curvature: float = 0.002, noise: float = 0.0, seed: int = 0) -> list[Run]:
    """Runs whose loss falls over all sizes, so that the lowest place of a parabola is far beyond them."""
    draw = np.random.default_rng(seed)
    return [
        Run(
            flops=c,
            parameters=n,
            tokens=c / 6 / n,
            loss=3 - 0.2 * math.log(n) + curvature * math.log(n) ** 2 + noise * draw.normal(),
        )
        for c in flops
        for n in (3e4, 5e4, 8e4, 1.2e5)
    ]


def test_the_law_goes_only_through_budgets_whose_lowest_loss_lies_between_the_sizes_that_were_tried() -> None:
    found = scaling.fit([*falling((1e11,)), *runs(step=1.3)], at=1e13, seed=0)
    assert found == scaling.fit(runs(step=1.3), at=1e13, seed=0)
    assert scaling.fit([*falling(FLOPS[1:]), *runs(step=1.3, flops=FLOPS[:1])], at=1e13, seed=0) is None


def test_losses_without_curvature_never_give_a_best_size_beyond_the_runs() -> None:
    for seed in range(100):
        found = scaling.fit(falling(FLOPS, curvature=0.0, noise=0.001, seed=seed), at=1e13, seed=seed)
        assert found is None or all(3e4 < valley.parameters < 1.2e5 for valley in found.valleys)


def test_the_surface_is_found_again_from_its_losses() -> None:
    found = scaling.surface(runs(step=2.5, flops=(1e11, 1e12, 1e13)), seed=0)
    assert found is not None
    surface, exponent = found
    assert surface.law.exponent == pytest.approx(TRUE.law.exponent, abs=0.01)
    assert surface.irreducible == pytest.approx(TRUE.irreducible, rel=0.05)
    assert (surface.alpha, surface.beta) == pytest.approx((TRUE.alpha, TRUE.beta), rel=0.05)
    assert exponent is not None
    assert exponent.low <= TRUE.law.exponent <= exponent.high or exponent.high - exponent.low < 0.01


def test_one_bad_run_moves_the_surface_little() -> None:
    spoilt = runs(noise=0.002, seed=1, step=2.5, flops=(1e11, 1e12, 1e13))
    spoilt[7] = Run(**{**vars(spoilt[7]), "loss": spoilt[7].loss * 1.3})
    found = scaling.surface(spoilt, seed=0)
    assert found is not None
    assert found[0].law.exponent == pytest.approx(TRUE.law.exponent, abs=0.05)


def test_too_few_runs_give_no_surface() -> None:
    assert scaling.surface(runs()[:11], seed=0) is None
    assert scaling.surface(runs(flops=FLOPS[:2]) * 2, seed=0) is None

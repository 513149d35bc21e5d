"""Scaling laws: how large a model, and how many tokens, are best for a given compute.

Hoffmann et al. 2022 (arXiv:2203.15556). Approach 2, section 3.2: at each of some budgets of compute C models of several
sizes N are trained on D = C / 6N tokens; a parabola of the loss over log N has its minimum at the best size, and the
best sizes follow N = k C^a. Approach 3, section 3.3: L = E + A / N^alpha + B / D^beta over all runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.core.judging import budgets

Array = NDArray[np.float64]

SAMPLES = 2000
"""Bootstrap samples of approach 2."""
SURFACE_SAMPLES = 100
"""The same of approach 3, where each is a minimisation."""
HUBER = 1e-3
"""Where the Huber loss of approach 3 turns from squares to absolute values (section 3.3)."""
ENOUGH = 12
"""Runs below which the five parameters of approach 3 are not fitted."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One small training run."""

    flops: float
    """The budget that it belongs to."""
    parameters: float
    tokens: float
    loss: float
    """Held out, nats per token."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """A 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Law:
    """The best number of parameters for a compute: N = coefficient C^exponent, and D = C / 6N."""

    coefficient: float
    exponent: float

    def parameters(self, flops: float) -> float:
        """The best size."""
        return float(self.coefficient * flops**self.exponent)

    def tokens(self, flops: float) -> float:
        """The tokens that are left for it."""
        return budgets.affordable(flops, self.parameters(flops))


CHINCHILLA = Law(coefficient=(6 * budgets.CHINCHILLA) ** -0.5, exponent=0.5)
"""20 tokens for each parameter at every compute; where nothing has been fitted."""


@dataclass(frozen=True, kw_only=True)
class Valley:
    """The parabola over the runs of one budget: loss = level + slope x + curvature x^2, x = log(N / centre)."""

    flops: float
    centre: float
    level: float
    slope: float
    curvature: float
    parameters: float
    """Where it is lowest: between the smallest and the largest size that was tried."""
    interval: Range | None
    """Of that; None: the runs do not tell."""

    @property
    def tokens(self) -> float:
        """For the best size."""
        return budgets.affordable(self.flops, self.parameters)

    def loss(self, parameters: float) -> float:
        """The parabola."""
        x = math.log(parameters / self.centre)
        return self.level + self.slope * x + self.curvature * x**2


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What approach 2 finds."""

    law: Law
    valleys: Sequence[Valley]
    """Of the budgets that have one."""
    exponent: Range | None
    """Of the law."""
    at: float
    """A compute that is asked about, and the interval of the best size there."""
    parameters_there: Range | None


def fit(runs: Sequence[Run], *, at: float, seed: int) -> Fit | None:
    """Approach 2; None when fewer than two budgets have a lowest place between the sizes that were tried.

    Intervals come from a bootstrap of the residuals about the parabolas, normal, with the variance that these budgets
    share; the variance is drawn too (its chi-squared), or intervals from so few runs would be too narrow.

    Args:
        runs: At least three sizes for each budget; four or more give intervals.
        at: FLOPs for which the interval of the best size is wanted.
        seed: Of the bootstrap.
    """
    groups = [[run for run in runs if run.flops == flops] for flops in sorted({run.flops for run in runs})]
    parabolas = [found for group in groups if (found := _Parabola(group)).has_valley]
    if len(parabolas) < 2:
        return None
    freedom = sum(one.freedom for one in parabolas)
    draw = np.random.default_rng(seed)
    spread_S = np.zeros(SAMPLES)
    if freedom:
        spread_S = np.sqrt(sum(one.squares for one in parabolas) / draw.chisquare(freedom, SAMPLES))
    log_flops_G = np.log([one.flops for one in parabolas])
    best_SG = np.stack([one.redrawn(spread_S, draw) for one in parabolas], axis=1)
    law, lines = _power(log_flops_G, np.array([one.log_best for one in parabolas])), _lines(log_flops_G, best_SG)
    there_S = lines.intercepts + lines.slopes * math.log(at)
    return Fit(
        law=law,
        valleys=[one.valley(best_S if freedom else None) for one, best_S in zip(parabolas, best_SG.T, strict=True)],
        exponent=_range(lines.slopes) if freedom else None,
        at=at,
        parameters_there=_range(there_S, np.exp) if freedom else None,
    )


class _Parabola:
    """Least squares of the loss over the logarithm of the size, in the runs of one budget."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.flops = runs[0].flops
        log_sizes_R = np.log([run.parameters for run in runs])
        self.log_centre = float(log_sizes_R.mean())
        x_R = log_sizes_R - self.log_centre
        self.span = (float(x_R.min()), float(x_R.max()))
        design_R3 = np.stack([np.ones_like(x_R), x_R, x_R**2], axis=1)
        self.solve_3R = np.linalg.pinv(design_R3)
        losses_R = np.array([run.loss for run in runs])
        self.coefficients = self.solve_3R @ losses_R
        self.squares = float(((losses_R - design_R3 @ self.coefficients) ** 2).sum())
        self.freedom = max(0, len(set(x_R.tolist())) - 3)

    @property
    def has_valley(self) -> bool:
        """It falls at the smallest size that was tried and rises at the largest, so that its lowest place is between.

        A lowest place beyond the sizes can be anywhere: of losses that only fall, curvature is chance.
        """
        _, slope, curvature = self.coefficients
        ends = [slope + 2 * curvature * x for x in self.span]
        return self.solve_3R.shape[1] >= 3 and bool(ends[0] < 0 < ends[1])

    @property
    def log_best(self) -> float:
        """Logarithm of the size where a valley is lowest."""
        return float(self.log_centre - self.coefficients[1] / (2 * self.coefficients[2]))

    def redrawn(self, spread_S: Array, draw: np.random.Generator) -> Array:
        """Logarithms of the best size when the residuals are drawn again; NaN where no minimum is left."""
        noise_SR = spread_S[:, None] * draw.normal(size=(len(spread_S), self.solve_3R.shape[1]))
        _, slope_S, curvature_S = (self.coefficients + noise_SR @ self.solve_3R.T).T
        with np.errstate(all="ignore"):
            return np.where(curvature_S > 0, self.log_centre - slope_S / (2 * curvature_S), np.nan)

    def valley(self, log_best_S: Array | None) -> Valley:
        level, slope, curvature = (float(value) for value in self.coefficients)
        return Valley(
            flops=self.flops,
            centre=math.exp(self.log_centre),
            level=level,
            slope=slope,
            curvature=curvature,
            parameters=math.exp(self.log_best),
            interval=None if log_best_S is None else _range(log_best_S, np.exp),
        )


@dataclass(frozen=True)
class _Lines:
    intercepts: Array
    slopes: Array


def _lines(x_G: Array, y_SG: Array) -> _Lines:
    """Least-squares lines, one for each row."""
    away_G = x_G - x_G.mean()
    slopes_S = y_SG @ away_G / (away_G @ away_G)
    return _Lines(y_SG.mean(axis=1) - slopes_S * x_G.mean(), slopes_S)


def _power(x_G: Array, y_G: Array) -> Law:
    line = _lines(x_G, y_G[None])
    return Law(coefficient=float(np.exp(line.intercepts[0])), exponent=float(line.slopes[0]))


def _range(values_S: Array, scale: Any = lambda value: value) -> Range | None:
    """The middle 95 %; None when more than 2.5 % of the samples are undefined, so that an end may be anywhere."""
    known_S = values_S[np.isfinite(values_S)]
    if len(known_S) < 0.975 * len(values_S):
        return None
    with np.errstate(over="ignore"):
        low, high = scale(np.quantile(known_S, [0.025, 0.975]))
    return Range(low=float(low), high=float(high)) if np.isfinite(high) else None


@dataclass(frozen=True, kw_only=True)
class Surface:
    """What approach 3 finds: loss = irreducible + A / N^alpha + B / D^beta."""

    irreducible: float
    a: float
    alpha: float
    b: float
    beta: float

    def loss(self, parameters: float, tokens: float) -> float:
        """Of a model of this size after this many tokens."""
        return float(self.irreducible + self.a / parameters**self.alpha + self.b / tokens**self.beta)

    @property
    def law(self) -> Law:
        """The best sizes: N = G (C / 6)^a, a = beta / (alpha + beta), G = (alpha A / beta B)^(1 / (alpha + beta))."""
        total = self.alpha + self.beta
        exponent = self.beta / total
        scale = (self.alpha * self.a / (self.beta * self.b)) ** (1 / total)
        return Law(coefficient=float(scale * 6**-exponent), exponent=float(exponent))


def surface(runs: Sequence[Run], *, seed: int) -> tuple[Surface, Range | None] | None:
    """Approach 3 and the interval of its exponent; None below `ENOUGH` runs or three budgets, or where a term vanishes.

    The loss is Huber's of the difference in log loss. Minimised from several exponents, for which the other three
    parameters are a linear problem; the interval is from runs drawn again within their budgets.
    """
    if len(runs) < ENOUGH or len({run.flops for run in runs}) < 3:
        return None
    every = _Logs.of(runs)
    start = min((every.minimised(one) for one in every.starts()), key=every.objective)
    if (found := every.surface(start)) is None:
        return None
    draw = np.random.default_rng(seed)
    groups = [np.flatnonzero([run.flops == flops for run in runs]) for flops in sorted({run.flops for run in runs})]
    exponents = []
    for _ in range(SURFACE_SAMPLES):
        chosen = np.concatenate([draw.choice(group, len(group)) for group in groups])
        again = every.some(chosen)
        drawn = again.surface(again.minimised(start))
        exponents.append(drawn.law.exponent if drawn else math.nan)
    return found, _range(np.array(exponents))


@dataclass(frozen=True)
class _Logs:
    """Logarithms of sizes, tokens and losses of R runs; a point is (log A, log B, log E, alpha, beta)."""

    n_R: Array
    d_R: Array
    loss_R: Array
    centre: tuple[float, float]

    @classmethod
    def of(cls, runs: Sequence[Run]) -> "_Logs":
        n_R, d_R, loss_R = (np.log([getattr(run, name) for run in runs]) for name in ("parameters", "tokens", "loss"))
        centre = (float(n_R.mean()), float(d_R.mean()))
        return cls(n_R - centre[0], d_R - centre[1], loss_R, centre)

    def some(self, rows: Any) -> "_Logs":
        return _Logs(self.n_R[rows], self.d_R[rows], self.loss_R[rows], self.centre)

    def starts(self, most: int = 4) -> list[Array]:
        """The best of a grid of exponents, the other parameters by non-negative least squares of relative errors."""
        from scipy.optimize import nnls

        losses_R = np.exp(self.loss_R)
        found = []
        for alpha in (0.1, 0.3, 0.6, 1.0):
            for beta in (0.1, 0.3, 0.6, 1.0):
                terms_R3 = np.stack(
                    [np.exp(-alpha * self.n_R), np.exp(-beta * self.d_R), np.ones_like(losses_R)], axis=1
                )
                parts, _ = nnls(terms_R3 / losses_R[:, None], np.ones_like(losses_R))
                found.append(np.array([*np.log(np.maximum(parts, 1e-3)), alpha, beta]))
        return sorted(found, key=self.objective)[:most]

    def minimised(self, start: Array) -> Array:
        from scipy.optimize import minimize

        bounds = [(-20, 5), (-20, 5), (-20, 5), (1e-3, 4), (1e-3, 4)]
        result = minimize(
            self._value_and_gradient,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": 2000, "ftol": 1e-13, "gtol": 1e-9},
        )
        return np.asarray(result.x)

    def objective(self, point: Array) -> float:
        return self._value_and_gradient(point)[0]

    def _value_and_gradient(self, point: Array) -> tuple[float, Array]:
        log_a, log_b, log_e, alpha, beta = point
        logs_3R = np.stack([log_a - alpha * self.n_R, log_b - beta * self.d_R, np.full_like(self.n_R, log_e)])
        total_R = np.logaddexp.reduce(logs_3R, axis=0)
        shares_3R = np.exp(logs_3R - total_R)
        away_R = total_R - self.loss_R
        small_R = np.abs(away_R) <= HUBER
        values_R = np.where(small_R, away_R**2 / (2 * HUBER), np.abs(away_R) - HUBER / 2)
        pull_R = np.clip(away_R / HUBER, -1, 1)
        gradient = [*(shares_3R @ pull_R), -(shares_3R[0] * self.n_R) @ pull_R, -(shares_3R[1] * self.d_R) @ pull_R]
        return float(values_R.sum()), np.array(gradient)

    def surface(self, point: Array) -> Surface | None:
        """The point in plain units; None when a term that depends on size or tokens is negligible."""
        log_a, log_b, log_e, alpha, beta = (float(value) for value in point)
        if min(log_a, log_b) < -12 or min(alpha, beta) < 0.01:
            return None
        return Surface(
            irreducible=math.exp(log_e),
            a=math.exp(log_a + alpha * self.centre[0]),
            alpha=alpha,
            b=math.exp(log_b + beta * self.centre[1]),
            beta=beta,
        )

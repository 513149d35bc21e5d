"""`moteur scaling`: how the best size of a model grows with the compute, fitted from small runs on the tokens here.

Each small run is the stage pretraining in a scratch workspace, with a budget of its own.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flows.comparisons import methods
from flows.comparisons.methods import Page
from flows.reporting import charts
from flows.reporting.charts import Series
from flows.stages import figures
from pipelines import stage
from pipelines.adapters import files, tokens, vocabulary
from pipelines.artifacts import Artifact
from pipelines.core.judging import budgets, scaling, sizes
from pipelines.core.judging.scaling import Law, Run
from pipelines.errors import DataError, ParamsError
from pipelines.params import Model, Params

Say = Callable[[str], None]
NAME = "scaling"
FITTED = methods.FOLDER / f"{NAME}.json"
BUDGETS = (1 / 9, 1 / 3, 1.0)
"""Shares of the greatest compute."""
GREATEST = 1 / 3
"""The greatest compute, as a share of what pretraining is planned to take: all runs then cost about twice the plan."""
QUICK = 1 / 4
"""The same for a quick look, of the greatest of the whole."""
GROWTH = 1.6
"""From one size to the next; five of them span 6.6 times."""
SIZES, QUICK_SIZES, MORE = 5, 4, 4
"""Sizes a budget, and how many more while the lowest loss is at the end of those tried."""
FEWEST_STEPS = 16
"""With fewer steps a run shows its warm-up."""
UNINTERRUPTED = 10**9


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A small run and what it cost."""

    run: Run
    shape: Model
    bits_per_byte: float
    passes: float
    """Over the training text."""
    seconds: float
    again: bool


@dataclass(frozen=True, kw_only=True)
class Known:
    """A law and where it comes from."""

    law: Law
    source: str
    """For a sentence."""


def law(root: Path = Path()) -> Known:
    """The law that was fitted in this workspace; without one, Chinchilla's."""
    try:
        said = json.loads((root / FITTED).read_text(encoding="utf-8"))
        found = Law(**said["law"])
        flops = max(run["flops"] for run in said["runs"])
    except (OSError, ValueError, KeyError, TypeError):
        return Known(
            law=scaling.CHINCHILLA,
            source=f"Chinchilla's {budgets.CHINCHILLA:g} tokens for each parameter, as no law has been fitted here"
            " (`moteur scaling` does)",
        )
    kind = "quick fit" if said.get("quick") else "fit"
    return Known(law=found, source=f"the {kind} of `moteur scaling`, whose runs go up to {flops:.2g} FLOPs")


def run(root: Path, say: Say, *, flops: float | None, quick: bool) -> Path:
    """Make the runs that have not been made yet, fit, write the page, show the table; return the page.

    Raises:
        ParamsError: when the compute is too small, and as in `planned_flops`.
        ArtifactError: when there are no tokens.
        DataError: when the runs show no best size.
    """
    params = stage.load_params()
    planned = planned_flops(params)
    greatest = flops or planned * GREATEST * (QUICK if quick else 1)
    small = _Small(root, params, folder=methods.folder(NAME, quick=quick))
    small.refuse_too_little(greatest * BUDGETS[0])
    tried: list[Tried] = []
    guess = scaling.CHINCHILLA.parameters(greatest * BUDGETS[0])
    for number, share in enumerate(BUDGETS, 1):
        say(f"[{number}/{len(BUDGETS)}] {greatest * share:.2e} FLOPs")
        found = list(_searched(small, greatest * share, guess, QUICK_SIZES if quick else SIZES, say))
        tried += found
        best = min(found, key=lambda one: one.run.loss).run
        guess = best.parameters * math.sqrt(3)
    every = [one.run for one in tried]
    fit = scaling.fit(every, at=planned, seed=params.seed)
    if fit is None:
        raise DataError(
            f"Losses of these {len(every)} runs show a best size, between those that were tried, at fewer than two of"
            f" the {len(BUDGETS)} budgets, so that no law is fitted: more compute tells sizes apart, and pays for"
            f" larger ones. Run `moteur scaling --flops {3 * greatest:.1e}`; runs that are finished are not made again."
        )
    page = drawn(params, tried, fit, scaling.surface(every, seed=params.seed), quick=quick)
    path = methods.write(page, _values(tried, fit, quick=quick))
    say(methods.table(page))
    for sentence in page.summary:
        say(sentence)
    return path


def planned_flops(params: Params) -> float:
    """Compute of pretraining as params.yaml has it, of a model from scratch.

    Raises:
        ParamsError: when the budget is not settled, or pays for less than one step.
    """
    settings, parameters = params.pretraining, sizes.parameters(params.model, vocabulary.size(params))
    tokens = budgets.pretraining_tokens(
        settings.budget,
        max_tokens=settings.max_tokens,
        parameters=parameters,
        step_tokens=settings.batch_size * settings.context,
    )
    return budgets.training_flops(parameters, tokens)


class _Small:
    """Small runs of pretraining in scratch workspaces."""

    def __init__(self, root: Path, params: Params, *, folder: str) -> None:
        self.root, self.params, self.folder = root, params, folder
        self.inputs = methods.reads(root, "pretraining")
        index = root / Artifact.TOKENS / tokens.INDEX
        self.vocab_size = files.read_json(index)["vocab_size"] if index.exists() else params.tokenization.vocab_size

    @property
    def step_tokens(self) -> int:
        return self.params.pretraining.batch_size * self.params.pretraining.context

    def shape(self, parameters: float) -> Model:
        return sizes.resized(self.params.model, parameters, self.vocab_size)

    def refuse_too_little(self, flops: float) -> None:
        """The smallest budget must train its middle model for some steps.

        Raises:
            ParamsError: naming the compute that suffices.
        """
        least = self.step_tokens * FEWEST_STEPS
        parameters = sizes.parameters(self.shape(scaling.CHINCHILLA.parameters(flops)), self.vocab_size)
        if budgets.affordable(flops, parameters) < least:
            enough = budgets.training_flops(parameters, least) / BUDGETS[0]
            raise ParamsError(
                f"The smallest of the budgets, {flops:.2e} FLOPs, pays for fewer than {FEWEST_STEPS} steps of"
                f" {self.step_tokens:,} tokens of a model of {parameters:,} parameters: give --flops {2 * enough:.1e}"
                " or more"
            )

    def run(self, flops: float, shape: Model) -> Tried:
        """One run, unless it was made before."""
        changes = {key: value for key, value in shape.model_dump().items() if value != getattr(self.params.model, key)}
        settings = {"init": None, "budget": f"{flops:.9g} FLOPs", "evaluate_every": UNINTERRUPTED}
        parameters = sizes.parameters(shape, self.vocab_size)
        place = methods.scratch(
            self.root,
            self.folder,
            f"{flops:.2e}-{parameters}",
            {"model": changes, "pretraining": settings},
            self.inputs,
            stage="pretraining",
        )
        outcome = place.outcome("pretraining", Artifact.PRETRAINING_REPORT.value)
        said = outcome.report
        return Tried(
            run=Run(flops=flops, parameters=said["num_parameters"], tokens=said["num_tokens"], loss=said["val_loss"]),
            shape=shape,
            bits_per_byte=said["val_bits_per_byte"],
            passes=said["num_epochs"],
            seconds=outcome.seconds,
            again=outcome.again,
        )


def _searched(small: _Small, flops: float, guess: float, number: int, say: Say) -> Iterator[Tried]:
    """Runs at one budget: sizes about the guess, then more at the end where the loss is still falling."""
    shapes = [small.shape(guess * GROWTH ** (place - (number - 1) / 2)) for place in range(number)]
    known: dict[int, Tried] = {}
    for shape in shapes:
        yield from _once(small, flops, shape, known, say)
    for _ in range(MORE):
        order = sorted(known)
        best = min(order, key=lambda size: known[size].run.loss)
        if best not in (order[0], order[-1]):
            return
        before = len(known)
        yield from _once(small, flops, small.shape(best * (GROWTH if best == order[-1] else 1 / GROWTH)), known, say)
        if len(known) == before:  # there is no smaller model, or no time for a larger one
            return


def _once(small: _Small, flops: float, shape: Model, known: dict[int, Tried], say: Say) -> Iterator[Tried]:
    parameters = sizes.parameters(shape, small.vocab_size)
    if parameters in known or budgets.affordable(flops, parameters) < small.step_tokens * FEWEST_STEPS:
        return
    known[parameters] = one = small.run(flops, shape)
    say(
        f"      {figures.short(parameters)} parameters, {figures.short(one.run.tokens)} tokens: loss"
        f" {one.run.loss:.4f}, {'made before' if one.again else figures.duration(one.seconds)}"
    )
    yield one


def _values(tried: Sequence[Tried], fit: scaling.Fit, *, quick: bool) -> dict[str, Any]:
    return {
        "quick": quick,
        "law": asdict(fit.law),
        "exponent_95": asdict(fit.exponent) if fit.exponent else None,
        "valleys": [asdict(valley) for valley in fit.valleys],
        "runs": [
            asdict(one.run)
            | {"bits_per_byte": one.bits_per_byte, "passes": one.passes, "seconds": one.seconds}
            | one.shape.model_dump(include={"hidden_size", "num_layers", "num_heads", "intermediate_size"})
            for one in tried
        ],
    }


COLUMNS = ("FLOPs", "runs", "best size (95 %)", "tokens", "tokens/parameter", "held-out loss", "time")


def drawn(
    params: Params,
    tried: Sequence[Tried],
    fit: scaling.Fit,
    surface: tuple[scaling.Surface, scaling.Range | None] | None,
    *,
    quick: bool,
) -> Page:
    """The page."""
    return Page(
        name=NAME,
        title="Scaling law",
        summary=[
            *_sentences(params, tried, fit, surface),
            *(["A quick look: fewer sizes and less compute, so that the law is rough."] if quick else []),
        ],
        columns=COLUMNS,
        rows=[_row(budget, runs, valley) for budget, runs, valley in _by_budget(tried, fit)],
        figures={
            "Held-out loss over size, at three budgets": _isoflop_chart(tried, fit),
            "The best size over compute": _law_chart(fit),
        },
        notes=[
            (
                "Hoffmann et al. 2022 (arXiv:2203.15556), approach 2: at each budget of compute C models of several"
                " sizes N are trained on C / 6N tokens, a parabola of the loss over log N gives the best size, and a"
                " power law goes through the best sizes. Intervals are 95 %, from the residuals about the parabolas;"
                " they do not know how far the law holds beyond its runs."
            ),
            (
                "N counts all parameters, embeddings included; shapes keep the proportions of section model. Loss is"
                " nats for each token of the whole validation split. Learning rate and batch are those of params.yaml"
                " for every size."
            ),
            _passes(max(one.passes for one in tried)),
        ],
    )


def _passes(most: float) -> str:
    text = f"The longest run passes {most:.2g} times over the training text"
    return f"{text}: the law is of repeated text too." if most > 1 else f"{text}, so that no text is repeated."


def _by_budget(tried: Sequence[Tried], fit: scaling.Fit) -> Iterator[tuple[float, list[Tried], scaling.Valley | None]]:
    """FLOPs, the runs that they were spent on, and their valley; None: no best size lies between those."""
    valleys = {valley.flops: valley for valley in fit.valleys}
    for flops in sorted({one.run.flops for one in tried}):
        yield flops, [one for one in tried if one.run.flops == flops], valleys.get(flops)


def _sentences(
    params: Params,
    tried: Sequence[Tried],
    fit: scaling.Fit,
    surface: tuple[scaling.Surface, scaling.Range | None] | None,
) -> Iterator[str]:
    exponent = fit.law.exponent
    of_tokens = scaling.Range(low=1 - fit.exponent.high, high=1 - fit.exponent.low) if fit.exponent else None
    yield (
        f"The best size grows as compute to the power of {exponent:.2f}{_between(fit.exponent)}, the tokens as"
        f" {1 - exponent:.2f}{_between(of_tokens)}; Chinchilla found 0.49 and 0.51 by this approach."
    )
    size, tokens = fit.law.parameters(fit.at), fit.law.tokens(fit.at)
    planned = sizes.parameters(params.model, vocabulary.size(params))
    there = fit.parameters_there
    yield (
        f"For the {fit.at:.2e} FLOPs that params.yaml plans, the law has {figures.short(size)} parameters"
        f"{f' (95 %: {figures.short(there.low)} to {figures.short(there.high)})' if there else ''} and"
        f" {figures.short(tokens)} tokens, {tokens / size:.2g} for each parameter (Chinchilla: {budgets.CHINCHILLA:g});"
        f" planned are {figures.short(planned)} and {figures.short(budgets.affordable(fit.at, planned))}."
    )
    if left_out := [f"{budget:.2e}" for budget, _, valley in _by_budget(tried, fit) if valley is None]:
        yield (
            f"At {', '.join(left_out)} FLOPs the best size does not lie between those that were tried, and where it"
            " does lie would be a guess: the law leaves these runs out."
        )
    if surface is not None:
        found, around = surface
        yield (
            f"Cross-check, approach 3: loss = {found.irreducible:.2f} + {found.a:.3g} / N^{found.alpha:.2f} +"
            f" {found.b:.3g} / D^{found.beta:.2f}, so that the exponent of the size is {found.law.exponent:.2f}"
            f"{_between(around)}."
        )
    else:
        yield "Cross-check, approach 3: these runs do not determine its five parameters."


def _between(interval: scaling.Range | None) -> str:
    return f" (95 %: {interval.low:.2f} to {interval.high:.2f})" if interval else " (no interval: too few runs tell)"


def _row(budget: float, runs: Sequence[Tried], valley: scaling.Valley | None) -> list[str]:
    best = ["not between these", "", "", ""]
    if valley:
        around = valley.interval
        best = [
            figures.short(valley.parameters)
            + (f" ({figures.short(around.low)} to {figures.short(around.high)})" if around else ""),
            figures.short(valley.tokens),
            f"{valley.tokens / valley.parameters:.2g}",
            f"{valley.loss(valley.parameters):.3f}",
        ]
    return [f"{budget:.2e}", str(len(runs)), *best, figures.duration(sum(one.seconds for one in runs))]


def _isoflop_chart(tried: Sequence[Tried], fit: scaling.Fit) -> str:
    series = []
    for colour, (budget, runs, valley) in enumerate(_by_budget(tried, fit), 1):
        points = sorted((one.run.parameters, one.run.loss) for one in runs)
        name = f"{budget:.2g} FLOPs".replace("e+", "e")
        if valley:
            low, high = points[0][0], points[-1][0]
            along = [low * (high / low) ** (step / 40) for step in range(41)]
            curve = [(size, valley.loss(size)) for size in along]
            series.append(Series(name=name, points=curve, colour=colour, dashed=True))
        series.append(Series(name=name, points=points, colour=colour, bare=True))
    return charts.line_chart(series, "parameters", "nats per token", logarithmic="x")


def _law_chart(fit: scaling.Fit) -> str:
    first = fit.valleys[0].flops
    ends = [first, max(fit.at, fit.valleys[-1].flops)]
    bars = [
        Series(name="best size", points=[(at, around.low), (at, around.high)], colour=1)
        for at, around in [(valley.flops, valley.interval) for valley in fit.valleys] + [(fit.at, fit.parameters_there)]
        if around
    ]
    return charts.line_chart(
        [
            *bars,
            Series(
                name="best size",
                points=[(valley.flops, valley.parameters) for valley in fit.valleys],
                colour=1,
                bare=True,
            ),
            Series(name="fitted law", points=[(at, fit.law.parameters(at)) for at in ends], colour=2),
            Series(name="Chinchilla", points=[(at, scaling.CHINCHILLA.parameters(at)) for at in ends], colour=3),
        ],
        "FLOPs",
        "parameters",
        mark=(fit.at, "planned"),
        logarithmic="xy",
    )

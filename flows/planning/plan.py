"""`moteur plan`: what a run will cost, before it runs; and what was planned beside what was used."""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from flows import terminal
from flows.planning import budgeting, scaling, speed
from flows.planning.speed import Speed
from flows.stages import figures, graph, ledger
from pipelines import stage as frame
from pipelines.adapters import tokens as shards
from pipelines.adapters import vocabulary
from pipelines.adapters.checkpoints import KEPT
from pipelines.artifacts import Artifact
from pipelines.core.judging import budgets, sizes
from pipelines.core.learning import pace
from pipelines.errors import ParamsError
from pipelines.params import Params

ALIKE = (0.8, 1.25)
"""Ratios of sizes that are not worth a change: the loss is flat there, and a measured speed varies as much."""

MODELS = [one for one in Artifact if one.startswith("models/") and one is not Artifact.TOKENIZER]
"""What stages keep of the size of the base model, or less."""
OTHERWISE = "its last run here had other settings"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one stage will take; None: not known before it has run once here."""

    stage: str
    tokens: float | None
    flops: float | None
    seconds: float | None
    basis: str
    """Where the time comes from."""


def show(source: Path, *, apply: budgeting.What | None = None) -> None:
    """Print the plan for the workspace, which is the current folder.

    Args:
        source: Where the user's values stand: params.yaml, or a profile.
        apply: First settle the budget and write what it comes to into `source`.
    """
    console = terminal.console()
    params = frame.load_params()
    if apply is not None:
        choice = budgeting.chosen(params, apply, scaling.law(), speed.measured)
        params = budgeting.write(source, choice, params)
        _say(console, [f"Written to {source}: {choice.reason}.", *_changed(choice)])
    pipeline = graph.lifecycle(params)
    before = ledger.last_finished()
    measured = _speed(params, before)
    _say(console, model_lines(params))
    console.print(_table(estimate(params, pipeline, before, measured), pipeline))
    _say(console, [*disk_lines(params, Path()), *graph.ending(params)])
    if rows := used(pipeline, before):
        _say(console, ["", "The last runs here, planned / used:"])
        console.print(_used_table(rows))


def _say(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def _changed(choice: budgeting.Choice) -> list[str]:
    return [f"  {section}.{key}: {value}" for section, keys in choice.changes.items() for key, value in keys.items()]


def parameters(params: Params) -> int:
    """Parameters of the model that `params` describe; other architectures than llama come near to it."""
    return sizes.parameters(params.model, vocabulary.size(params))


def tokens(params: Params) -> int:
    """Tokens of pretraining: `max_tokens`, or what the budget pays for.

    Raises:
        ParamsError: when the budget is not settled, or pays for less than one step.
    """
    settings = params.pretraining
    return budgets.pretraining_tokens(
        settings.budget,
        max_tokens=settings.max_tokens,
        parameters=parameters(params),
        step_tokens=settings.batch_size * settings.context,
    )


def refuse_unsettled(params: Params) -> None:
    """Refuse a budget with which pretraining would end in an error, before the stages above it take their time.

    Raises:
        ParamsError: as in `tokens`; of a model that `pretraining.init` names only the stage knows the size.
    """
    if params.pretraining.init is None or not budgeting.is_settled(params):
        tokens(params)


def model_lines(params: Params) -> list[str]:
    """Size and compute of pretraining in words."""
    if params.pretraining.init is not None:
        return [f"Pretraining goes on from {params.pretraining.init}: its size is known once it is loaded."]
    size, shape = parameters(params), f"{params.model.num_layers} layers of {params.model.hidden_size}"
    if params.ends_with_base:
        shape = f"about as many as the llama of {shape} has; {params.ends_with_base}"
    model = f"Model: {figures.short(size)} parameters ({shape})."
    try:
        seen = tokens(params)
    except ParamsError as error:
        return [model, f"Pretraining: not settled. {error}."]
    flops = budgets.training_flops(size, seen)
    compute = f"{flops:.2e} FLOPs = {budgets.petaflop_s_days(flops):.2e} petaflop/s-days"
    ratio = budgets.tokens_per_parameter(seen, size)
    known = scaling.law()
    best = budgeting.best_shape(params, flops, known)
    best_size = sizes.parameters(best, vocabulary.size(params))
    by = f", by pretraining.budget: {params.pretraining.budget}" if params.pretraining.budget else ""
    return [
        model,
        f"Pretraining: {figures.short(seen)} tokens, {compute}{by}.",
        f"Tokens for each parameter: {ratio:.2g}; compute-optimal at scale are {budgets.CHINCHILLA:g} (Chinchilla).",
        f"The best use of these FLOPs: {figures.short(best_size)} parameters ({best.num_layers} layers of"
        f" {best.hidden_size}) and {figures.short(budgets.affordable(flops, best_size))} tokens, by {known.source}."
        + ("" if ALIKE[0] < size / best_size < ALIKE[1] else " `moteur plan --apply size` writes that."),
    ]


def _speed(params: Params, before: Mapping[str, ledger.Entry]) -> Speed | None:
    """Of training, where no run tells; None when it cannot be measured."""
    if _tells(before.get("pretraining"), params) or params.pretraining.init is not None:
        return None
    try:
        return speed.known(params) or speed.measured(params)
    except speed.NotMeasured:
        return None


def estimate(
    params: Params, pipeline: graph.Graph, before: Mapping[str, ledger.Entry], measured: Speed | None
) -> list[Cost]:
    """One cost for each stage: from what it took here before, scaled by FLOPs where both are known."""
    known = _planned(params)
    telling = {name: entry for name, entry in before.items() if name != "pretraining" or _tells(entry, params)}
    costs = [_cost(name, known.get(name), telling.get(name), measured) for name in pipeline.names]
    return [replace(cost, basis=OTHERWISE) if cost.seconds is None and cost.stage in before else cost for cost in costs]


def _tells(entry: ledger.Entry | None, params: Params) -> bool:
    """Whether a run of pretraining, scaled by FLOPs, tells how long one with these params takes."""
    return entry is not None and entry.get("pace") == pace.key(params)


def record(run: str, params: Params, pipeline: graph.Graph, due: set[str]) -> None:
    """Keep what is planned for a run, so that the ledger can show it beside what is used; nothing is measured."""
    costs = estimate(params, pipeline, ledger.last_finished(), speed.known(params))
    ledger.plan(
        {"run": run, "stage": cost.stage, "tokens": cost.tokens, "flops": cost.flops, "seconds": cost.seconds}
        for cost in costs
        if cost.stage in due
    )


def _planned(params: Params) -> dict[str, tuple[float, float]]:
    """Stage -> (tokens, FLOPs) where params alone tell; upper bounds."""
    if params.pretraining.init is not None:
        return {}
    try:
        seen = tokens(params)
    except ParamsError:
        return {}
    return {"pretraining": (float(seen), budgets.training_flops(parameters(params), seen))}


def _cost(name: str, planned: tuple[float, float] | None, before: ledger.Entry | None, measured: Speed | None) -> Cost:
    seen, flops = planned or (None, None)
    if before:
        factor = flops / before["flops"] if flops and before["flops"] else 1.0
        return Cost(
            stage=name,
            tokens=seen or before["tokens"] or None,
            flops=flops or before["flops"] or None,
            seconds=before["seconds"] * factor,
            basis="its last run here" + ("" if abs(factor - 1) < 0.01 else f", times {factor:.2f}"),
        )
    if flops and measured:
        seconds = budgets.seconds(flops, measured.flops_per_second)
        basis = f"{measured.tokens_per_second:,.0f} tokens/s = {measured.flops_per_second / 1e9:,.1f} GFLOP/s, measured"
        return Cost(stage=name, tokens=seen, flops=flops, seconds=seconds, basis=basis)
    return Cost(stage=name, tokens=seen, flops=flops, seconds=None, basis="known once it has run here")


def _table(costs: list[Cost], pipeline: graph.Graph) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("stage", "tokens", "FLOPs", "petaflop/s-days", "time", "estimated from"):
        shown.add_column(name, justify="left" if name in ("stage", "estimated from") else "right", overflow="fold")
    for cost in costs:
        due = cost.stage in pipeline.stale
        shown.add_row(
            cost.stage,
            figures.short(cost.tokens) if cost.tokens else "",
            f"{cost.flops:.2e}" if cost.flops else "",
            f"{budgets.petaflop_s_days(cost.flops):.1e}" if cost.flops else "",
            "up to date" if not due else figures.duration(cost.seconds) if cost.seconds is not None else "?",
            cost.basis if due else "",
        )
    due_costs = [cost for cost in costs if cost.stage in pipeline.stale]
    total = sum(cost.seconds for cost in due_costs if cost.seconds is not None)
    unknown = sum(cost.seconds is None for cost in due_costs)
    more = f"and {unknown} stages whose time is not known" if unknown else ""
    shown.add_row("all", "", "", "", figures.duration(total), more, style="bold")
    return shown


@dataclass(frozen=True, kw_only=True)
class Used:
    """One stage's last run, planned beside used, as text: "planned / used", or only what is known."""

    stage: str
    tokens: str
    ratio: str
    """Tokens for each parameter of the base model, used."""
    flops: str
    days: str
    """Petaflop/s-days."""
    time: str


def used(pipeline: graph.Graph, efforts: Mapping[str, ledger.Entry]) -> list[Used]:
    """The stages whose last run had a plan, in the order of the graph."""
    planned = ledger.planned(efforts.values())
    size = ledger.reports().get("pretraining", {}).get("num_parameters")
    return [compared(name, efforts[name], planned[name], size) for name in pipeline.names if name in planned]


def compared(stage: str, entry: ledger.Entry, plan: ledger.Planned, size: Any) -> Used:
    """One row; `size` is the number of parameters of the base model, where it is known."""

    def both(key: str, write: figures.Write) -> str:
        before, after = plan[key], entry[key]  # type: ignore[literal-required]
        return f"{write(before) if before else '?'} / {write(after)}" if after else ""

    return Used(
        stage=stage,
        tokens=both("tokens", figures.short),
        ratio=f"{entry['tokens'] / size:.2g}" if size and entry["flops"] else "",
        flops=both("flops", lambda value: f"{value:.2e}"),
        days=both("flops", lambda value: f"{budgets.petaflop_s_days(value):.1e}"),
        time=both("seconds", figures.duration),
    )


def _used_table(rows: Iterable[Used]) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("stage")
    for name in ("tokens", f"tokens/parameter ({budgets.CHINCHILLA:g})", "FLOPs", "petaflop/s-days", "time"):
        shown.add_column(name, justify="right", overflow="fold")
    for row in rows:
        shown.add_row(row.stage, row.tokens, row.ratio, row.flops, row.days, row.time)
    return shown


def disk_lines(params: Params, root: Path) -> list[str]:
    """What the run puts on the disk beside what is free; a warning when it does not fit."""
    if params.pretraining.init is not None:
        return []
    need = budgets.disk(
        parameters=parameters(params),
        tokens=_corpus_tokens(params, root),
        token_bytes=np.dtype(shards.dtype_for(vocabulary.size(params))).itemsize,
        models=len(MODELS),
        candidates=params.compression.num_candidates,
        checkpoints=KEPT + 1,
        pinned=None if params.ends_with_base else 1 + (params.ppo.iterations - 1) // params.ppo.measure_every,
    )
    free = shutil.disk_usage(root).free
    data = "; the data are not counted, as their size is not known before tokenization has run"
    if need.data is not None:
        data = f", data {figures.size(need.data)}"
    line = (
        f"Disk: about {figures.size(need.total)} (models {figures.size(need.weights)}, checkpoints"
        f" {figures.size(need.checkpoints)}{data}); {figures.size(free)} are free."
    )
    return [line] if need.total < free else [line, "This does not fit: free some space, or give --workspace DIR."]


def _corpus_tokens(params: Params, root: Path) -> int | None:
    """Tokens of the corpus as it was last written, or about those of the local files it is made from; None: not known.

    Every file below `ingestion.root` counts, those of instructions too. What is made up or fetched has no known size.
    """
    if (found := shards.count(root / Artifact.TOKENS)) is not None:
        return found
    settings = params.ingestion
    sources = [
        source for split in (settings.corpus.train, settings.corpus.valid, settings.corpus.test) for source in split
    ]
    if any("://" in source.uri for source in sources):
        return None
    written = sum(path.stat().st_size for path in (root / settings.root).rglob("*") if path.is_file())
    return written // budgets.TOKEN_TEXT_BYTES

"""`moteur plan`: what a run will cost, before it runs."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from flows import figures, graph, ledger
from pipelines import stage as frame
from pipelines.core.judging import budgets
from pipelines.params import Params

GEMM = (
    "import time, torch; from pipelines.adapters import device; n=1024\n"
    "a, b = torch.randn(2, n, n, device=device.prepare(0, {threads})).to(device.precision('{precision}')); a@b\n"
    "s=time.perf_counter(); k=0\n"
    "while time.perf_counter()-s<1.0: (a@b)[0,0].item(); k+=1\n"
    "print(2*n**3*k/(time.perf_counter()-s))"
)
"""Measured in a process of its own, for flows never import torch: FLOP/s of a large matrix product."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one stage will take; None: not known before it has run once here."""

    stage: str
    tokens: float | None
    flops: float | None
    seconds: float | None
    basis: str
    """Where the time comes from."""


def show() -> None:
    """Print the plan for the workspace, which is the current folder."""
    console = Console(highlight=False)
    params = frame.load_params()
    pipeline = graph.lifecycle(params)
    for line in model_lines(params):
        console.print(line, markup=False, soft_wrap=True)
    costs = estimate(params, pipeline, ledger.last_finished())
    console.print(_table(costs, pipeline))
    for line in [*disk_lines(params, Path()), *graph.ending(params)]:
        console.print(line, markup=False, soft_wrap=True)


def parameters(params: Params) -> int:
    """Parameters of the model that `params` describe; other architectures than llama come near to it."""
    model = params.model
    return budgets.llama_parameters(
        vocab_size=params.tokenization.vocab_size,
        hidden_size=model.hidden_size,
        num_layers=model.num_layers,
        intermediate_size=model.intermediate_size,
        tie_embeddings=model.tie_embeddings,
    )


def model_lines(params: Params) -> list[str]:
    """Size and compute of pretraining in words."""
    if params.pretraining.init is not None:
        return [f"Pretraining goes on from {params.pretraining.init}: its size is known once it is loaded."]
    size, tokens = parameters(params), params.pretraining.max_tokens
    flops = budgets.training_flops(size, tokens)
    ratio = budgets.tokens_per_parameter(tokens, size)
    compute = f"{flops:.2e} FLOPs = {budgets.petaflop_s_days(flops):.2e} petaflop/s-days"
    kind = f"{params.model.num_layers} layers of {params.model.hidden_size}"
    if params.ends_with_base:
        kind = f"about as many as the llama of {kind} has; {params.ends_with_base}"
    return [
        f"Model: {figures.short(size)} parameters ({kind}).",
        f"Pretraining: {figures.short(tokens)} tokens, {compute}.",
        f"Tokens for each parameter: {ratio:.2g}; compute-optimal at scale are {budgets.CHINCHILLA:g} (Chinchilla).",
    ]


def estimate(params: Params, pipeline: graph.Graph, before: dict[str, ledger.Entry]) -> list[Cost]:
    """One cost for each stage: from what it took here before, scaled by FLOPs where both are known."""
    known = _planned(params)
    speed = None if set(known) <= set(before) else gemm_speed(params)
    return [_cost(name, known.get(name), before.get(name), speed) for name in pipeline.names]


def _planned(params: Params) -> dict[str, tuple[float, float]]:
    """Stage -> (tokens, FLOPs) where params alone tell; upper bounds."""
    if params.pretraining.init is not None:
        return {}
    size = parameters(params)
    tokens = float(params.pretraining.max_tokens)
    return {"pretraining": (tokens, budgets.training_flops(size, tokens))}


def _cost(name: str, planned: tuple[float, float] | None, before: ledger.Entry | None, speed: float | None) -> Cost:
    tokens, flops = planned or (None, None)
    if before:
        factor = flops / before["flops"] if flops and before["flops"] else 1.0
        return Cost(
            stage=name,
            tokens=tokens or before["tokens"] or None,
            flops=flops or before["flops"] or None,
            seconds=before["seconds"] * factor,
            basis="its last run here" + ("" if abs(factor - 1) < 0.01 else f", times {factor:.2f}"),
        )
    if flops and speed:
        seconds = budgets.seconds(flops, speed * budgets.SMALL_MODEL_UTILISATION)
        basis = f"a matrix product at {speed / 1e9:,.0f} GFLOP/s, {budgets.SMALL_MODEL_UTILISATION:.0%} of it used"
        return Cost(stage=name, tokens=tokens, flops=flops, seconds=seconds, basis=basis)
    return Cost(stage=name, tokens=tokens, flops=flops, seconds=None, basis="known once it has run here")


def gemm_speed(params: Params) -> float | None:
    """FLOP/s of a matrix product in the dtype of training, measured for a second; None when torch does not start."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", GEMM.format(threads=params.threads, precision=params.pretraining.precision)],
        capture_output=True,
        text=True,
        check=False,
    )
    return float(done.stdout) if done.returncode == 0 else None


def _table(costs: list[Cost], pipeline: graph.Graph) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("stage", "tokens", "FLOPs", "time", "estimated from"):
        shown.add_column(name, justify="left" if name in ("stage", "estimated from") else "right", overflow="fold")
    for cost in costs:
        due = cost.stage in pipeline.stale
        shown.add_row(
            cost.stage,
            figures.short(cost.tokens) if cost.tokens else "",
            f"{cost.flops:.2e}" if cost.flops else "",
            "up to date" if not due else figures.duration(cost.seconds) if cost.seconds is not None else "?",
            cost.basis if due else "",
        )
    due_costs = [cost for cost in costs if cost.stage in pipeline.stale]
    total = sum(cost.seconds for cost in due_costs if cost.seconds is not None)
    unknown = sum(cost.seconds is None for cost in due_costs)
    more = f"and {unknown} stages that have not run here" if unknown else ""
    shown.add_row("all", "", "", figures.duration(total), more, style="bold")
    return shown


def disk_lines(params: Params, root: Path) -> list[str]:
    """What the run puts on the disk beside what is free; a warning when it does not fit."""
    if params.pretraining.init is not None:
        return []
    need = budgets.disk(
        parameters=parameters(params),
        tokens=params.pretraining.max_tokens,
        vocab_size=params.tokenization.vocab_size,
        candidates=3 + 2 * len(params.compression.sparsities),
    )
    free = shutil.disk_usage(root).free
    line = (
        f"Disk: about {figures.size(need.total)} (models {figures.size(need.weights)}, checkpoints"
        f" {figures.size(need.checkpoints)}, data {figures.size(need.data)}); {figures.size(free)} are free."
    )
    return [line] if need.total < free else [line, "This does not fit: free some space, or give --workspace DIR."]

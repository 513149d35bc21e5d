"""`moteur run`: nothing to do, or the flow; then the table and where to look next."""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from flows import terminal
from flows.planning import plan as planning
from flows.reporting import page
from flows.stages import figures, graph, ledger
from pipelines.adapters import locks
from pipelines.artifacts import State
from pipelines.errors import ResourceError
from pipelines.params import Params

if TYPE_CHECKING:
    from flows.lifecycle import flow

INTERRUPTED = 130
MOMENT = 1.0
"""How long `moteur status` may look at the lock, at most (seconds)."""


def run(root: Path, *, start: str | None, force: bool) -> int:
    """Bring the workspace `root`, the current folder, up to date; return the exit code.

    Raises:
        ParamsError: when params.yaml is wrong; then nothing is touched.
        ResourceError: when another process does so already.
    """
    from pipelines import stage

    params = stage.load_params()
    planning.refuse_unsettled(params)

    def busy(holder: str) -> Exception:
        return ResourceError(f"`moteur run` is at work here already, as process {holder}: wait for it, or stop it")

    with locks.holding(State.RUNNING.path, wait=MOMENT, busy=busy):
        return _run(root, params, start=start, force=force)


def _run(root: Path, params: Params, *, start: str | None, force: bool) -> int:
    console = terminal.console()
    pipeline = graph.lifecycle(params)
    for name, process in pipeline.running.items():
        raise ResourceError(f"DVC runs the stage {name} here already, as process {process}: wait for it, or stop it")
    if not (pipeline.changes or force or start):
        console.print("Nothing to do: every stage is up to date with its code, params and inputs.")
        drain()
        if not page.PATH.exists():
            page.write()
        _close(console, params, pipeline, ran=None)
        return 0
    from flows.lifecycle import flow

    plan = flow.plan(pipeline, force=force, start=start)
    _announce(console, plan, root)
    planning.record(plan.run, params, pipeline, plan.due)
    try:
        flow.run(plan, lambda text: console.print(text, markup=False, soft_wrap=True))
    except (KeyboardInterrupt, SystemExit) as stop:
        console.print("Stopped. `moteur run` goes on where it was.")
        return int(stop.code or INTERRUPTED) if isinstance(stop, SystemExit) else INTERRUPTED
    _close(console, params, pipeline, ran=ledger.of_run(plan.run))
    return 0


def _announce(console: Console, plan: "flow.Plan", root: Path) -> None:
    console.print(f"Run {plan.run} in {root}", markup=False, soft_wrap=True)
    if set(plan.pipeline.changes) == set(plan.pipeline.names):
        console.print("  every stage is new here or changed")
        return
    for name, reasons in plan.pipeline.changes.items():
        more = f" and {len(reasons) - 2} more" if len(reasons) > 2 else ""
        console.print(f"  {name}: {'; '.join(reasons[:2])}{more}", markup=False, soft_wrap=True)


def drain() -> None:
    """Hand what runs without us left in the spools to MLflow."""
    from pipelines.adapters import mlflow_sink

    if mlflow_sink.pending():
        subprocess.run([sys.executable, "-m", "pipelines.adapters.mlflow_sink"], check=False)


def _close(console: Console, params: Params, pipeline: graph.Graph, ran: dict[str, ledger.Entry] | None) -> None:
    console.print(table(pipeline, ran))
    for line in [*graph.ending(params), *look_next(talks=not params.ends_with_base)]:
        console.print(line, markup=False, soft_wrap=True)


def table(pipeline: graph.Graph, ran: dict[str, ledger.Entry] | None) -> Table:
    """Stage, time used and, where there was a plan, planned, peak memory, what it made.

    Stages that are not in `ran` are unchanged.
    """
    reports, before = ledger.reports(), ledger.last_finished()
    expected = {
        name: figures.duration(plan["seconds"])
        for name, plan in ledger.planned((ran or {}).values()).items()
        if plan["seconds"]
    }
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("stage")
    shown.add_column("time", justify="right")
    if expected:
        shown.add_column("planned", justify="right")
    shown.add_column("memory", justify="right")
    shown.add_column("made", overflow="fold")
    for node in pipeline.nodes:
        entry = (ran or {}).get(node.name)
        memory = entry or before.get(node.name)
        shown.add_row(
            node.name,
            figures.duration(entry["seconds"]) if entry else "unchanged",
            *([expected.get(node.name, "")] if expected else []),
            f"{memory['peak_memory_mib']:,.0f} MiB" if memory else "",
            figures.sentence(node.name, reports.get(node.name, {})),
        )
    if ran:
        total = sum(entry["seconds"] for entry in ran.values())
        peak = max(entry["peak_memory_mib"] for entry in ran.values())
        blank = [""] if expected else []
        shown.add_row("all", figures.duration(total), *blank, f"{peak:,.0f} MiB", "", style="bold")
    return shown


def look_next(*, talks: bool = True) -> list[str]:
    """Three lines: the page, the curves, the model itself if it talks."""
    from pipelines.adapters import mlflow_sink

    here = Path.cwd()
    uri = mlflow_sink.shown_uri()
    elsewhere = "" if here == _checkout() else f" --workspace {here}"
    curves = f"mlflow ui --backend-store-uri {uri}" if uri.startswith("sqlite:") else uri
    return [
        f"Report:  {here / page.PATH}",
        f"Curves:  {curves}",
        *([f"Talk:    moteur chat{elsewhere}"] if talks else []),
    ]


def _checkout() -> Path:
    return Path(__file__).resolve().parents[2]

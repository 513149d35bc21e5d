"""`moteur status`: which stages are up to date, which changed and why; the release; the last runs; what is up."""

from pathlib import Path

from rich.table import Table

from flows import terminal
from flows.lifecycle import live, run
from flows.stages import figures, graph, ledger
from pipelines.adapters import locks
from pipelines.artifacts import Artifact, State

LAST_RUNS = 5


def show() -> None:
    """Print the state of the workspace, which is the current folder."""
    from pipelines import stage

    console = terminal.console()
    params = stage.load_params()
    pipeline = graph.lifecycle(params)
    run.drain()
    console.print(stages(pipeline))
    reports = ledger.reports()
    for line in release(reports):
        console.print(line, markup=False, soft_wrap=True)
    going_on = locks.held(State.RUNNING.path)
    if runs := last_runs(going_on=going_on):
        console.print(_runs_table(runs))
    live.show(Path.cwd(), console)
    for line in graph.ending(params):
        console.print(line, markup=False, soft_wrap=True)
    console.print(_close(pipeline, going_on=going_on))


def _close(pipeline: graph.Graph, *, going_on: bool) -> str:
    if pipeline.running or going_on:
        return "A run is going on."
    return "`moteur run` brings it up to date." if pipeline.changes else "Everything is up to date."


def stages(pipeline: graph.Graph) -> Table:
    """Stage, state, why."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("stage", "state", "why, or what it made"):
        shown.add_column(name, overflow="fold")
    reports = ledger.reports()
    for node in pipeline.nodes:
        if node.name in pipeline.running:
            shown.add_row(node.name, "running", "; ".join(pipeline.changes[node.name]), style="bold")
        elif reasons := pipeline.changes.get(node.name):
            shown.add_row(node.name, "changed", "; ".join(reasons))
        elif node.name in pipeline.stale:
            shown.add_row(node.name, "below a changed one", "")
        else:
            shown.add_row(node.name, "up to date", figures.sentence(node.name, reports.get(node.name, {})))
    return shown


def release(reports: dict[str, dict[str, object]]) -> list[str]:
    """What models/release is, in a line or two."""
    if not Artifact.RELEASE.path.is_dir():
        return ["Release: none yet."]
    lines = [f"Release: {Artifact.RELEASE}"]
    texts = (figures.sentence(stage, reports.get(stage, {})) for stage in ("deployment", "compression"))
    return lines + [f"  {text}" for text in texts if text]


def last_runs(*, going_on: bool = False) -> list[tuple[str, str, int, float, float]]:
    """(run, how it ended, stages that ran, seconds, FLOPs), newest last; whether the one begun last is `going_on`."""
    found: dict[str, list[ledger.Entry]] = {}
    for entry in ledger.entries():
        found.setdefault(entry["run"], []).append(entry)
    ended = {name: _ended(entries[-1]) for name, entries in found.items()}
    if going_on and (last := ledger.last_planned()) in ended:
        ended[last] = "going on"
    return [
        (name, ended[name], len(entries), sum(e["seconds"] for e in entries), sum(e["flops"] for e in entries))
        for name, entries in list(found.items())[-LAST_RUNS:]
    ]


def _ended(last: ledger.Entry) -> str:
    return "finished" if last["status"] == "finished" else f"{last['status']} in {last['stage']}"


def _runs_table(runs: list[tuple[str, str, int, float, float]]) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("last runs", "ended", "stages", "time", "FLOPs"):
        shown.add_column(name, justify="left" if name in ("last runs", "ended") else "right")
    for name, ended, number, seconds, flops in runs:
        shown.add_row(name, ended, str(number), figures.duration(seconds), f"{flops:.2e}" if flops else "")
    return shown

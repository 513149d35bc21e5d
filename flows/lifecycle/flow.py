"""The flow `lifecycle`: one Prefect task per DVC stage, in the order of the graph. DVC is the only cache.

`dvc repro` does the same without Prefect and leaves the same dvc.lock.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from flows import process
from flows.reporting import page
from flows.stages import figures, graph, ledger
from pipelines.adapters import git, lineage, orchestrator, quiet, tracking
from pipelines.artifacts import State
from pipelines.errors import MoteurError

Say = Callable[[str], None]

REMEDIES = {
    2: "Correct params.yaml as said above, then run again.",
    3: "Correct the data or the limit as said above, then run again.",
    4: "Make the artifact again as said above, then run again.",
    5: "Free what is short as said above, then run again: it goes on where it stopped.",
    6: "Change the settings as said above, then run again.",
    130: "Run again: it goes on where it stopped.",
    143: "Run again: it goes on where it stopped.",
}


class StageFailed(MoteurError):  # noqa: N818  it is an outcome, and reads as one
    """A stage ended with another exit code than 0, which becomes ours."""

    def __init__(self, stage: str, exit_code: int, remedy: str) -> None:
        super().__init__(f"stage {stage} failed (exit code {exit_code}). {remedy}")
        self.stage = stage
        self.exit_code = exit_code


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one run is about to do."""

    run: str
    pipeline: graph.Graph
    forced: frozenset[str]
    """Stages that run even if nothing changed."""

    stops: list[int] = field(default_factory=list)
    """The exit code for the signal that ended a stage, when one did: Prefect, its server gone, may raise another."""

    @property
    def due(self) -> set[str]:
        """Stages that DVC is asked about; the others and all above them are up to date."""
        return self.pipeline.below(set(self.pipeline.changes) | self.forced)


def plan(pipeline: graph.Graph, *, force: bool, start: str | None) -> Plan:
    """Name the run and settle which stages are forced.

    Raises:
        ParamsError: when `start` is no stage.
    """
    from pipelines.errors import ParamsError

    if start is not None and start not in pipeline.names:
        raise ParamsError(f"--from {start}: no such stage; the stages are {', '.join(pipeline.names)}")
    forced = set(pipeline.names) if force else pipeline.below({start}) if start else set()
    return Plan(run=tracking.new_run_name("run", time.time()), pipeline=pipeline, forced=frozenset(forced))


def run(plan: Plan, say: Say) -> None:
    """Run the plan as a Prefect flow in this process, feeding MLflow beside it.

    Raises:
        StageFailed: when a stage ends with an error.
    """
    _settle_prefect()
    from prefect import flow, task
    from prefect.cache_policies import NO_CACHE

    def body(name: str) -> None:
        _run_stage(plan, name, say)

    step = task(body, persist_result=False, cache_policy=NO_CACHE, retries=0, log_prints=False)

    @flow(  # type: ignore[untyped-decorator]
        name="lifecycle", flow_run_name=plan.run, persist_result=False, validate_parameters=False
    )
    def lifecycle() -> None:
        for number, node in enumerate(plan.pipeline.nodes, 1):
            say(f"[{number}/{len(plan.pipeline.nodes)}] {node.name}: {node.description}")
            step.with_options(name=node.name, task_run_name=node.name)(node.name)

    with _ending_on_sigterm():
        _start_server()  # alone: MLflow's first start would slow it down, and nothing waits for MLflow
        with _fed(), _recorded(plan):
            try:
                lifecycle()
            except BaseException as error:
                if plan.stops:
                    raise SystemExit(plan.stops[0]) from error
                raise
            _record(plan.run, "artifact", path=page.write().as_posix())


def _settle_prefect() -> None:
    home = State.PREFECT.path.resolve()
    home.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("PREFECT_HOME", str(home))
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_LOGGING_TO_API_ENABLED", "true" if "PREFECT_API_URL" in os.environ else "false")
    if "PREFECT_API_URL" not in os.environ:
        os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
        os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "1")
    else:
        for name, value in orchestrator.PATIENCE.items():
            os.environ.setdefault(name, value)
    os.environ.update({name: quiet.PRIVATE[name] for name in ("PREFECT_SERVER_ANALYTICS_ENABLED", "DO_NOT_TRACK")})


def _start_server() -> None:
    """Start Prefect's temporary server, deaf to Ctrl-C: it has to live until the flow has told it how it ended."""
    if "PREFECT_API_URL" in os.environ:
        return
    from prefect.server.api.server import SubprocessASGIServer

    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        SubprocessASGIServer().start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def environment(run: str) -> dict[str, str]:
    """The environment of a stage: our Python first on the path, and the name of the run."""
    paths = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    return {
        **git.environment(),
        "PATH": os.pathsep.join(paths),
        tracking.RUN_VARIABLE: run,
        "PYTHONUNBUFFERED": "1",
    }


def _run_stage(plan: Plan, name: str, say: Say) -> None:
    if name not in plan.due:
        say("      unchanged")
        return
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--quiet", "--single-item", name]
    if name in plan.forced:
        command.append("--force")
    try:
        code = process.run(command, environment(plan.run), _grace())
    except BaseException as stop:  # Ctrl-C, our SIGTERM, or Prefect's
        plan.stops.append(130 if isinstance(stop, KeyboardInterrupt) else 143)
        logging.disable()
        raise
    entry = ledger.of_run(plan.run).get(name)
    if code != 0:
        raise _failure(name, code, entry)
    took = f"done in {figures.duration(entry['seconds'])}" if entry else "unchanged"
    made = figures.sentence(name, ledger.reports().get(name, {}))
    say(f"      {took}{f': {made}' if made else ''}")
    _record(plan.run, "locked", stage=name, **lineage.locked().get(name, {}))


def _grace() -> float:
    """Seconds that a stage gets to save its state when it is stopped."""
    from pipelines import stage

    return float(stage.load_params().services.stop_seconds)


def _failure(name: str, code: int, entry: ledger.Entry | None) -> StageFailed:
    if entry is None:
        return StageFailed(
            name,
            1,
            "It ended and left no line in the ledger: killed (for want of memory?), the disk full, or DVC could not"
            f" start it. `dvc repro --single-item {name}` shows what DVC says.",
        )
    if entry["status"] == "finished":
        return StageFailed(
            name, 1, f"It finished, but DVC could not keep its outputs: `dvc repro --single-item {name}` says why."
        )
    ended = int(entry["exit_code"]) or code
    return StageFailed(name, ended, REMEDIES.get(ended, "The traceback above shows a fault of the code: report it."))


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    def leave(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(143)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _fed() -> Iterator[None]:
    """Feed MLflow from the spools in a process beside us, so that its import and its migration cost the run nothing."""
    sink = subprocess.Popen(
        [sys.executable, "-m", "pipelines.adapters.mlflow_sink", "--until-stdin-closes"],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield
    finally:
        if sink.stdin:
            sink.stdin.close()
        try:
            sink.wait(timeout=30)
        except subprocess.TimeoutExpired:
            print("MLflow is still being written in the background.", file=sys.stderr)  # noqa: T201  for the user


@contextmanager
def _recorded(plan: Plan) -> Iterator[None]:
    from pipelines import stage

    values = stage.load_params().model_dump(mode="json")
    _record(plan.run, "start", **lineage.code_version(), dvc_lock=lineage.lock_hash())
    _record(plan.run, "params", values=values)
    status = "failed"
    try:
        yield
        status = "finished"
    finally:
        _record(plan.run, "end", status=status, dvc_lock=lineage.lock_hash())


def _record(run: str, event: str, **fields: Any) -> None:
    tracking.append(State.TRACKING.path / run / tracking.LIFECYCLE_SPOOL, event, **fields)

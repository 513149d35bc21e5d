"""`moteur retrain`: the lifecycle again, at a pinned commit, with new data, in its own workspace; then publication.

One at a time. The user's checkout is only read, but for requests that `retraining.accept_requests` accepts. What a
retraining is and how far it came stands in `.moteur/retrainings/<id>/record.json`, so that one that was killed is taken
up by the next, inside the stage where it was, unless the commit or the accepted data have changed: then it is begun
anew, after what was trained is published. A key that was seen before, or drift shortly after drift, starts nothing.
"""

import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from flows import process
from flows.retraining import accepted, admission, publication, records, telling
from flows.retraining.records import UNFINISHED, Order, Record, Skipped
from flows.stages import graph, ledger
from flows.supervision import services, supervisor
from flows.workspaces import clones, profiles
from pipelines import params as schema
from pipelines.adapters import git, locks, mlflow_store, yaml_text
from pipelines.adapters.alerts import Alerting, Outbox
from pipelines.adapters.locks import BusyError
from pipelines.artifacts import State
from pipelines.errors import MoteurError, ParamsError, ResourceError

MARGIN_SECONDS = 10.0
"""The lifecycle has this much longer to end than the stage in it, which it must outlive to end it."""


class Failed(MoteurError):  # noqa: N818  it is an outcome, and reads as one
    """The lifecycle ended with an error in a retraining."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One go at a retraining, and what it needs."""

    checkout: Path
    """What is retrained."""
    record: Record
    params: schema.Params
    """Of the checkout."""
    say: Callable[[str], None]
    """Told what goes on, a line at a time."""
    outbox: Alerting
    aside: bool
    """What the lifecycle says goes to a file beside the record."""

    @property
    def workspace(self) -> Path:
        """Where it works."""
        return records.folder(self.checkout, self.record)


def run(
    checkout: Path,
    order: Order,
    say: Callable[[str], None],
    *,
    wait: bool = False,
    aside: bool = False,
    alerting: Alerting | None = None,
) -> Record | Skipped:
    """Do what `order` asks for, or go on with what was killed; return the record, or why nothing was started.

    Args:
        checkout: What is retrained.
        order: What somebody asks for.
        say: Told what goes on, a line at a time.
        wait: Wait while another retraining is under way.
        aside: What the lifecycle says goes to a file beside the record and not to our output. A runner that reads our
            output to its end would otherwise not see us die as long as the lifecycle lives on.
        alerting: Where alerts go. Default: the outbox of the checkout.

    Raises:
        ResourceError: when another retraining is under way and `wait` is False.
        Failed: when a stage failed; with its exit code.
        NotPublished: when a push failed; the next call goes on there.
    """
    checkout = checkout.resolve()
    outbox = alerting or Outbox(checkout / State.ALERTS)
    with telling.if_it_cannot_start(order, outbox):
        params = _params(checkout)
        _refuse_unknown_stage(checkout, order.start)

    def attempt(record: Record) -> None:
        _attempt(Attempt(checkout=checkout, record=record, params=params, say=say, outbox=outbox, aside=aside))

    with _alone(checkout, say, wait=wait), _ending_on_sigterm():
        with telling.if_it_cannot_start(order, outbox):
            chosen = admission.admit(checkout, order, params, outbox, attempt)
        if isinstance(chosen, Skipped):
            say(f"Nothing to do: {chosen.why}.")
            return chosen
        attempt(chosen)
        return chosen


def _params(checkout: Path) -> schema.Params:
    from pipelines import stage

    return stage.load_params(checkout / "params.yaml")


def _refuse_unknown_stage(checkout: Path, start: str | None) -> None:
    import yaml

    stages = list(yaml.safe_load((checkout / "dvc.yaml").read_text(encoding="utf-8"))["stages"])
    if start is not None and start not in stages:
        raise ParamsError(f"--from {start}: no such stage; the stages are {', '.join(stages)}")


# One at a time


@contextmanager
def _alone(checkout: Path, say: Callable[[str], None], *, wait: bool) -> Iterator[None]:
    """Hold the lock of all retrainings of this checkout; the kernel frees it when we die, however we die."""
    path = checkout / State.RETRAININGS / "lock"
    with ExitStack() as held:
        try:
            held.enter_context(locks.holding(path, wait=0))
        except BusyError as error:
            busy = f"Another retraining is under way (process {error.holder})"
            if not wait:
                raise ResourceError(f"{busy}: `moteur retrain --wait` begins when it has ended.") from None
            say(f"{busy}: waiting for it to end.")
            held.enter_context(locks.holding(path))
        yield


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into SystemExit, unless somebody around us (Prefect) already turns it into something."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(143)

    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


# The work


def _attempt(attempt: Attempt) -> None:
    """Work on it; tell what came of it; make room."""
    checkout, record, outbox = attempt.checkout, attempt.record, attempt.outbox
    try:
        if record.attempts:
            telling.tell_again(record, outbox)
        _work(attempt)
    except Exception as error:
        telling.give_account(checkout, record, error, outbox)
        _tidy(checkout, attempt.params.retraining.kept)
        raise
    except BaseException:  # it is stopped and goes on later, which is no attempt that failed
        record.attempts -= 1
        records.save(checkout, record)
        raise
    telling.tell(record, outbox)
    _tidy(checkout, attempt.params.retraining.kept)


def _work(attempt: Attempt) -> None:
    """Do the steps that are not done; each is written down when it is."""
    checkout, workspace, record, say = attempt.checkout, attempt.workspace, attempt.record, attempt.say
    record.attempts += 1
    record.status = "running"
    records.save(checkout, record)
    say(f"Retraining {record.id} at commit {record.commit[:12]}, {record.because}")
    if evicted := clones.evict(workspace):
        say(f"  ended {evicted} processes of the attempt before")
    settings = attempt.params.retraining
    patience = publication.Patience(retries=settings.publish_retries, seconds=settings.publish_minutes * 60)
    steps: dict[str, Callable[[], None]] = {
        "workspace": lambda: _prepare(attempt),
        "lifecycle": lambda: _lifecycle(attempt),
        "push data": lambda: publication.push_data(workspace, patience, say),
        "verify": lambda: publication.verify(workspace, say),
        "push code": lambda: publication.push_code(checkout, workspace, record.id, patience, say),
        "register": lambda: _register(attempt),
        "promote": lambda: _promote(attempt),
    }
    for name, step in steps.items():
        if name in record.done:
            continue
        step()
        record.done.append(name)
        records.save(checkout, record)
    record.ended = time.time()
    records.save(checkout, record)


def _prepare(attempt: Attempt) -> None:
    """The workspace: the commit, the user's data, new data, params with the profile."""
    checkout, workspace, record, say = attempt.checkout, attempt.workspace, attempt.record, attempt.say
    settings = attempt.params.retraining
    if workspace.exists():  # half of the changes below may be made: begin again
        shutil.rmtree(workspace)
    if left := clones.left_out(checkout):
        say(f"  {left} files of the checkout are not committed as they are: they are left out")
    clones.make(checkout, workspace, record.commit)
    if settings.accept_requests and record.reason in ("schedule", "drift"):
        _accept_requests(checkout, say)
    source = checkout / settings.accepted
    found = accepted.files(source)
    seen = accepted.fingerprint(found, source)
    values = accepted.bring(found, source, workspace, _merged(workspace, checkout, record.profile))
    if schema.parse(values).promotion != _params(checkout).promotion:
        say("  the promotion of this commit and profile is not that of params.yaml in the checkout, whose gate counts")
    _write(workspace / "params.yaml", values)
    record.new_files, record.accepted = len(found), seen
    say(f"  workspace {workspace}, {len(found)} files of accepted data")


def _accept_requests(checkout: Path, say: Callable[[str], None]) -> None:
    """By the params as they are now; what was taken stays accepted, whatever becomes of this retraining."""
    from flows.retraining import acceptance

    say(f"  {acceptance.take(checkout, _params(checkout)).words}")


def _merged(workspace: Path, checkout: Path, profile: str | None) -> dict[str, Any]:
    values: dict[str, Any] = yaml_text.load((workspace / "params.yaml").read_text(encoding="utf-8"))
    if profile is None:
        return values
    committed = workspace / profile
    path = committed if committed.is_file() else checkout / profile
    return profiles.merge(values, profiles.read(path, {}), f"profile {profile}")


def _write(path: Path, values: dict[str, Any]) -> None:
    """Write params when they differ, so that the comments of a params.yaml that stays as it is stay too."""
    import yaml

    params = schema.parse(values, str(path))
    if params.ends_with_base:
        raise ParamsError(
            f"A retraining makes a release, but {params.ends_with_base}, with which the lifecycle ends with the base"
            " model: set pretraining.objective to causal and model.architecture to llama in params.yaml or the profile."
        )
    if yaml_text.load(path.read_text(encoding="utf-8")) != values:
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)
        path.write_text(
            f"# Made by `moteur retrain`: params.yaml, the profile, accepted data.\n{text}", encoding="utf-8"
        )


def _lifecycle(attempt: Attempt) -> None:
    """`moteur run` in the workspace, by the code of its commit; stopping us stops all of it, after its grace."""
    record, workspace = attempt.record, attempt.workspace
    clones.heal(workspace)
    command = [sys.executable, "-m", "flows.cli", "run"]
    if start := _start(workspace, record.start):
        command += ["--from", start]
    path = records.log(attempt.checkout, record) if attempt.aside else None
    grace = attempt.params.services.stop_seconds + MARGIN_SECONDS
    with path.open("ab") if path else nullcontext() as output:
        code = process.run(command, environment(attempt.checkout), grace, folder=workspace, output=output)
    if code in (130, 143):
        raise SystemExit(code)
    if code != 0:
        where = f"{path} says why: {_last_line(path)}" if path else "what it printed says why."
        stages = [f" in {entry['stage']}" for entry in ledger.entries(workspace)[-1:] if entry["exit_code"]]
        raise Failed(f"retraining {record.id}: the lifecycle failed{''.join(stages)} (exit code {code}); {where}", code)


def _start(workspace: Path, start: str | None) -> str | None:
    """From where it is run again, changed or not: what an attempt before has finished is not done anew."""
    finished = ledger.last_finished(workspace)
    if start is None or not finished:
        return start
    pipeline = graph.load(workspace)
    again = pipeline.below({start})
    return next((name for name in pipeline.names if name in again and name not in finished), None)


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def environment(checkout: Path) -> dict[str, str]:
    """For the lifecycle: the checkout's MLflow, the Prefect of `moteur up` if it runs, and a flow run of its own."""
    kept = {name: value for name, value in git.environment().items() if not name.startswith("PREFECT__")}
    if "prefect" in (supervisor.state(checkout) or {"services": {}})["services"]:
        kept.setdefault("PREFECT_API_URL", services.prefect_url(_params(checkout)))
    kept["MLFLOW_TRACKING_URI"] = mlflow_store.uri(checkout)
    kept.setdefault("PREFECT_HOME", str(checkout / State.PREFECT))
    return kept


def _register(attempt: Attempt) -> None:
    attempt.record.version = publication.register(attempt.checkout, attempt.workspace, attempt.say)


def _promote(attempt: Attempt) -> None:
    record, say = attempt.record, attempt.say
    if record.version is None:
        record.status = "finished"
        return
    judged = publication.judge(attempt.checkout, attempt.workspace, record.version, record.id, record.because, say)
    record.status, record.note = judged.result, judged.words
    say(f"  {judged.words}")


def _tidy(checkout: Path, kept: int) -> None:
    """Remove the workspaces of all that have ended, however they did, but the newest; records and the cache stay."""
    over = [record for record in records.read(checkout) if record.status not in UNFINISHED]
    for record in over[:-kept]:
        clones.remove(records.folder(checkout, record))

"""`moteur retrain`: the lifecycle again, at a pinned commit, with new data, in its own workspace; then publication.

One at a time. The user's checkout is only read, but for requests that `retraining.accept_requests` accepts. What a
retraining is and how far it came stands in `.moteur/retrainings/<id>/record.json`, so that one that was killed is taken
up by the next, inside the stage where it was, unless the commit or the accepted data have changed: then it is begun
anew, after what was trained is published. A key that was seen before, or drift shortly after drift, starts nothing.
"""

import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from flows import process
from flows.champions import history
from flows.retraining import accepted, publication, records
from flows.retraining.records import UNFINISHED, Order, Record, Skipped, Status
from flows.supervision import services, supervisor
from flows.workspaces import clones, profiles
from pipelines import params as schema
from pipelines.adapters import git, mlflow_store, tracking, yaml_text
from pipelines.adapters.alerts import Alerting, Outbox
from pipelines.artifacts import State
from pipelines.errors import MoteurError, ParamsError, ResourceError

MARGIN_SECONDS = 10.0
"""The lifecycle has this much longer to end than the stage in it, which it must outlive to end it."""


class Failed(MoteurError):  # noqa: N818  it is an outcome, and reads as one
    """The lifecycle ended with an error in a retraining."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


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
    with _telling_if_it_cannot_start(outbox):
        params = _params(checkout)
        _refuse_unknown_stage(checkout, order.start)

    def attempt(record: Record) -> None:
        _attempt(checkout, record, params, say, outbox, aside=aside)

    with _alone(checkout, say, wait=wait), _ending_on_sigterm():
        with _telling_if_it_cannot_start(outbox):
            chosen = _admit(checkout, order, params, outbox, attempt)
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
    folder = checkout / State.RETRAININGS
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            busy = f"Another retraining is under way (process {lock.read().strip() or 'unknown'})"
            if not wait:
                raise ResourceError(f"{busy}: `moteur retrain --wait` begins when it has ended.") from None
            say(f"{busy}: waiting for it to end.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.seek(0)
        lock.truncate()
        lock.write(f"{os.getpid()}\n")
        lock.flush()
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


# What is to be done


def _admit(
    checkout: Path, order: Order, params: schema.Params, outbox: Alerting, attempt: Callable[[Record], None]
) -> Record | Skipped:
    """The record to work on: a new one, or one that was killed; or why there is none.

    What an earlier one has trained is published by `attempt` before a new one is begun.
    """
    before = records.read(checkout)
    unfinished = [record for record in before if record.status in UNFINISHED]
    for record in unfinished[:-1]:
        _end(checkout, record, "replaced", "a later one took its place")
    last = unfinished[-1] if unfinished else None
    if last and last.attempts >= params.retraining.attempts:
        _end(checkout, last, "given up", f"it ended {last.attempts} times without a result: {last.note or 'killed'}")
        _tell(last, outbox)
        last = None
    went_back = max((one.moment.timestamp() for one in history.read(checkout) if one.action == "rollback"), default=0.0)
    cooldown = params.schedule.cooldown_minutes * 60
    if why := _why_not(order, before, last, cooldown, time.time(), went_back=went_back):
        return Skipped(why=why)
    profile = order.profile if order.profile is not None else params.retraining.profile
    if last and (order.reason == "resume" or _is_the_same(checkout, order, profile, last, params.retraining)):
        last.keys += [order.key] if order.key else []
        return last
    if last and "lifecycle" in last.done:
        attempt(last)
    elif last:
        _end(checkout, last, "replaced", "a later one took its place")
    return _new(checkout, order, profile)


def _is_the_same(checkout: Path, order: Order, profile: str | None, last: Record, settings: schema.Retraining) -> bool:
    """Whether `last`, gone on with, is what `order` asks for: this commit, these data."""
    if (order.start, profile, clones.head(checkout)) != (last.start, last.profile, last.commit):
        return False
    source = checkout / settings.accepted
    return "workspace" not in last.done or accepted.fingerprint(accepted.files(source), source) == last.accepted


def _why_not(
    order: Order, before: list[Record], last: Record | None, cooldown: float, now: float, *, went_back: float = 0.0
) -> str:
    """Why `order` starts nothing; empty when it may.

    `last` is the one that was killed, `went_back` when a champion was last rolled back; times are in seconds.
    """
    if order.key and any(order.key in record.keys for record in before):
        return f"{order.key} has had its retraining"
    if order.reason == "resume" and last is None:
        return "no retraining was interrupted"
    if order.reason == "drift" and last is None:
        ours = [record for record in before if record.reason == "drift" and 0 <= now - record.started < cooldown]
        if ours:
            ago = (now - ours[-1].started) / 60
            return (
                f"drift started {ours[-1].id} {ago:.0f} minutes ago, and schedule.cooldown_minutes is {cooldown / 60:g}"
            )
        if 0 <= now - went_back < cooldown:
            ago = (now - went_back) / 60
            return (
                f"a champion was rolled back {ago:.0f} minutes ago, and schedule.cooldown_minutes is {cooldown / 60:g}"
            )
    return ""


def _new(checkout: Path, order: Order, profile: str | None) -> Record:
    now = time.time()
    name = tracking.new_run_name("retrain", now)
    taken = [name, *(f"{name}-{number}" for number in range(2, 1000))]
    free = next(item for item in taken if not (checkout / State.RETRAININGS / item).exists())
    record = Record(
        id=free,
        commit=clones.head(checkout),
        reason=order.reason,
        keys=[order.key] if order.key else [],
        start=order.start,
        profile=profile,
        started=now,
    )
    records.save(checkout, record)
    return record


def _end(checkout: Path, record: Record, status: Status, note: str) -> None:
    clones.evict(records.folder(checkout, record))
    record.status, record.note, record.ended = status, note, time.time()
    records.save(checkout, record)


# The work


def _attempt(
    checkout: Path, record: Record, params: schema.Params, say: Callable[[str], None], outbox: Alerting, *, aside: bool
) -> None:
    """Work on it; tell what came of it; make room."""
    try:
        if record.attempts:
            _tell_again(record, outbox)
        _work(checkout, record, params, say, aside=aside)
    except Exception as error:
        _give_account(checkout, record, error, outbox)
        _tidy(checkout, params.retraining.kept)
        raise
    _tell(record, outbox)
    _tidy(checkout, params.retraining.kept)


def _work(checkout: Path, record: Record, params: schema.Params, say: Callable[[str], None], *, aside: bool) -> None:
    """Do the steps that are not done; each is written down when it is."""
    record.attempts += 1
    record.status = "running"
    records.save(checkout, record)
    workspace = records.folder(checkout, record)
    say(f"Retraining {record.id} at commit {record.commit[:12]}, {_because(record)}")
    if evicted := clones.evict(workspace):
        say(f"  ended {evicted} processes of the attempt before")
    settings, grace = params.retraining, params.services.stop_seconds + MARGIN_SECONDS
    patience = publication.Patience(retries=settings.publish_retries, seconds=settings.publish_minutes * 60)
    steps: dict[str, Callable[[], None]] = {
        "workspace": lambda: _prepare(checkout, record, settings, say),
        "lifecycle": lambda: _lifecycle(
            checkout, workspace, record, records.log(checkout, record) if aside else None, grace
        ),
        "push data": lambda: publication.push_data(workspace, patience, say),
        "verify": lambda: publication.verify(workspace, say),
        "push code": lambda: publication.push_code(checkout, workspace, record.id, patience, say),
        "register": lambda: _register(checkout, workspace, record, say),
        "promote": lambda: _promote(checkout, workspace, record, say),
    }
    for name, step in steps.items():
        if name in record.done:
            continue
        step()
        record.done.append(name)
        records.save(checkout, record)
    record.ended = time.time()
    records.save(checkout, record)


def _because(record: Record) -> str:
    again = f", attempt {record.attempts}" if record.attempts > 1 else ""
    return {"by hand": "by hand", "schedule": "on schedule", "drift": "for drift"}.get(record.reason, "") + again


def _prepare(checkout: Path, record: Record, settings: schema.Retraining, say: Callable[[str], None]) -> None:
    """The workspace: the commit, the user's data, new data, params with the profile."""
    workspace = records.folder(checkout, record)
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


def _lifecycle(
    checkout: Path, workspace: Path, record: Record, path: Path | None, grace: float = process.GRACE_SECONDS
) -> None:
    """`moteur run` in the workspace, by the code of its commit; stopping us stops all of it, after `grace` seconds."""
    clones.heal(workspace)
    command = [sys.executable, "-m", "flows.cli", "run"]
    if record.start:
        command += ["--from", record.start]
    with path.open("ab") if path else nullcontext() as output:
        code = process.run(command, environment(checkout), grace, folder=workspace, output=output)
    if code in (130, 143):
        raise SystemExit(code)
    if code != 0:
        where = f"{path} says why: {_last_line(path)}" if path else "the lines above say why."
        raise Failed(f"retraining {record.id}: the lifecycle failed (exit code {code}); {where}", code)


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


def _register(checkout: Path, workspace: Path, record: Record, say: Callable[[str], None]) -> None:
    record.version = publication.register(checkout, workspace, say)


def _promote(checkout: Path, workspace: Path, record: Record, say: Callable[[str], None]) -> None:
    if record.version is None:
        record.status = "finished"
        return
    judged = publication.judge(checkout, workspace, record.version, record.id, _because(record), say)
    record.status, record.note = judged.result, judged.words
    say(f"  {judged.words}")


# Afterwards


@contextmanager
def _telling_if_it_cannot_start(outbox: Alerting) -> Iterator[None]:
    """What fails before there is a record is alerted too, once a day: what fails each hour is one thing to mend."""
    try:
        yield
    except Exception as error:
        key = f"retraining/not started/{datetime.now(UTC):%Y-%m-%d}"
        outbox.put(key, "A retraining could not start", _words(error), "failure")
        raise


def _give_account(checkout: Path, record: Record, error: Exception, outbox: Alerting) -> None:
    """Write down how it failed and tell somebody."""
    record.status = "not published" if isinstance(error, publication.NotPublished) else "failed"
    record.note = _words(error)
    record.ended = time.time()
    records.save(checkout, record)
    _tell(record, outbox)


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, MoteurError) else f"{type(error).__name__}: {error}"


def _tell(record: Record, outbox: Alerting) -> None:
    """Alert when a person should look; a promotion is worth a word too."""
    if record.status in ("finished", "unchanged"):
        return
    severity: Any = "info" if record.status == "promoted" else "warning" if record.status == "refused" else "failure"
    title = f"Retraining {record.id}: {record.status}"
    when = datetime.fromtimestamp(record.started, UTC).isoformat(timespec="seconds")
    body = f"{record.note}\nStarted {when}, {_because(record)}, at commit {record.commit[:12]}."
    outbox.put(f"retraining/{record.id}/{record.status}", title, body, severity)


def _tell_again(record: Record, outbox: Alerting) -> None:
    how = record.note or "It was killed, or the machine went down."
    title = f"Retraining {record.id} was interrupted and goes on"
    outbox.put(f"retraining/{record.id}/attempt {record.attempts + 1}", title, how, "warning")


def _tidy(checkout: Path, kept: int) -> None:
    """Remove the workspaces of all that have ended, however they did, but the newest; records and the cache stay."""
    over = [record for record in records.read(checkout) if record.status not in UNFINISHED]
    for record in over[:-kept]:
        clones.remove(records.folder(checkout, record))

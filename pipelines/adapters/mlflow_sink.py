"""MLflow, fed from the spools that stages leave in `.moteur/tracking/<run>/<stage>.jsonl`; each line exactly once.

One parent run for each lifecycle, below it one run for each time a stage ran. How far a spool has been sent is a tag of
the run, written by the same `log_batch` call as the values, so that a sink that is killed anywhere neither loses a line
nor sends one twice. A server that is down costs one line of warning; the spools wait for the next drain.
"""

import json
import os
import select
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.adapters import locks, mlflow_store
from pipelines.adapters.tracking import LIFECYCLE_SPOOL, settle_client
from pipelines.artifacts import State
from pipelines.core.text.secrets import credentials, redact

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param, Run, RunTag
    from mlflow.tracking import MlflowClient

EXPERIMENT = "moteur"
OFFSET, RUN, STAGE, ATTEMPT = "moteur.offset", "moteur.run", "moteur.stage", "moteur.attempt"
MAX_METRICS, MAX_PARAMS, MAX_TAGS = 1000, 90, 90
"""Of one log_batch call; MLflow refuses more than 1000, 100 and 100."""
MAX_PARAM_NAME, MAX_PARAM_CHARACTERS = 250, 500
"""Longer names and values are cut; the whole is in the artifact params.json."""
EVERY_SECONDS = 5.0
STATUSES = {"finished": "FINISHED", "failed": "FAILED", "preempted": "KILLED"}


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or the SQLite file of the workspace."""
    return mlflow_store.uri(Path())


def shown_uri() -> str:
    """The tracking URI without its password, for people and files."""
    return redact(tracking_uri())


def pending(root: Path | None = None) -> list[Path]:
    """Spools that hold lines MLflow has not seen; cheap, for it trusts the marks of the last drain."""
    return [spool for spool in _spools(root or State.TRACKING.path) if spool.stat().st_size > _mark(spool)]


def _spools(root: Path) -> list[Path]:
    """All spools, those of a run's stages before that of the run as a whole."""
    return sorted(root.glob("*/*.jsonl"), key=lambda path: (path.parent.name, path.name == LIFECYCLE_SPOOL, path.name))


def _mark(spool: Path) -> int:
    try:
        uri, offset = _mark_file(spool).read_text(encoding="utf-8").rsplit(" ", 1)
        return int(offset) if uri == shown_uri() else 0
    except (OSError, ValueError):
        return 0


def _mark_file(spool: Path) -> Path:
    return spool.with_suffix(".sent")


def drain(root: Path | None = None) -> None:
    """Send what waits. Returns at once when another process is sending.

    Raises:
        Exception: whatever the client raises when the server does not answer; nothing is lost.
    """
    root = root or State.TRACKING.path
    if not pending(root):
        return
    try:
        with locks.holding(root / ".lock", wait=0):
            sink = Sink()
            for spool in pending(root):
                sink.replay(spool)
    except locks.BusyError:
        return


@dataclass(frozen=True, kw_only=True)
class Event:
    """One line of a spool."""

    begin: int
    """Byte offset of the line."""
    end: int
    """Byte offset behind it."""
    values: Mapping[str, Any]


def read(spool: Path, offset: int = 0) -> Iterator[Event]:
    """The whole lines of a spool from `offset` on; a line that is still being written is left for later."""
    with spool.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            begin, offset = offset, offset + len(line)
            try:
                values = json.loads(line)
            except ValueError:
                values = {"event": "torn"}
            yield Event(begin=begin, end=offset, values=values)


@dataclass
class Batch:
    """What goes to one run with the next `log_batch`."""

    metrics: list["Metric"] = field(default_factory=list)
    params: list["Param"] = field(default_factory=list)
    tags: list["RunTag"] = field(default_factory=list)

    def full(self) -> bool:
        """True when another event might not fit."""
        return len(self.metrics) > MAX_METRICS // 2 or len(self.params) > 0 or len(self.tags) > MAX_TAGS // 2


class Sink:
    """A client of MLflow that replays spools."""

    def __init__(self, client: "MlflowClient | None" = None) -> None:
        self._client = client or _client()
        self._experiment = mlflow_store.experiment(self._client, EXPERIMENT)
        self._parents: dict[str, str] = {}

    def replay(self, spool: Path) -> None:
        """Send the lines of one spool that MLflow has not."""
        name, stage = spool.parent.name, spool.stem
        whole = spool.name == LIFECYCLE_SPOOL
        parent = self._parent(name, spool.parent)
        current, sent, batch, last = (parent, self._sent(parent), Batch(), 0) if whole else ("", 0, Batch(), 0)
        for event in read(spool):
            if not whole and (event.values["event"] == "start" or not current):
                self._flush(current, batch, last)
                current, sent = self._attempt(name, stage, event, parent)
                batch = Batch()
            last = event.end
            if event.end <= sent:
                continue
            self._take(event.values, current, name, batch)
            if batch.full():
                self._flush(current, batch, last)
                batch = Batch()
        self._flush(current, batch, last if last > sent else 0)
        if not whole and not (spool.parent / LIFECYCLE_SPOOL).exists():
            self._client.set_terminated(parent, "FINISHED")
        _mark_file(spool).write_text(f"{shown_uri()} {last}", encoding="utf-8")

    def _take(self, values: Mapping[str, Any], run: str, name: str, batch: Batch) -> None:
        from mlflow.entities import Metric, RunTag

        moment = int(1000 * values.get("time", 0))
        match values["event"]:
            case "start":
                batch.tags += [
                    RunTag("mlflow.source.git.commit", str(values.get("commit", ""))),
                    RunTag("git.dirty", str(values.get("dirty", "")).lower()),
                    RunTag("dvc.lock", str(values.get("dvc_lock", ""))),
                ]
            case "params":
                self._params(values["values"], run, batch)
            case "metrics":
                batch.metrics += [
                    Metric(key, value, moment, int(values["step"])) for key, value in values["values"].items()
                ]
            case "artifact":
                if Path(values["path"]).is_file():
                    self._client.log_artifact(run, values["path"])
            case "locked":
                self._lineage(values, run, name)
            case "end":
                self._end(values, run, name, batch, moment)

    def _params(self, values: Mapping[str, Any], run: str, batch: Batch) -> None:
        """Send what MLflow takes: it refuses long values, odd or long names, and a second value for a name."""
        from mlflow.entities import Param

        flat = list(flatten(values))
        fitting = dict(self._client.get_run(run).data.params)
        for key, text in flat:
            fitting.setdefault(_tag_key(key)[:MAX_PARAM_NAME], text[:MAX_PARAM_CHARACTERS])
        if len(flat) > MAX_PARAMS or any(fitting.get(key) != text for key, text in flat):
            self._client.log_dict(run, dict(values), "params.json")
        entries = [Param(key, text) for key, text in fitting.items()]
        for start in range(0, len(entries), MAX_PARAMS):
            self._client.log_batch(run, params=entries[start : start + MAX_PARAMS])
        batch.params += entries[:1]

    def _lineage(self, values: Mapping[str, Any], run: str, name: str) -> None:
        from mlflow.entities import RunTag

        outs = [RunTag(f"out.{path}", digest) for path, digest in values.get("outs", {}).items()]
        deps = [RunTag(f"dep.{_tag_key(path)}", digest) for path, digest in values.get("deps", {}).items()]
        self._client.log_batch(run, tags=outs[:MAX_TAGS])
        found = self._find(f"tags.`{RUN}` = '{name}' and tags.`{STAGE}` = '{values['stage']}'")
        if found:
            self._client.log_batch(found[0].info.run_id, tags=[*outs, *deps][:MAX_TAGS])

    def _end(self, values: Mapping[str, Any], run: str, name: str, batch: Batch, moment: int) -> None:
        from mlflow.entities import Metric, RunTag

        effort = values.get("effort", {})
        for key in ("seconds", "peak_memory_mib", "flops", "tokens"):
            if key in effort:
                batch.metrics.append(Metric(f"effort.{key}", float(effort[key]), moment, 0))
        batch.tags += [RunTag(key, effort[key]) for key in ("objective", "customisation") if effort.get(key)]
        if values.get("dvc_lock"):
            batch.tags.append(RunTag("dvc.lock", values["dvc_lock"]))
        self._client.set_terminated(run, STATUSES.get(values["status"], "FAILED"), moment)
        for other in self._find(f"tags.`{RUN}` = '{name}' and attributes.status = 'RUNNING'"):
            if other.data.tags.get("mlflow.parentRunId") == run:
                self._client.set_terminated(other.info.run_id, "KILLED", moment)

    def _flush(self, run: str, batch: Batch, offset: int) -> None:
        from mlflow.entities import RunTag

        if run and offset:
            tags = [*batch.tags, RunTag(OFFSET, str(offset))]
            for start in range(MAX_METRICS, len(batch.metrics), MAX_METRICS):
                self._client.log_batch(run, metrics=batch.metrics[start : start + MAX_METRICS])
            self._client.log_batch(run, metrics=batch.metrics[:MAX_METRICS], params=batch.params, tags=tags)

    def _parent(self, name: str, folder: Path) -> str:
        if name not in self._parents:
            found = self._find(f"tags.`{RUN}` = '{name}' and tags.`{STAGE}` = ''")
            tags = {RUN: name, STAGE: ""}
            self._parents[name] = found[0].info.run_id if found else self._create(name, tags, _began(folder))
        return self._parents[name]

    def _attempt(self, name: str, stage: str, event: Event, parent: str) -> tuple[str, int]:
        """The run of one attempt at a stage, made if it is not there, and how far its spool has been sent."""
        key = f"{name}/{stage}@{event.begin}"
        if found := self._find(f"tags.`{ATTEMPT}` = '{key}'"):
            return found[0].info.run_id, int(found[0].data.tags.get(OFFSET, 0))
        tags = {RUN: name, STAGE: stage, ATTEMPT: key, "mlflow.parentRunId": parent}
        return self._create(stage, tags, int(1000 * event.values.get("time", 0))), 0

    def _create(self, name: str, tags: dict[str, str], moment: int | None = None) -> str:
        run = self._client.create_run(
            self._experiment, start_time=moment or int(1000 * time.time()), tags=tags, run_name=name
        )
        return str(run.info.run_id)

    def _find(self, query: str) -> list["Run"]:
        return list(
            self._client.search_runs(
                [self._experiment], query, max_results=200, order_by=["attributes.start_time DESC"]
            )
        )

    def _sent(self, run: str) -> int:
        return int(self._client.get_run(run).data.tags.get(OFFSET, 0))


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested sections as dotted keys; lists as JSON."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _began(folder: Path) -> int | None:
    """When the run of these spools began, milliseconds."""
    first = (next(read(spool), None) for spool in folder.glob("*.jsonl"))
    return min((int(1000 * event.values.get("time", 0)) for event in first if event), default=None)


def _tag_key(path: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "_-. /" else "_" for letter in path)


def _client() -> "MlflowClient":
    settle_client(retries=1, seconds=10)
    from mlflow.tracking import MlflowClient

    State.ROOT.path.mkdir(exist_ok=True)
    return MlflowClient(tracking_uri=tracking_uri())


def _drain_or_warn(warned: list[str]) -> None:
    try:
        drain()
    except Exception as error:
        if not warned:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            text = redact(first, credentials(tracking_uri()))[:200]
            print(  # noqa: T201  the one line of warning
                f"MLflow at {shown_uri()} does not take what we send ({text}). The run goes on; what waits in"
                f" {State.TRACKING} is sent by the next `moteur run` or `moteur status`.",
                file=sys.stderr,
            )
            warned.append(text)


def main(*, until_stdin_closes: bool) -> None:
    """Drain once; or every few seconds until the flow that started us closes our stdin, and then a last time."""
    warned: list[str] = []
    while until_stdin_closes:
        ready, _, _ = select.select([sys.stdin], [], [], EVERY_SECONDS)
        if ready and not os.read(sys.stdin.fileno(), 1):
            break
        _drain_or_warn(warned)
    _drain_or_warn(warned)


if __name__ == "__main__":
    main(until_stdin_closes="--until-stdin-closes" in sys.argv[1:])

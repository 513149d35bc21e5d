"""Tracking: a stage appends to a spool of JSON lines and shows its progress; MLflow is fed from the spool.

A stage never talks to a server, so a tracking server that is down cannot stop training, and no stage pays for
importing a client. `pipelines.adapters.mlflow_sink` replays spools, each line exactly once.
"""

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pipelines.adapters import device, lineage, quiet
from pipelines.artifacts import State

Item = TypeVar("Item")

RUN_VARIABLE = "MOTEUR_RUN"
"""Names the lifecycle run that a stage belongs to; without it the run is named after the `dvc` process around us."""


def settle_client(*, retries: int, seconds: int) -> None:
    """Set, before MLflow is imported, how its client behaves, where the environment does not say so."""
    quiet.settle(
        {
            **quiet.PRIVATE,
            **quiet.MLFLOW,
            "MLFLOW_LOGGING_LEVEL": "ERROR",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries),
            "MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds),
        }
    )


def run_name() -> str:
    """The run this process belongs to: stages of one `moteur run`, or of one `dvc repro`, share it."""
    if name := os.environ.get(RUN_VARIABLE):
        return name
    import psutil

    for ancestor in psutil.Process().parents():
        try:
            if any(Path(word).name == "dvc" for word in ancestor.cmdline()[:3]):
                return new_run_name("dvc", ancestor.create_time())
        except psutil.Error:
            break
    return "manual"


def new_run_name(prefix: str, moment: float) -> str:
    """A name that sorts by time, for instance run-20260131-142503."""
    return f"{prefix}-{datetime.fromtimestamp(moment, UTC):%Y%m%d-%H%M%S}"


LIFECYCLE_SPOOL = "lifecycle.jsonl"
"""The spool of the run as a whole, beside those of its stages."""


def append(spool: Path, event: str, **fields: Any) -> None:
    """Add one event to a spool."""
    spool.parent.mkdir(parents=True, exist_ok=True)
    line = {"event": event, "time": time.time(), **fields}
    with spool.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")


class Progress(Protocol):
    """A running piece of work that a person watches."""

    def resume(self, amount: int) -> None:
        """Begin with `amount` units that an earlier run has done: they tell nothing of the speed of this one."""

    def advance(self, amount: int = 1, **figures: float) -> None:
        """Move on by `amount` units; `figures` (loss, reward, ...) are shown beside the bar."""


class Tracker(Protocol):
    """What a stage may tell the outside while it works."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record one point of each curve."""

    def effort(
        self,
        *,
        flops: float = 0,
        tokens: int = 0,
        seconds: float = 0,
        objective: str = "",
        customisation: str = "",
        pace: str = "",
    ) -> None:
        """Add to the ledger of effort: training FLOPs, tokens, what is optimised, what of the model is changed.

        `seconds` are those of earlier runs from whose checkpoint this one went on, as `flops` and `tokens` are of the
        whole training; `pace` names the settings that decide the speed, where FLOPs alone do not.
        """

    def progress(self, what: str, total: int | None, unit: str) -> Any:
        """A context manager that gives a `Progress`."""

    def track(self, items: Iterable[Item], what: str, total: int | None = None, unit: str = "items") -> Iterator[Item]:
        """Iterate with a progress bar."""


class _Tracks:
    progress: Any

    def track(self, items: Iterable[Item], what: str, total: int | None = None, unit: str = "items") -> Iterator[Item]:
        """Iterate with a progress bar."""
        with self.progress(what, total, unit) as bar:
            for item in items:
                yield item
                bar.advance()


class NullTracker(_Tracks):
    """Records nothing and shows nothing; for tests, for use as a library, and for all processes of a group but one."""

    def params(self, values: Mapping[str, Any]) -> None:
        """Do nothing."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Do nothing."""

    def effort(self, **_facts: Any) -> None:
        """Do nothing."""

    def artifact(self, path: Path) -> None:
        """Do nothing."""

    def close(self, status: str, exit_code: int = 0) -> None:
        """Do nothing."""

    @contextmanager
    def progress(self, what: str, total: int | None, unit: str) -> Iterator[Progress]:
        """A bar that nobody sees."""
        yield _Silent()


class _Silent:
    def resume(self, amount: int) -> None:
        """Do nothing."""

    def advance(self, amount: int = 1, **figures: float) -> None:
        """Do nothing."""


class SpoolTracker(_Tracks):
    """Appends events to `.moteur/tracking/<run>/<stage>.jsonl`, effort to the ledger, bars to the terminal."""

    def __init__(self, stage: str, root: Path = State.TRACKING.path, effort: Path = State.EFFORT.path) -> None:
        self.stage = stage
        self.run = run_name()
        self._started = time.monotonic()
        self._seconds_before = 0.0
        self._effort_path = effort
        self._effort: dict[str, Any] = {"flops": 0.0, "tokens": 0, "objective": "", "customisation": "", "pace": ""}
        folder = root / self.run
        folder.mkdir(parents=True, exist_ok=True)
        self._spool = (folder / f"{stage}.jsonl").open("a", encoding="utf-8", buffering=1)
        self._write("start", **lineage.code_version(), dvc_lock=lineage.lock_hash())

    def _write(self, event: str, **fields: Any) -> None:
        line = {"event": event, "time": time.time(), **fields}
        self._spool.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")

    def params(self, values: Mapping[str, Any]) -> None:
        """Record the settings of the run."""
        self._write("params", values=dict(values))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record one point of each curve."""
        self._write("metrics", step=step, values={name: float(value) for name, value in metrics.items()})

    def artifact(self, path: Path) -> None:
        """Record that a file belongs to the run."""
        self._write("artifact", path=path.as_posix())

    def effort(
        self,
        *,
        flops: float = 0,
        tokens: int = 0,
        seconds: float = 0,
        objective: str = "",
        customisation: str = "",
        pace: str = "",
    ) -> None:
        """Add to the ledger of effort."""
        self._effort["flops"] += float(flops)
        self._effort["tokens"] += int(tokens)
        self._seconds_before += seconds
        self._effort["objective"] = objective or self._effort["objective"]
        self._effort["customisation"] = customisation or self._effort["customisation"]
        self._effort["pace"] = pace or self._effort["pace"]

    def close(self, status: str, exit_code: int = 0) -> None:
        """End the run with `status` finished, failed or preempted, and write its line of the ledger."""
        seconds = self._seconds_before + time.monotonic() - self._started
        entry = {
            "run": self.run,
            "stage": self.stage,
            "status": status,
            "exit_code": exit_code,
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
            "peak_memory_mib": round(device.peak_memory_mib(), 1),
            **self._effort,
        }
        self._effort_path.parent.mkdir(parents=True, exist_ok=True)
        with self._effort_path.open("a", encoding="utf-8") as ledger:
            ledger.write(json.dumps(entry, ensure_ascii=False) + "\n")
        self._write("end", status=status, seconds=seconds, effort=entry)
        self._spool.close()

    @contextmanager
    def progress(self, what: str, total: int | None, unit: str) -> Iterator[Progress]:
        """A bar on a terminal; a plain line every ten seconds elsewhere."""
        if sys.stderr.isatty():
            with _bar(f"{self.stage}: {what}", total, unit) as shown:
                yield shown
        else:
            yield _Lines(f"{self.stage}: {what}", total, unit)


def _figures(values: Mapping[str, float]) -> str:
    return "  ".join(
        f"{name} {value:,.0f}" if abs(value) >= 1000 else f"{name} {value:.3f}" for name, value in values.items()
    )


def _pace(rate: float) -> str:
    """So many a second, or how long each takes where that is more than a second."""
    return f"{1 / rate:,.1f} s each" if 0 < rate < 1 else f"{rate:,.0f}/s"


class _Lines:
    every = 10.0

    def __init__(self, what: str, total: int | None, unit: str) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._done = self._before = 0
        self._started = self._last = time.monotonic()

    def resume(self, amount: int) -> None:
        """Count from `amount` on, and the time from now."""
        self._done = self._before = amount
        self._started = time.monotonic()

    def advance(self, amount: int = 1, **figures: float) -> None:
        """Count, and print when it is time."""
        self._done += amount
        now = time.monotonic()
        if now - self._last < self.every:
            return
        self._last = now
        rate = (self._done - self._before) / (now - self._started)
        of = f"/{self._total:,}" if self._total else ""
        left = f"  {(self._total - self._done) / rate:.0f} s left" if self._total and rate else ""
        print(  # noqa: T201  this is the progress display
            f"{self._what}  {self._done:,}{of} {self._unit}  {_pace(rate)}  {_figures(figures)}{left}",
            file=sys.stderr,
            flush=True,
        )


@contextmanager
def _bar(what: str, total: int | None, unit: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn(unit + "  {task.fields[rate]}  {task.fields[figures]}"),
        TimeRemainingColumn(compact=True),
    )
    with RichProgress(*columns, console=Console(stderr=True)) as display:
        task = display.add_task(what, total=total, rate="", figures="")
        started = time.monotonic()
        done = 0

        class _Shown:
            def resume(self, amount: int) -> None:
                nonlocal started
                started = time.monotonic()
                display.reset(task, completed=amount)

            def advance(self, amount: int = 1, **figures: float) -> None:
                nonlocal done
                done += amount
                rate = _pace(done / max(time.monotonic() - started, 1e-9))
                fields: dict[str, Any] = {"figures": _figures(figures)} if figures else {}
                display.update(task, advance=amount, rate=rate, **fields)

        yield _Shown()

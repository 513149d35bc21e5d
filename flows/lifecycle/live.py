"""What `moteur status` says of what is live: services, champion, retrainings, what comes next, open alerts."""

import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from flows import process
from flows.retraining import records
from flows.stages import figures
from flows.supervision import services, supervisor, up
from pipelines.adapters import alerts, registry
from pipelines.adapters.orchestrator import NAMES, Server
from pipelines.artifacts import State
from pipelines.errors import ResourceError
from pipelines.params import Params

SHOWN = 3
"""Retrainings and alerts that are shown."""


def show(root: Path, console: Console) -> None:
    """Print what runs, the champion, the last retrainings, what comes next, open alerts."""
    from pipelines import stage

    params = stage.load_params(root / "params.yaml")
    found = supervisor.state(root)
    if found is not None:
        console.print(up.services_table(found))
    for line in [*_champion(root), *_retrainings(root), *_next(found, params), *_alerts(root, params)]:
        console.print(line, markup=False, soft_wrap=True)


def _champion(root: Path) -> Iterator[str]:
    """The version that is live; the registry brings MLflow, so it is asked in a process that may take its time."""
    if not registry.is_made(root):
        return
    command = [sys.executable, "-m", "pipelines.adapters.registry", "champion"]
    done = process.capture(command, os.environ, folder=root)
    if done.returncode:
        yield "Champion: unknown (the registry did not answer)."
        return
    number, _, digest = done.stdout.strip().partition(" ")
    yield f"Champion: version {number} (manifest {digest[:12]}...)" if number else "Champion: none yet."


def _retrainings(root: Path) -> Iterator[str]:
    last = records.read(root)[-SHOWN:]
    if last:
        yield "Retrainings:"
    for record in reversed(last):
        when = datetime.fromtimestamp(record.started).astimezone().strftime("%Y-%m-%d %H:%M")
        long = f", {figures.duration(record.ended - record.started)}" if record.ended else ""
        step = f", after {record.done[-1]}" if record.status == "running" and record.done else ""
        version = f", version {record.version}" if record.version else ""
        data = f", {record.new_files} files of accepted data" if record.new_files else ""
        note = f": {record.note.splitlines()[0][:160]}" if record.note else ""
        yield f"  {record.id}  {when}  {record.reason}: {record.status}{step}{long}{version}{data}{note}"


def _next(found: dict[str, Any] | None, params: Params) -> Iterator[str]:
    if found is None:
        return
    api = os.environ.get("PREFECT_API_URL") or services.prefect_url(params)
    for name, deployment in NAMES.items():
        try:
            when = Server(api, timeout=3).next_run(deployment)
        except ResourceError:
            yield "Next: the Prefect server does not answer just now."
            return
        if when is not None:
            away = (when - datetime.now(UTC)).total_seconds()
            local = when.astimezone().strftime("%Y-%m-%d %H:%M %Z")
            yield f"Next {name}: {local}" + (f" (in {figures.duration(away)})" if away > 0 else " (due)")


def _alerts(root: Path, params: Params) -> Iterator[str]:
    there = [alert for alert in alerts.Outbox(root / State.ALERTS).open() if alert.severity != "info"]
    if not there:
        return
    yield f"Open alerts: {len(there)} (`moteur alerts`)"
    for alert in reversed(there[-SHOWN:]):
        told = ", ".join(alert.delivered) or ("nobody" if not params.alerts.sinks else "nobody yet")
        yield f"  {alert.severity}: {alert.title} (told {told})"

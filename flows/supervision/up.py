"""`moteur up` and `moteur down`: start everything and wait until it answers; end everything."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from flows import terminal
from flows.stages import figures
from flows.supervision import services, supervisor
from pipelines.adapters import alert_sinks
from pipelines.adapters.orchestrator import Server
from pipelines.artifacts import State
from pipelines.core.text.secrets import redact
from pipelines.errors import MoteurError, ResourceError
from pipelines.params import Params

COLOURS = {"up": "green", "starting": "yellow", "waiting": "yellow", "stopped": "red"}


class NotUp(MoteurError):  # noqa: N818  it is an outcome, and reads as one
    """The services did not start."""


def up(root: Path, *, foreground: bool) -> None:
    """Start everything and wait until it answers; or, in the foreground, until it is stopped.

    Raises:
        ParamsError: when an alert sink has no address, or two services have one port.
        ResourceError: when a port is taken, or a server of the user's own does not answer.
        NotUp: when a service does not start.
    """
    params, console = _params(root), terminal.console()
    if supervisor.held(root):
        console.print("Up already.")
        console.print(services_table(supervisor.state(root)))
        return
    alert_sinks.sinks(params.alerts, root)
    supervisor.sweep(root)
    _refuse_taken_ports(params)
    _refuse_missing_servers()
    if foreground:
        console.print(f"Up in the foreground; Ctrl-C ends everything. Logs: {root / State.LOGS}", soft_wrap=True)
        supervisor.main()
        return
    child = _spawn(root)
    try:
        found = _wait(root, child, params.services.start_seconds, console)
    except BaseException:
        down(root, quiet=True)
        raise
    console.print(services_table(found))
    for line in _where(root, params):
        console.print(line, markup=False, soft_wrap=True)


def _params(root: Path) -> Params:
    from pipelines import stage

    return stage.load_params(root / "params.yaml")


def _refuse_taken_ports(params: Params) -> None:
    for one in services.addresses(params):
        try:
            with socket.create_server((one.host, one.port), family=_family(one.host)):
                pass
        except OSError as error:
            remedy = (
                f"end what uses it, or give another {one.port_key}"
                if error.errno == errno.EADDRINUSE
                else f"give another {one.host_key} or {one.port_key}"
            )
            raise ResourceError(
                f"{one.port_key} is {one.port}, but {one.host} cannot be listened on there ({error.strerror}): {remedy}"
                " in params.yaml"
            ) from None


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _refuse_missing_servers() -> None:
    if (api := os.environ.get("PREFECT_API_URL")) and not Server(api).ready():
        raise ResourceError(
            f"PREFECT_API_URL is {redact(api)}, but no Prefect server answers there: start it, or unset it."
        )


def _spawn(root: Path) -> "subprocess.Popen[bytes]":
    path = supervisor.log(root, "supervisor")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "flows.supervision.supervisor"],
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait(root: Path, child: "subprocess.Popen[bytes]", seconds: float, console: Console) -> dict[str, Any]:
    """Wait until every required service is up and the runner serves; a line for each as it comes."""
    deadline = time.monotonic() + 2 * seconds
    said: set[str] = set()
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise NotUp(f"the supervisor ended (exit code {child.returncode}): {supervisor.log(root, 'supervisor')}")
        found = supervisor.state(root)
        if found is None or found["pid"] != child.pid:
            time.sleep(0.2)
            continue
        for name, facts in found["services"].items():
            if facts["phase"] == "up" and name not in said:
                console.print(f"  {name} is up", markup=False)
                said.add(name)
            if facts["phase"] == "waiting" and facts["last"] and facts["required"]:
                raise NotUp(f"{name} does not start ({facts['last']}): {_last_words(supervisor.log(root, name))}")
        if found["services"] and all(
            facts["phase"] == "up" for facts in found["services"].values() if facts["required"]
        ):
            return found
        time.sleep(0.2)
    raise NotUp(f"not everything is up after {2 * seconds:g} s: {root / State.LOGS} holds the logs")


def _last_words(path: Path) -> str:
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return f"{lines[-1][:300] if lines else 'it said nothing'} ({path})"


def services_table(found: dict[str, Any] | None) -> Table:
    """Service, state, since when, where."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("service", "state", "for", "where"):
        shown.add_column(name, overflow="fold")
    for name, facts in (found or {"services": {}})["services"].items():
        colour = COLOURS[facts["phase"]]
        last = f" ({facts['last']})" if facts["phase"] == "waiting" and facts["last"] else ""
        long = figures.duration(max(0.0, time.time() - facts["since"])) if facts["since"] else ""
        shown.add_row(name, f"[{colour}]{facts['phase']}[/{colour}]{last}", long, facts["shown"])
    return shown


def _where(root: Path, params: Params) -> Iterator[str]:
    yield f"Logs:    {root / State.LOGS}"
    schedule = params.schedule
    if schedule.retraining:
        drift = ", and on drift" if schedule.retrain_on_drift else ""
        yield f'Retrain: cron "{schedule.retraining}" ({schedule.timezone}){drift}'
    else:
        yield "Retrain: on drift" if schedule.retrain_on_drift else "Retrain: by hand only (schedule in params.yaml)"
    if not params.alerts.sinks:
        yield "Alerts:  kept, but sent to nobody: `moteur alerts` says how to change that"
    yield "End:     moteur down"


def down(root: Path, *, quiet: bool = False) -> None:
    """End everything that `up` started; a running stage saves its state first.

    Raises:
        NotUp: when something cannot be ended.
    """
    console = terminal.console(quiet=quiet)
    found = _first_state(root)
    if found is None and not supervisor.held(root):
        left = supervisor.sweep(root)
        console.print(f"Ended {left} processes of an earlier `moteur up`." if left else "Nothing is up.")
        return
    if found is not None:
        _stop_supervisor(root, found, console)
    if supervisor.held(root):
        raise NotUp(f"the supervisor of {root} does not end: {supervisor.log(root, 'supervisor')} may say why")
    supervisor.sweep(root)
    console.print("Everything is down.")


def _first_state(root: Path, patience: float = 30.0) -> dict[str, Any] | None:
    """What the supervisor wrote; one that has only just begun is given a moment to write."""
    deadline = time.monotonic() + patience
    while (found := supervisor.state(root)) is None and supervisor.held(root) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _stop_supervisor(root: Path, found: dict[str, Any], console: Console) -> None:
    try:
        running = psutil.Process(int(found["pid"]))
        running.send_signal(signal.SIGTERM)
    except psutil.Error:
        return
    patience = _params(root).services.stop_seconds + 60
    deadline = time.monotonic() + patience
    said: set[str] = set()
    while supervisor.held(root) and time.monotonic() < deadline:
        now = supervisor.state(root) or found
        for name, facts in now["services"].items():
            if facts["phase"] == "stopped" and name not in said:
                console.print(f"  {name} has ended", markup=False)
                said.add(name)
        time.sleep(0.1)
    if supervisor.held(root):
        running.kill()
        running.wait(10)
        return
    for name in found["services"]:
        if name not in said:
            console.print(f"  {name} has ended", markup=False)

"""The supervisor behind `moteur up`: keeps services alive, and ends every process that came of them.

One supervisor a checkout, held by a lock that the kernel frees when it dies. Everything below it inherits a mark in its
environment: what a killed supervisor left behind is found by the mark and ended before anything is started.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

import psutil

from flows import process
from flows.supervision import services
from flows.supervision.services import MARK, Service
from pipelines.adapters import files, locks
from pipelines.adapters.alerts import Alerting, Outbox
from pipelines.artifacts import State
from pipelines.errors import MoteurError, ResourceError

if TYPE_CHECKING:
    import httpx

STATE = "state.json"
POLL_SECONDS, CHECK_SECONDS, UP_CHECK_SECONDS = 0.2, 1.0, 10.0
"""How often a service is looked at; asked whether it answers, before and after it first did."""
FIRST_WAIT, LONGEST_WAIT, STEADY_SECONDS = 1.0, 30.0, 60.0
"""A service that dies is started again after this wait, which doubles up to the longest; a minute of answers
resets it."""
LOG_BYTES = 10_000_000
DEATHS_TO_ALERT = 3

Phase = Literal["starting", "up", "waiting", "stopped"]


@dataclass
class Kept:
    """A service and the process that is it now."""

    service: Service
    child: "subprocess.Popen[bytes] | None" = None
    phase: Phase = "waiting"
    since: float = 0.0
    """When the phase began (seconds since 1970)."""
    born: float = 0.0
    """When the process was started (monotonic seconds)."""
    answered: float = 0.0
    """When it last answered (monotonic seconds)."""
    up: float = 0.0
    """When it first answered (monotonic seconds)."""
    checked: float = 0.0
    due: float = 0.0
    """When it is to be started (monotonic seconds)."""
    wait: float = FIRST_WAIT
    deaths: int = 0
    """In a row, each before it had answered for a minute."""
    last: str = ""
    """How the process before ended."""


class Supervisor:
    """Runs services in a checkout until it is told to stop."""

    def __init__(
        self,
        root: Path,
        kept: list[Service],
        environment: Mapping[str, str],
        *,
        start_seconds: float,
        alerting: Alerting | None = None,
    ) -> None:
        self._root = root
        self._kept = [Kept(service=service) for service in kept]
        self._nonce = f"{root}#{uuid4().hex}"
        self._environment = {**os.environ, **environment}
        self._start_seconds = start_seconds
        self._alerting = alerting or Outbox(root / State.ALERTS)
        self._client: httpx.Client | None = None
        self._stop = False
        self._written = ""

    def run(self) -> None:
        """Keep the services alive until SIGTERM or SIGINT; then end all of them.

        Raises:
            ResourceError: when another supervisor runs in this checkout.
        """
        with holding(self._root):
            (self._root / State.SERVICES / STATE).unlink(missing_ok=True)  # of a supervisor that was killed
            sweep(self._root, but=self._nonce)
            before = {number: signal.signal(number, self._leave) for number in (signal.SIGTERM, signal.SIGINT)}
            try:
                while not self._stop:
                    for one in self._kept:
                        self._tend(one)
                    self._write()
                    time.sleep(POLL_SECONDS)
            finally:
                self._end()
                for number, handler in before.items():
                    signal.signal(number, handler)

    def _leave(self, *_: Any) -> None:
        self._stop = True

    def _tend(self, one: Kept) -> None:
        now = time.monotonic()
        if one.child is None:
            if now >= one.due and self._may_start(one.service):
                self._start(one, now)
            return
        if (code := one.child.poll()) is not None:
            self._bury(one, f"exit code {code}", now)
            return
        if now - one.checked < (UP_CHECK_SECONDS if one.phase == "up" else CHECK_SECONDS):
            return
        one.checked = now
        if self._answers(one.service, one.child.pid):
            one.answered, one.up = now, one.up or now
            self._enter(one, "up")
            if now - one.up > STEADY_SECONDS:
                one.wait, one.deaths = FIRST_WAIT, 0
        elif now - max(one.answered, one.born) > self._start_seconds and (one.service.required or one.answered):
            self._bury(one, f"no answer in {self._start_seconds:g} s", now)

    def _answers(self, service: Service, pid: int) -> bool:
        if service.ready_file:
            path = services.ready_file(self._root, service.name)
            return path.exists() and path.read_text(encoding="utf-8") == str(pid)
        if service.ready is None:
            return True
        import httpx

        self._client = self._client or httpx.Client(timeout=5, trust_env=False, verify=False)  # noqa: S501  loopback
        try:
            return bool(self._client.get(service.ready).status_code == 200)
        except httpx.HTTPError:
            return False

    def _may_start(self, service: Service) -> bool:
        return all(one.phase == "up" for one in self._kept if one.service.name in service.needs)

    def _start(self, one: Kept, now: float) -> None:
        path = log(self._root, one.service.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        with path.open("ab") as out:
            one.child = subprocess.Popen(  # noqa: S603
                one.service.command,
                cwd=self._root,
                env={**self._environment, **one.service.environment, MARK: f"{self._nonce}/{one.service.name}"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        one.born, one.answered, one.up, one.checked = now, 0.0, 0.0, 0.0
        self._enter(one, "starting")

    def _bury(self, one: Kept, how: str, now: float) -> None:
        """Note that a service died, end what is left of it, and plan its next start."""
        self._end_one(one)
        one.child, one.last, one.deaths = None, how, one.deaths + 1
        one.due, one.wait = now + one.wait, min(2 * one.wait, LONGEST_WAIT)
        self._enter(one, "waiting")
        if one.deaths == DEATHS_TO_ALERT:
            title = f"The service {one.service.name} keeps dying"
            body = f"It ended {one.deaths} times in a row ({how}); {log(self._root, one.service.name)} says why."
            self._alerting.put(f"service/{one.service.name}/{time.strftime('%Y-%m-%d')}", title, body, "failure")

    def _enter(self, one: Kept, phase: Phase) -> None:
        if one.phase != phase or phase == "starting":
            one.phase, one.since = phase, time.time()

    def _end(self) -> None:
        """Stop the services, the last first, then whatever still carries our mark."""
        for one in reversed(self._kept):
            self._end_one(one)
            one.child, one.phase, one.since = None, "stopped", time.time()
            self._write()
        sweep(self._root)

    def _end_one(self, one: Kept) -> None:
        """End a service and what it started, even in sessions of their own."""
        if one.child is not None:
            _end_group(one.child, one.service.grace_seconds)
            sweep(self._root, only=f"{self._nonce}/{one.service.name}", grace=one.service.grace_seconds)

    def _write(self) -> None:
        state = {
            "pid": os.getpid(),
            "mark": self._nonce,
            "services": {one.service.name: _facts(one) for one in self._kept},
        }
        text = json.dumps(state)
        if text != self._written:
            files.write_json(self._root / State.SERVICES / STATE, state)
            self._written = text


def _facts(one: Kept) -> dict[str, Any]:
    return {
        "pid": one.child.pid if one.child else None,
        "phase": one.phase,
        "since": round(one.since, 1),
        "shown": one.service.shown,
        "required": one.service.required,
        "last": one.last,
    }


def _end_group(child: "subprocess.Popen[bytes]", grace: float) -> None:
    """SIGTERM to the process group, SIGKILL to what is left of it after `grace` seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        deadline = time.monotonic() + grace
        while process.members(child.pid) and time.monotonic() < deadline:
            child.poll()
            time.sleep(0.05)
    child.wait()


def log(root: Path, name: str) -> Path:
    """Where a service writes."""
    return root / State.LOGS / f"{name}.log"


def holding(root: Path, patience: float = 2.0) -> AbstractContextManager[None]:
    """Be the supervisor of the checkout; somebody who only looks holds the lock for a moment, so be patient (seconds).

    Raises:
        ResourceError: when another process is.
    """

    def busy(_holder: str) -> ResourceError:
        return ResourceError(f"`moteur up` runs in {root} already: `moteur status` shows it.")

    return locks.holding(root / State.SUPERVISOR, wait=patience, busy=busy)


def held(root: Path) -> bool:
    """Whether a supervisor runs in the checkout; many may look at once."""
    return locks.held(root / State.SUPERVISOR)


def state(root: Path) -> dict[str, Any] | None:
    """What the supervisor last wrote, while one runs."""
    if not held(root):
        return None
    try:
        found: dict[str, Any] = files.read_json(root / State.SERVICES / STATE)
    except MoteurError:
        return None
    return found


def sweep(root: Path, *, only: str = "", but: str = "", grace: float = 10.0) -> int:
    """End every process whose mark begins with `only` (default: of any supervisor of this checkout) and not with `but`.

    They are asked, and killed after `grace` seconds. Returns how many there were.
    """
    found = [one for one in psutil.process_iter() if one.pid != os.getpid() and _marked(one, only or f"{root}#", but)]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for one in found:
            with contextlib.suppress(psutil.Error):
                one.send_signal(number)
        psutil.wait_procs(found, timeout=grace)
    return len(found)


def _marked(one: psutil.Process, only: str, but: str) -> bool:
    try:
        mark = one.environ().get(MARK, "")
    except (psutil.Error, OSError):
        return False
    return mark.startswith(only) and not (but and mark.startswith(but))


def main() -> None:
    """Supervise the current folder."""
    from pipelines import stage

    root = Path.cwd()
    try:
        params = stage.load_params()
        wanted = services.planned(params, root)
        settings = services.environment(params, root)
        Supervisor(root, wanted, settings, start_seconds=params.services.start_seconds).run()
    except MoteurError as error:
        print(f"moteur up: {error}", file=sys.stderr)  # noqa: T201  the log of the supervisor
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()

"""The supervisor with services of a line each: kept alive, and ended with everything that came of them."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from flows.supervision import services, supervisor, up
from flows.supervision.services import Service
from pipelines.adapters.alerts import Outbox
from pipelines.adapters.orchestrator import Server
from pipelines.errors import ResourceError
from pipelines.stage import load_params
from tests.flows.examples import ROOT

CHILD = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(os.getpid(), child.pid, flush=True)
time.sleep(600)
"""
"""Starts a process in a session of its own, as Prefect's runner and our retraining do."""

HOST = """
import pathlib, sys
from flows.supervision.services import Service
from flows.supervision.supervisor import Supervisor
service = Service(name="one", command=(sys.executable, "-u", "-c", {child!r}), grace_seconds=5)
Supervisor(pathlib.Path.cwd(), [service], {{}}, start_seconds=30).run()
"""


def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def gone(*pids: int) -> bool:
    return all(not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE for pid in pids)


def pids(root: Path) -> list[list[int]]:
    path = supervisor.log(root, "one")
    return [[int(word) for word in line.split()] for line in path.read_text().splitlines()] if path.exists() else []


def start(root: Path) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", HOST.format(child=CHILD)], cwd=root, env=environment)


@pytest.fixture
def host(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    one = start(tmp_path)
    until(lambda: len(pids(tmp_path)) == 1)
    yield one
    one.kill()
    one.wait()
    supervisor.sweep(tmp_path)


def test_a_service_that_is_killed_is_started_again(tmp_path: Path, host: "subprocess.Popen[bytes]") -> None:
    os.kill(pids(tmp_path)[0][0], signal.SIGKILL)
    until(lambda: len(pids(tmp_path)) == 2)
    until(lambda: (supervisor.state(tmp_path) or {})["services"]["one"]["phase"] == "up")
    found = supervisor.state(tmp_path)
    assert found is not None
    assert found["services"]["one"]["last"] == "exit code -9"
    assert found["pid"] == host.pid


def test_told_to_stop_it_ends_everything_even_what_has_a_session_of_its_own(
    tmp_path: Path, host: "subprocess.Popen[bytes]"
) -> None:
    (family,) = pids(tmp_path)
    host.terminate()
    assert host.wait(30) == 0
    assert gone(*family)
    assert not supervisor.held(tmp_path)
    assert json.loads((tmp_path / ".moteur/services/state.json").read_text())["services"]["one"]["phase"] == "stopped"


def test_what_a_killed_supervisor_left_behind_is_ended_by_the_next(
    tmp_path: Path, host: "subprocess.Popen[bytes]"
) -> None:
    (family,) = pids(tmp_path)
    host.kill()
    host.wait()
    assert not gone(*family)
    again = start(tmp_path)
    until(lambda: len(pids(tmp_path)) == 2)
    assert gone(*family)
    again.terminate()
    again.wait(30)


def test_what_a_killed_supervisor_wrote_is_not_taken_for_the_word_of_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".moteur/services").mkdir(parents=True)
    (tmp_path / ".moteur/services/state.json").write_text(json.dumps({"pid": 1, "services": {}}))
    one = keeper(tmp_path)
    found: list[object] = []

    def sweep(*_: object, **__: object) -> None:
        found.append(supervisor.state(tmp_path))
        one._stop = True

    monkeypatch.setattr(supervisor, "sweep", sweep)
    one.run()
    assert found[0] is None


def test_up_does_not_believe_the_state_of_another_supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"phase": "up", "required": True, "last": "", "since": 0, "shown": ""}
    monkeypatch.setattr(supervisor, "state", lambda _: {"pid": 1, "services": {"one": facts}})
    child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(up.NotUp, match="the supervisor ended"):
        up._wait(tmp_path, child, 30, Console(quiet=True))


def test_two_may_look_at_once_and_neither_is_taken_for_a_supervisor(tmp_path: Path) -> None:
    with supervisor.holding(tmp_path):
        assert supervisor.held(tmp_path)
    with (tmp_path / ".moteur/services/lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert not supervisor.held(tmp_path)


def test_a_second_supervisor_is_refused(tmp_path: Path, host: "subprocess.Popen[bytes]") -> None:
    with pytest.raises(ResourceError, match=r"runs in .* already"), supervisor.holding(tmp_path, patience=0.1):
        pass


@pytest.mark.parametrize("url", ["http://me:hunter2@127.0.0.1:9/api", "http://me:hunter2", "http://me:hun/ter2@db"])
def test_row_48_the_password_of_a_prefect_server_of_ones_own_is_in_no_error(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", url)
    with pytest.raises(ResourceError, match=r"but no Prefect server answers there") as caught:
        up._refuse_missing_servers()
    with pytest.raises(ResourceError, match=r"does not answer") as asked:
        Server(url).call("GET", "/health")
    assert "ter2" not in f"{caught.value} {asked.value}"


def keeper(tmp_path: Path, *kept: Service) -> supervisor.Supervisor:
    return supervisor.Supervisor(tmp_path, list(kept), {}, start_seconds=0.5)


def test_a_service_waits_for_those_it_needs_and_not_for_those_that_are_not_run(tmp_path: Path) -> None:
    first = Service(name="first", command=(sys.executable, "-c", "import time; time.sleep(600)"), ready_file=True)
    second = Service(name="second", command=first.command, needs=("first", "elsewhere"))
    one = keeper(tmp_path, first, second)
    try:
        for kept in one._kept:
            one._tend(kept)
        assert [kept.phase for kept in one._kept] == ["starting", "waiting"]
        (tmp_path / ".moteur/services").mkdir(exist_ok=True)
        child = one._kept[0].child
        assert child is not None
        services.ready_file(tmp_path, "first").write_text(str(child.pid))
        for kept in one._kept:
            one._tend(kept)
        assert [kept.phase for kept in one._kept] == ["up", "starting"]
    finally:
        one._end()


def test_a_service_that_never_answers_is_started_again_and_in_the_end_somebody_is_told(tmp_path: Path) -> None:
    deaf = Service(
        name="deaf",
        command=(sys.executable, "-c", "import time; time.sleep(600)"),
        ready="http://127.0.0.1:9/",
        grace_seconds=2,
    )
    one = keeper(tmp_path, deaf)
    kept = one._kept[0]
    try:
        for _ in range(supervisor.DEATHS_TO_ALERT):
            kept.due = 0.0
            one._tend(kept)
            kept.born -= 10 * supervisor.STEADY_SECONDS
            one._tend(kept)
            assert (kept.phase, kept.last) == ("waiting", "no answer in 0.5 s")
    finally:
        one._end()
    assert [alert.title for alert in Outbox(tmp_path / ".moteur/alerts").open()] == ["The service deaf keeps dying"]


def test_a_service_that_may_wait_is_left_alone_until_it_has_answered_and_started_again_when_it_hangs(
    tmp_path: Path,
) -> None:
    sleeps = (sys.executable, "-c", "import time; time.sleep(600)")
    one = keeper(tmp_path, Service(name="one", command=sleeps, ready_file=True, required=False, grace_seconds=2))
    kept = one._kept[0]
    try:
        one._tend(kept)
        kept.born -= 10
        one._tend(kept)
        assert kept.phase == "starting"
        assert kept.child is not None
        (tmp_path / ".moteur/services").mkdir(parents=True, exist_ok=True)
        services.ready_file(tmp_path, "one").write_text(str(kept.child.pid))
        kept.checked = 0.0
        one._tend(kept)
        assert kept.phase == "up"
        services.ready_file(tmp_path, "one").unlink()
        kept.checked, kept.answered = 0.0, kept.answered - 10
        one._tend(kept)
        assert (kept.phase, kept.last) == ("waiting", "no answer in 0.5 s")
    finally:
        one._end()


def test_somebody_is_told_of_a_service_that_keeps_dying_though_nothing_waits_for_it(tmp_path: Path) -> None:
    one = keeper(tmp_path, Service(name="one", command=(sys.executable, "-c", "raise SystemExit(1)"), required=False))
    for _ in range(supervisor.DEATHS_TO_ALERT):
        one._kept[0].due = 0.0
        one._tend(one._kept[0])
        child = one._kept[0].child
        assert child is not None
        child.wait()
        one._tend(one._kept[0])
    assert [alert.title for alert in Outbox(tmp_path / ".moteur/alerts").open()] == ["The service one keeps dying"]


def test_a_minute_of_answers_and_not_of_silence_forgives_the_deaths_before(tmp_path: Path) -> None:
    one = keeper(tmp_path, Service(name="one", command=(sys.executable, "-c", "import time; time.sleep(600)")))
    kept = one._kept[0]
    kept.deaths, kept.wait = 2, supervisor.LONGEST_WAIT
    try:
        one._tend(kept)
        kept.born -= 2 * supervisor.STEADY_SECONDS
        one._tend(kept)
        assert (kept.phase, kept.deaths) == ("up", 2)
        kept.up, kept.checked = kept.up - 2 * supervisor.STEADY_SECONDS, 0.0
        one._tend(kept)
        assert (kept.deaths, kept.wait) == (0, supervisor.FIRST_WAIT)
    finally:
        one._end()


def test_servers_of_the_users_own_are_used_and_not_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    params = load_params(ROOT / "params.yaml")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    ours = [service.name for service in services.planned(params, tmp_path)]
    assert [name for name in ours if name != "serving"] == ["prefect", "mlflow", "alerts", "probation", "runner"]
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.example:4200/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://u:p@db/mlflow")
    theirs = [service.name for service in services.planned(params, tmp_path)]
    assert [name for name in theirs if name != "serving"] == ["alerts", "probation", "runner"]
    given = services.environment(params, tmp_path)
    assert given["PREFECT_API_URL"] == "http://prefect.example:4200/api"
    assert given["MLFLOW_TRACKING_URI"] == "postgresql://u:p@db/mlflow"


def test_no_service_calls_home() -> None:
    given = services.environment(load_params(ROOT / "params.yaml"), ROOT)
    assert given["DO_NOT_TRACK"] == "1"
    assert given["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert given["MLFLOW_DISABLE_TELEMETRY"] == "true"

"""Row 37: a champion that answers worse than the one before goes back within a minute, and drift does not follow."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.champions import history, probation, promotion
from flows.champions.probation import BEFORE
from flows.retraining import records
from flows.retraining import run as retraining
from pipelines import stage
from pipelines.adapters import files, registry
from pipelines.adapters.alerts import Outbox
from pipelines.adapters.orchestrator import ROLLBACK, Server
from pipelines.adapters.requests import RequestLog
from pipelines.artifacts import State
from pipelines.errors import ResourceError
from tests import releases, servers
from tests.flows import toy
from tests.servers import until

SETTINGS = stage.load_params(releases.ROOT / "params.yaml").probation
FINE = "Ann had a ball. Then she went to the park, and they played there all day."


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Path:
    """A checkout with three versions that passed the gate; the first is champion."""
    folder = tmp_path_factory.mktemp("probation")
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("MLFLOW_TRACKING_URI", raising=False)
        root = toy.make(folder / "checkout", database=database, stages=1)
        exam = releases.exam(folder)
        found = registry.open_registry(root=root)
        for number in (1, 2, 3):
            found.register(releases.small(folder / f"release {number}", f"v{number}"), {}, exam=exam)
        promote(root, 1)
    return root


@pytest.fixture
def root(made: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Before each test version 1 is champion and nobody has asked anything."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    for path in (made / State.REQUESTS).glob("*"):
        path.unlink()
    (made / State.SERVING / "status.json").unlink(missing_ok=True)
    yield made
    if champion(made) != 1:
        promotion.rollback(made, to=1, say=lambda _: None)


def promote(root: Path, version: int) -> None:
    sit = releases.sitting(1.0)
    assert promotion.promote(root, version=version, again=True, examine=sit, say=lambda _: None).moved


def champion(root: Path) -> int | None:
    return registry.open_registry(root=root).aliases().get("champion")


def answer(
    root: Path, version: int, count: int, *, status: int = 200, seconds: float = 0.5, text: str = FINE, **more: Any
) -> None:
    """Requests as the server logs them."""
    log = RequestLog(root / State.REQUESTS, text=False, segment_bytes=2**20, segment_seconds=3600)
    for number in range(count):
        record = {
            "id": f"{version}-{time.monotonic_ns()}-{number}",
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "status": status,
            "version": str(version),
            "seconds": seconds,
        }
        log.write({**record, **more}, prompt="Tell a story.", response=text)
    log.close()


def look(root: Path, now: datetime | None = None) -> str:
    return probation.look(root, SETTINGS, Outbox(root / State.ALERTS), now)


WORSE: dict[str, tuple[dict[str, Any], str]] = {
    "errors": ({"status": 500, "text": ""}, "17% of 30 requests failed, before it 0% of 300"),
    "slow": ({"seconds": 4.0}, "one request in ten takes 4.0 s or more, before it 0.5 s"),
    "empty": ({"text": ""}, "27% of 30 answers are empty or loops, before it 0% of 300"),
    "loops": ({"text": "and so on " * 30}, "27% of 30 answers are empty or loops, before it 0% of 300"),
}
HOW_MANY = {"errors": 5, "slow": 5, "empty": 8, "loops": 8}


@pytest.mark.parametrize("kind", WORSE)
def test_row_37_a_champion_that_answers_worse_than_the_one_before_is_rolled_back_with_an_alert(
    root: Path, kind: str
) -> None:
    answers, why = WORSE[kind]
    answer(root, 1, BEFORE * SETTINGS.requests)
    promote(root, 2)
    answer(root, 2, SETTINGS.requests - HOW_MANY[kind])
    answer(root, 2, HOW_MANY[kind], **answers)
    assert look(root) == why
    assert champion(root) == 1
    last = history.read(root)[-1]
    assert (last.action, last.who, last.why, last.to_version) == ("rollback", "probation", why, 1)
    assert registry.open_registry(root=root).version(2).tags["withdrawn"].endswith(f"by probation: {why}")
    alert = Outbox(root / State.ALERTS).open()[-1]
    assert alert.title == "Version 2 was rolled back"
    assert alert.body.endswith(f"By probation: {why}.")
    assert look(root) == ""  # what came back is not on probation


@pytest.mark.parametrize("kind", WORSE)
def test_row_37_one_that_answers_as_the_one_before_did_stays(root: Path, kind: str) -> None:
    answers, _ = WORSE[kind]
    answer(root, 1, SETTINGS.requests, **answers)
    promote(root, 2)
    answer(root, 2, SETTINGS.requests, **answers)
    assert look(root) == ""
    assert champion(root) == 2


def test_row_37_a_few_requests_prove_nothing_and_those_of_an_earlier_reign_do_not_count(root: Path) -> None:
    answer(root, 2, SETTINGS.requests, status=500)
    promote(root, 2)
    answer(root, 2, SETTINGS.requests - 1, status=500)
    assert look(root) == ""
    answer(root, 2, 1, status=500)
    assert look(root).startswith("100% of 30 requests failed")


def test_row_37_without_requests_to_the_one_before_errors_count_and_slowness_does_not(root: Path) -> None:
    promote(root, 2)
    answer(root, 2, SETTINGS.requests, seconds=60.0)
    assert look(root) == ""
    answer(root, 2, SETTINGS.requests, status=500)
    assert look(root) == "100% of 30 requests failed, before it 0% of 0"


def test_row_37_faults_of_clients_are_not_those_of_the_version(root: Path) -> None:
    answer(root, 1, SETTINGS.requests)
    promote(root, 2)
    answer(root, 2, SETTINGS.requests, status=499, text="")
    assert look(root) == ""
    answer(root, 2, SETTINGS.requests)
    answer(root, 2, SETTINGS.requests, status=499, text="")
    assert look(root) == ""


def test_row_37_after_the_probation_a_person_decides(root: Path) -> None:
    promote(root, 2)
    answer(root, 2, SETTINGS.requests, status=500)
    assert look(root, datetime.now(UTC) + timedelta(minutes=SETTINGS.minutes, seconds=1)) == ""
    assert champion(root) == 2


def test_row_37_a_registry_that_does_not_answer_is_asked_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    promote(root, 2)
    answer(root, 2, SETTINGS.requests, status=500)
    with monkeypatch.context() as patched:
        patched.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        patched.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(ResourceError, match="does not do what is asked"):
            look(root)
    assert look(root)
    assert champion(root) == 1


def test_row_36_a_champion_that_the_server_refuses_is_rolled_back_without_a_person(root: Path) -> None:
    promote(root, 2)
    refusal = {"version": "2", "manifest_sha256": "a" * 64, "reason": "it did not warm up", "time": stamp()}
    (root / State.SERVING).mkdir(exist_ok=True)
    files.write_json(root / State.SERVING / "status.json", {"serving": None, "refused": [refusal]})
    assert look(root) == "the server refused it: it did not warm up"
    assert champion(root) == 1


def stamp() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def test_row_37_within_a_minute_for_real_with_an_event_and_without_a_retraining(root: Path, tmp_path: Path) -> None:
    """The service as `moteur up` runs it, beside a real Prefect server; then drift, which the rollback holds back."""
    prefect = servers.prefect(tmp_path / "prefect")
    prefect.start()
    try:
        prefect.wait()
        environment = toy.environment(PREFECT_API_URL=prefect.uri)
        service = subprocess.Popen([sys.executable, "-m", "flows.champions.probation"], cwd=root, env=environment)
        try:
            answer(root, 1, SETTINGS.requests)
            promote(root, 3)
            answer(root, 3, SETTINGS.requests, status=500, text="")
            until(lambda: champion(root) == 1, "it was rolled back within a minute", 60.0)
            query = {"filter": {"event": {"name": [ROLLBACK]}}}
            server = Server(prefect.uri)
            (event,) = until(lambda: server.call("POST", "/events/filter", query)["events"], "the event came", 30.0)
            assert event["payload"]["words"] == "100% of 30 requests failed, before it 0% of 30"
        finally:
            os.kill(service.pid, signal.SIGTERM)
            assert service.wait(30) == 0
    finally:
        prefect.kill()
    result = retraining.run(root, records.Order(reason="drift", key="new words"), lambda _: None)
    assert result == records.Skipped(
        why="a champion was rolled back 0 minutes ago, and schedule.cooldown_minutes is 360"
    )
    assert records.read(root) == []

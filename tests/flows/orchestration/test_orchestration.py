"""`moteur up` for real, over one toy stage: events, schedules, killed flows, down again."""

import asyncio
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from flows.retraining import records
from flows.supervision import supervisor
from pipelines.adapters.alerts import Outbox
from pipelines.adapters.orchestrator import DRIFT, NAMES, Server
from pipelines.errors import MoteurError, ResourceError
from tests.flows import toy
from tests.servers import free_port, until

RETRAIN = NAMES["retrain"]
ENDED = ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Iterator[tuple[Path, Server]]:
    """A checkout that is up, with a Prefect server of its own; tracking goes to a file."""
    root = toy.make(tmp_path_factory.mktemp("live") / "checkout", database=database, stages=1)
    port = free_port()
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("prefect_port: 4200", f"prefect_port: {port}"))
    toy.run_git(root, "commit", "-qam", "A port")
    tracking = f"sqlite:///{root}/.moteur/mlflow.db"
    done = toy.moteur(root, "up", MLFLOW_TRACKING_URI=tracking)
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        yield root, Server(f"http://127.0.0.1:{port}/api", timeout=60)  # it may be asked beside other work
    finally:
        toy.moteur(root, "down")
        supervisor.sweep(root)


def ended(server: Server) -> list[dict[str, Any]]:
    return server.runs(RETRAIN, states=ENDED, limit=50)


def test_rows_27_and_28_ten_events_and_a_replay_of_each_start_exactly_one_retraining(
    live: tuple[Path, Server],
) -> None:
    root, server = live
    for number in range(10):
        for _ in range(2):
            server.emit(DRIFT, f"drift/{number}", {"words": "new words"})
    (run,) = until(lambda: [one for one in ended(server) if one["parameters"].get("reason") == "drift"], "it ended")
    assert run["state"]["name"] == "Finished"
    (record,) = [one for one in records.read(root) if one.reason == "drift"]
    assert (record.keys, record.status) == ([run["parameters"]["key"]], "finished")
    assert f"{record.id}" in toy.moteur(root, "status").stdout
    assert [one["id"] for one in server.runs(RETRAIN, limit=50) if one["parameters"].get("reason") == "drift"] == [
        run["id"]
    ]


def test_monitoring_without_a_champion_is_neither_an_alarm_nor_an_all_clear(live: tuple[Path, Server]) -> None:
    _, server = live
    run = server.start(NAMES["monitor"], {}, "look")
    until(lambda: state(server, run)["type"] in ENDED, "it looked")
    assert state(server, run)["name"] == "Insufficient data"
    assert state(server, run)["message"] == "There is no champion yet, and no release in models/release."


def test_status_shows_what_runs_what_was_done_and_what_comes_next(live: tuple[Path, Server]) -> None:
    root, server = live
    until(lambda: server.next_run(RETRAIN), "the schedule was planned")
    Outbox(root / ".moteur/alerts").put("k", "Look at this", "please")
    said = toy.moteur(root, "status").stdout
    assert [word for word in ("prefect", "alerts", "runner") if f"{word} " in said and "up" in said] == [
        "prefect", "alerts", "runner",
    ]  # fmt: skip
    assert "Next retrain: " in said
    assert "Next monitor: " in said
    assert "warning: Look at this (told nobody)" in said


def test_rows_21_3_and_29_a_killed_flow_is_taken_up_alone_and_a_schedule_waits_for_it(
    live: tuple[Path, Server],
) -> None:
    """The stage hangs; the flow is killed and leaves dvc and the stage behind; a scheduled run comes in between."""
    root, server = live
    (root / "data/sources/a.txt").write_text("changed, or the stage would come from the cache\n")
    (root / "behaviour").write_text("ingestion hang")
    toy.run_git(root, "add", "behaviour")
    toy.run_git(root, "commit", "-qm", "A stage that hangs")
    before = len(records.read(root))
    server.start(RETRAIN, {"reason": "by hand"}, "one")
    record = until(lambda: records.read(root)[before:], "a retraining began")[0]
    workspace = records.folder(root, record)
    stage = until(lambda: working(workspace, "pipelines.ingestion"), "the stage ran")[0]
    waiting = server.start(RETRAIN, {"reason": "schedule", "key": "schedule 2026-03-02T03:00"}, "two")
    until(lambda: state(server, waiting)["name"] == "AwaitingConcurrencySlot", "the second waits")
    server.call("POST", f"/flow_runs/{waiting}/set_state", {"state": {"type": "CANCELLED"}, "force": True})
    flow = psutil.Process(int((root / ".moteur/retrainings/lock").read_text()))
    (workspace / "behaviour").unlink()
    toy.run_git(root, "rm", "-q", "behaviour")
    toy.run_git(root, "commit", "-qm", "It does not hang")
    flow.kill()
    assert stage.is_running()
    again = until(
        lambda: next((one for one in records.read(root) if one.id == record.id and one.status == "finished"), None),
        "the killed one was finished",
    )
    assert again.attempts == 2
    assert not stage.is_running() or stage.status() == psutil.STATUS_ZOMBIE
    efforts = [json.loads(line) for line in (workspace / ".moteur/effort.jsonl").read_text().splitlines()]
    assert [entry["status"] for entry in efforts].count("finished") == 1
    titles = [alert.title for alert in Outbox(root / ".moteur/alerts").open()]
    assert f"Retraining {record.id} was interrupted and goes on" in titles


def working(workspace: Path, module: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if module in process.cmdline() and Path(process.cwd()) == workspace:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def state(server: Server, run: str) -> dict[str, Any]:
    found: dict[str, Any] = server.call("GET", f"/flow_runs/{run}")["state"]
    return found


def test_row_22_a_flow_whose_host_died_is_found_by_its_silence(live: tuple[Path, Server]) -> None:
    """As a dead host leaves it: running, one sign of life, then none. The wait is the shortest that Prefect takes."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.orchestration import deployments

    root, server = live
    with temporary_settings({PREFECT_API_URL: server._url}):
        asyncio.run(deployments.ship([deployments.silent_is_crashed(timedelta(seconds=10))]))
    deployment = server.call("GET", f"/deployments/name/{RETRAIN}")
    flow = server.call("GET", f"/flows/{deployment['flow_id']}")
    body = {"flow_id": flow["id"], "deployment_id": deployment["id"], "state": {"type": "RUNNING", "name": "Running"}}
    lost = server.call("POST", "/flow_runs/", body)
    beat = {
        "occurred": datetime.now(UTC).isoformat(),
        "event": deployments.HEARTBEAT,
        "resource": {"prefect.resource.id": f"prefect.flow-run.{lost['id']}", "prefect.resource.name": lost["name"]},
        "related": [
            {
                "prefect.resource.id": f"prefect.flow.{flow['id']}",
                "prefect.resource.role": "flow",
                "prefect.resource.name": flow["name"],
            }
        ],
        "id": "0192d3c0-0000-4000-8000-000000000001",
    }
    count = len(records.read(root))
    server.call("POST", "/events", [beat])
    until(lambda: state(server, lost["id"])["type"] == "CRASHED", "the silent run was taken for dead")
    resumed = until(
        lambda: [run for run in ended(server) if run["parameters"].get("reason") == "resume" and after(run, lost)],
        "it was run again",
    )
    assert resumed[0]["state"]["message"] == "no retraining was interrupted"
    assert len(records.read(root)) == count


def after(run: dict[str, Any], other: dict[str, Any]) -> bool:
    return bool(run["created"] > other["created"])


def test_row_22_what_seems_to_run_when_the_runner_begins_is_taken_for_dead(
    live: tuple[Path, Server], tmp_path: Path
) -> None:
    """So that, after a reboot, nothing holds the only place for retrainings until its silence is noticed."""
    from flows.orchestration import deployments

    _, server = live
    deployment = server.call("GET", f"/deployments/name/{RETRAIN}")
    body = {
        "flow_id": deployment["flow_id"],
        "deployment_id": deployment["id"],
        "state": {"type": "RUNNING", "name": "Running"},
    }
    lost = server.call("POST", "/flow_runs/", body)
    deployments.take_up(server, tmp_path)
    assert state(server, lost["id"])["type"] == "CRASHED"
    assert state(server, lost["id"])["message"] == "It ended with the services."


def test_row_29_a_run_that_never_starts_is_given_up(live: tuple[Path, Server]) -> None:
    from flows.orchestration import deployments

    _, server = live
    deployment = server.call("GET", f"/deployments/name/{NAMES['monitor']}")
    body = {
        "flow_id": deployment["flow_id"],
        "deployment_id": deployment["id"],
        "state": {"type": "PENDING", "name": "Pending"},
    }
    until(lambda: not any(server.runs(name, states=["PENDING"], limit=50) for name in NAMES.values()), "all had begun")
    stuck = server.call("POST", "/flow_runs/", body)
    assert deployments.clear(server, 10, datetime.now(UTC)) == []
    assert stuck["id"] in deployments.clear(server, 10, datetime.now(UTC) + timedelta(minutes=11))
    assert state(server, stuck["id"])["type"] == "CRASHED"


def test_row_25_eight_writers_at_once_do_not_lock_the_database(live: tuple[Path, Server]) -> None:
    _, server = live
    deployment = server.call("GET", f"/deployments/name/{NAMES['monitor']}")
    body = {"flow_id": deployment["flow_id"], "state": {"type": "COMPLETED", "name": "Written"}}
    made: list[str] = []

    def write() -> None:
        made.extend(server.call("POST", "/flow_runs/", body)["id"] for _ in range(8))

    writers = [threading.Thread(target=write) for _ in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(set(made)) == 64


def test_retrainings_that_crash_again_and_again_are_not_run_again_without_end(
    live: tuple[Path, Server], tmp_path: Path
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.orchestration import deployments

    _, server = live
    deployment = server.call("GET", f"/deployments/name/{RETRAIN}")
    body = {"flow_id": deployment["flow_id"], "deployment_id": deployment["id"], "state": {"type": "CRASHED"}}
    for _ in range(deployments.SPIN):
        server.call("POST", "/flow_runs/", body)

    def enabled(now: datetime) -> bool:
        with temporary_settings({PREFECT_API_URL: server._url}):
            asyncio.run(deployments.hold_back(server, Outbox(tmp_path), now))
        (found,) = server.call("POST", "/automations/filter", {"automations": {"name": {"any_": [deployments.RESUME]}}})
        return bool(found["enabled"])

    assert not enabled(datetime.now(UTC))
    assert [alert.title for alert in Outbox(tmp_path).open()] == ["Retrainings crash again and again"]
    assert enabled(datetime.now(UTC) + deployments.SPIN_WITHIN)


def test_drift_is_held_together_for_a_minute_and_the_records_keep_the_cool_down() -> None:
    from uuid import uuid4

    from flows.orchestration import deployments
    from pipelines import stage
    from tests.flows.examples import ROOT

    schedule = stage.load_params(ROOT / "params.yaml").schedule
    assert timedelta(minutes=schedule.cooldown_minutes) > deployments.DEBOUNCE
    (_, _, drift) = deployments.automations(uuid4(), schedule)
    assert drift.trigger.within == deployments.DEBOUNCE


def test_somebody_is_told_of_a_retraining_that_crashes_before_it_has_a_record() -> None:
    from flows.orchestration import flows

    assert flows.tell in flows.retrain.on_crashed_hooks


def test_up_is_idempotent_a_killed_service_comes_back_and_down_leaves_no_process(live: tuple[Path, Server]) -> None:
    root, server = live
    assert toy.moteur(root, "up").stdout.startswith("Up already.")
    before = supervisor.state(root)
    assert before is not None
    os.kill(before["services"]["alerts"]["pid"], signal.SIGKILL)
    until(
        lambda: (
            (now := supervisor.state(root))
            and now["services"]["alerts"]["phase"] == "up"
            and now["services"]["alerts"]["pid"] != before["services"]["alerts"]["pid"]
        ),
        "the alerts came back",
    )
    done = toy.moteur(root, "down")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "Everything is down."
    assert not [one for one in psutil.process_iter() if supervisor._marked(one, f"{root}#", "")]
    assert not server.ready()
    assert toy.moteur(root, "down").stdout == "Nothing is up.\n"
    with pytest.raises(ResourceError, match="does not answer"):
        server.runs(RETRAIN)


def test_a_port_that_is_taken_is_named_with_its_key(tmp_path: Path) -> None:
    root = toy.make(tmp_path / "checkout", git=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        text = (root / "params.yaml").read_text()
        (root / "params.yaml").write_text(text.replace("mlflow_port: 5000", f"mlflow_port: {port}"))
        done = toy.moteur(root, "up")
    assert done.returncode == 5
    assert f"services.mlflow_port is {port}" in done.stderr
    assert not (root / ".moteur/services/state.json").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"services": {"host": "192.0.2.1"}}, r"services.prefect_port is 4200, .*give another services.host or"),
        ({"serving": {"host": "192.0.2.1"}}, r"serving.port is 8000, but 192.0.2.1 .*give another serving.host or"),
        ({"serving": {"port": 5000}}, r"services.mlflow_port and serving.port are both 5000: change one"),
        ({"serving": {"port": 0}}, r"serving.port is 0, any free port, but `moteur up` must know it"),
    ],
)
def test_an_address_that_cannot_be_listened_on_is_named_with_the_key_to_change(
    changes: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.supervision import up
    from flows.workspaces import profiles
    from pipelines import params as schema
    from tests.flows.examples import ROOT

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    if "serving.host" in said:  # the ports of the others may be taken here
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///x")
        monkeypatch.setenv("PREFECT_API_URL", "http://x")
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    with pytest.raises(MoteurError, match=said):
        up._refuse_taken_ports(schema.parse(profiles.merge(values, changes, "")))


def test_an_alert_sink_without_an_address_fails_at_start_and_not_after_three_days(tmp_path: Path) -> None:
    root = toy.make(tmp_path / "checkout", git=False)
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("sinks: []", "sinks: [{name: team, environment: NOT_SET_ANYWHERE}]"))
    done = toy.moteur(root, "up")
    assert done.returncode == 2
    assert "the environment variable NOT_SET_ANYWHERE is missing or empty" in done.stderr


@pytest.mark.parametrize("zone", ["Europe/Zurich", "America/New_York", "UTC"])
def test_row_51_a_schedule_comes_once_a_day_over_both_changes_of_the_clock(zone: str) -> None:
    from zoneinfo import ZoneInfo

    from prefect.server.schemas.schedules import CronSchedule

    schedule = CronSchedule(cron="30 2 * * *", timezone=zone)
    dates = asyncio.run(schedule.get_dates(n=400, start=datetime(2026, 1, 1, tzinfo=UTC)))
    days = [date.astimezone(ZoneInfo(zone)).date() for date in dates]
    assert len(set(days)) == len(days)
    assert {later.toordinal() - one.toordinal() for one, later in pairwise(days)} == {1}


def test_row_51_the_time_of_a_schedule_is_its_key_so_that_a_clock_set_back_does_not_retrain_twice() -> None:
    from flows.orchestration import flows

    assert flows._key("drift") == ""
    assert flows._key("schedule").startswith("schedule 20")

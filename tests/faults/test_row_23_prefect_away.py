"""Row 23: the Prefect server is killed in the middle of a retraining and stays away for two minutes."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.retraining import records
from flows.supervision import supervisor
from pipelines.adapters.alerts import Outbox
from pipelines.adapters.orchestrator import NAMES, Server
from tests import servers
from tests.flows import toy
from tests.servers import until

DOWN_SECONDS = 120.0
LATE_SECONDS = 300.0
"""The last of the growing waits of Prefect's client begins after two minutes and takes two more."""


@pytest.fixture
def prefect(tmp_path: Path) -> Iterator[servers.Server]:
    one = servers.prefect(tmp_path / "prefect")
    one.start()
    yield one
    one.kill()


@pytest.fixture
def root(prefect: servers.Server, tmp_path: Path, database: Path) -> Iterator[Path]:
    """A checkout that is up, whose only stage waits until it is told to go on."""
    made = toy.make(tmp_path / "checkout", database=database, stages=1)
    (made / "behaviour").write_text("ingestion linger")
    text = (made / "params.yaml").read_text()
    (made / "params.yaml").write_text(text.replace("port: 8000", f"port: {servers.free_port()}"))
    toy.run_git(made, "add", "-A")
    toy.run_git(made, "commit", "-qm", "A stage that waits")
    own = {"PREFECT_API_URL": prefect.uri, "MLFLOW_TRACKING_URI": f"sqlite:///{made}/.moteur/mlflow.db"}
    prefect.wait()
    done = toy.moteur(made, "up", **own)
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        yield made
    finally:
        toy.moteur(made, "down", **own)
        supervisor.sweep(made)


def test_row_23_two_minutes_without_prefect_stop_no_training_and_every_state_is_told_later(
    root: Path, prefect: servers.Server
) -> None:
    server = Server(prefect.uri)
    run = server.start(NAMES["retrain"], {"reason": "by hand"}, "one")
    record = until(lambda: records.read(root), "a retraining began")[0]
    workspace, log = records.folder(root, record), records.log(root, record)
    until(lambda: list(workspace.glob(".moteur/tracking/*/ingestion.jsonl")), "the stage ran")
    prefect.kill()
    killed = time.monotonic()
    (workspace / "go").touch()
    until(lambda: "done in" in log.read_text(), "the stage ended without Prefect")
    time.sleep(DOWN_SECONDS - (time.monotonic() - killed))
    assert records.read(root)[0].status == "running"
    prefect.start()
    prefect.wait()

    until(lambda: records.read(root)[0].status == "finished", "the retraining ended", LATE_SECONDS)
    until(lambda: server.call("GET", f"/flow_runs/{run}")["state"]["name"] == "Finished", "Prefect knows")
    (lifecycle,) = server.call("POST", "/flow_runs/filter", {"flows": {"name": {"any_": ["lifecycle"]}}})
    assert lifecycle["state"]["type"] == "COMPLETED"
    (record,) = records.read(root)
    assert record.attempts == 1
    assert [run["status"] for run in toy.runs(root)] == ["FINISHED", "FINISHED"]
    assert not Outbox(root / ".moteur/alerts").open()

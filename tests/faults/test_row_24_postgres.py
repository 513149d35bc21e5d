"""Row 24: Prefect and MLflow of the user's own, both on Postgres, and that Postgres crashes in a running retraining."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from flows.champions import promotion
from flows.retraining import records
from flows.supervision import supervisor
from pipelines.adapters import registry
from pipelines.adapters.orchestrator import NAMES, Server
from tests import postgres_server, releases, servers
from tests.flows import toy
from tests.postgres_server import Postgres
from tests.servers import until

DOWN_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Team:
    """What runs, and a checkout that is up on it with a champion."""

    postgres: Postgres
    root: Path
    prefect: Server
    mlflow_uri: str
    serving: str


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    binaries = postgres_server.binaries()
    if binaries is None:
        pytest.skip("no Postgres here: neither on the PATH nor in /usr/lib/postgresql (install the package postgresql)")
    folder = tmp_path_factory.mktemp("postgres")
    with postgres_server.running(binaries) as postgres, pytest.MonkeyPatch.context() as patched:
        for database in ("prefect", "mlflow"):
            postgres.create(database)
        prefect = servers.prefect(folder / "prefect", postgres.uri("asyncpg", "prefect"))
        mlflow = servers.mlflow(folder / "mlflow", postgres.uri("psycopg2", "mlflow"))
        root = toy.make(folder / "checkout", stages=1)
        (root / "behaviour").write_text("ingestion linger")
        port = servers.free_port()
        text = (root / "params.yaml").read_text()
        (root / "params.yaml").write_text(text.replace("port: 8000", f"port: {port}"))
        toy.run_git(root, "add", "-A")
        toy.run_git(root, "commit", "-qm", "A stage that waits until it is told to go on")
        own = {"PREFECT_API_URL": prefect.uri, "MLFLOW_TRACKING_URI": mlflow.uri}
        try:
            prefect.start()
            mlflow.start()
            bundle = releases.real(folder / "release", seed=0)
            mlflow.wait()
            patched.setenv("MLFLOW_TRACKING_URI", mlflow.uri)
            version = registry.open_registry(root=root).register(bundle, {}, exam=releases.exam(folder)).number
            sit = releases.sitting(1.0)
            assert promotion.promote(root, version=version, examine=sit, who="ops", say=lambda _: None).moved
            prefect.wait()
            done = toy.moteur(root, "up", **own)
            assert done.returncode == 0, done.stdout + done.stderr
            yield Team(
                postgres=postgres,
                root=root,
                prefect=Server(prefect.uri),
                mlflow_uri=mlflow.uri,
                serving=f"http://127.0.0.1:{port}",
            )
        finally:
            toy.moteur(root, "down", **own)
            supervisor.sweep(root)
            mlflow.kill()
            prefect.kill()


def answers(team: Team) -> bool:
    try:
        return httpx.get(f"{team.serving}/health/ready", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def test_servers_of_the_users_own_are_not_started_again_and_their_champion_is_served(team: Team) -> None:
    state = supervisor.state(team.root)
    assert state is not None
    assert set(state["services"]) == {"serving", "alerts", "probation", "runner"}
    assert not (team.root / ".moteur/mlflow.db").exists()
    found = registry.open_registry(root=team.root)
    assert found.uri == team.mlflow_uri
    assert found.aliases() == {"champion": 1}
    assert team.postgres.rows("mlflow", "select alias, version from registered_model_aliases") == [("champion", 1)]
    until(lambda: answers(team), "the champion is served")


def test_row_24_a_postgres_that_crashes_in_a_retraining_loses_no_state_and_no_figure(team: Team) -> None:
    """The stage, and with it the lifecycle, ends while the database is gone."""
    count = len(records.read(team.root))
    run = team.prefect.start(NAMES["retrain"], {"reason": "by hand"}, "one")
    record = until(lambda: records.read(team.root)[count:], "a retraining began")[0]
    workspace = records.folder(team.root, record)
    until(lambda: list(workspace.glob(".moteur/tracking/*/ingestion.jsonl")), "the stage ran")
    before = supervisor.state(team.root)
    team.postgres.crash()
    (workspace / "go").touch()
    log = records.log(team.root, record)
    until(lambda: "done in" in log.read_text(), "the stage ended")
    assert answers(team)
    time.sleep(DOWN_SECONDS)
    assert records.read(team.root)[-1].status == "running"
    team.postgres.start()

    until(lambda: records.read(team.root)[-1].status == "finished", "the retraining ended")
    (record,) = records.read(team.root)[count:]
    assert record.attempts == 1
    until(lambda: team.prefect.call("GET", f"/flow_runs/{run}")["state"]["type"] == "COMPLETED", "Prefect knows")
    rows = team.postgres.rows("prefect", "select state_type from flow_run where start_time is not null")
    assert [str(state) for (state,) in rows] == ["COMPLETED", "COMPLETED"]  # retrain, and lifecycle in it

    tracked = "from runs join experiments using (experiment_id) where experiments.name = 'moteur'"
    until(
        lambda: team.postgres.rows("mlflow", f"select status, count(*) {tracked} group by status") == [("FINISHED", 2)],
        "MLflow has the lifecycle and its stage",
    )
    losses = team.postgres.rows("mlflow", "select step, value from metrics where key = 'loss' order by step")
    assert losses == [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))]
    assert registry.open_registry(root=team.root).aliases() == {"champion": 1}
    after = supervisor.state(team.root)
    assert before is not None
    assert after is not None
    pids = [{name: facts["pid"] for name, facts in state["services"].items()} for state in (before, after)]
    assert pids[0] == pids[1]

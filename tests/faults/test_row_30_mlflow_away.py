"""Row 30: the MLflow server is killed at the start, in the middle, at the end. The replay is exact."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.adapters import mlflow_sink, tracking
from pipelines.artifacts import State
from tests import servers

STEPS = 9


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Iterator[servers.Server]:
    folder = tmp_path_factory.mktemp("mlflow")
    (folder / "mlflow.db").write_bytes(database.read_bytes())
    one = servers.mlflow(folder, f"sqlite:///{folder / 'mlflow.db'}")
    one.start()
    yield one
    one.kill()


@pytest.fixture
def workspace(server: servers.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MOTEUR_RUN", f"run {tmp_path.name}")
    monkeypatch.chdir(tmp_path)
    server.wait()
    return tmp_path


def found(workspace: Path) -> list[Any]:
    """The attempts at the stage that the server has."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(mlflow_sink.tracking_uri())
    experiment = client.get_experiment_by_name(mlflow_sink.EXPERIMENT)
    query = f"tags.`{mlflow_sink.RUN}` = 'run {workspace.name}' and tags.`{mlflow_sink.STAGE}` = 'ppo'"
    return [(client, run) for run in client.search_runs([experiment.experiment_id], query)] if experiment else []


@pytest.mark.parametrize("away", [range(STEPS), range(3, 6), range(6, STEPS)], ids=["start", "middle", "end"])
def test_row_30_a_server_that_is_killed_stops_no_stage_and_gets_every_figure_once_when_it_is_back(
    workspace: Path, server: servers.Server, away: range, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sink drains now and then, as the process beside a running lifecycle does."""
    tracker, warned = tracking.SpoolTracker("ppo"), list[str]()
    tracker.params({"seed": 7})
    for step in range(STEPS):
        if step == away.start:
            server.kill()
        if step == away.stop:
            server.start()
            server.wait()
        tracker.log({"kl": step / 10}, step)
        if step % 3 == 1:
            mlflow_sink._drain_or_warn(warned)
    tracker.close("finished")
    mlflow_sink._drain_or_warn(warned)
    if away.stop == STEPS:
        assert mlflow_sink.pending(State.TRACKING.path)
        server.start()
        server.wait()
        mlflow_sink.drain()
    assert not mlflow_sink.pending(State.TRACKING.path)
    ((client, run),) = found(workspace)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"seed": "7"}
    sent = [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "kl")]
    assert sorted(sent) == [(step, step / 10) for step in range(STEPS)]
    assert capsys.readouterr().err.count("does not take what we send") == 1

"""Row 31: params that MLflow refuses are cut or left out, the whole is an artifact, and what follows still comes."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.adapters import mlflow_sink, tracking
from pipelines.artifacts import State


@pytest.fixture
def workspace(tmp_path: Path, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    monkeypatch.setenv("MOTEUR_RUN", f"run {tmp_path.name}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tracked(workspace: Path, *params: dict[str, Any]) -> tuple[Any, Any]:
    """The run of a stage that told these params, one after the other, then a figure, and was finished; the whole."""
    from mlflow.tracking import MlflowClient

    tracker = tracking.SpoolTracker("ppo")
    for values in params:
        tracker.params(values)
    tracker.log({"kl": 0.5}, 1)
    tracker.close("finished")
    mlflow_sink.drain()
    assert not mlflow_sink.pending(State.TRACKING.path)
    client = MlflowClient(mlflow_sink.tracking_uri())
    experiment = client.get_experiment_by_name(mlflow_sink.EXPERIMENT)
    query = f"tags.`{mlflow_sink.RUN}` = 'run {workspace.name}' and tags.`{mlflow_sink.STAGE}` = 'ppo'"
    (run,) = client.search_runs([experiment.experiment_id], query)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["kl"] == 0.5
    names = [item.path for item in client.list_artifacts(run.info.run_id)]
    whole = client.download_artifacts(run.info.run_id, "params.json", str(workspace)) if names else None
    return run.data.params, json.loads(Path(whole).read_text()) if whole else None


def test_row_31_params_that_fit_are_sent_as_they_are_without_an_artifact(workspace: Path) -> None:
    assert tracked(workspace, {"seed": 7}, {"seed": 7}) == ({"seed": "7"}, None)


@pytest.mark.parametrize("characters", [501, 6001, 100_000])
def test_row_31_a_value_over_the_limit_is_cut_and_the_whole_is_an_artifact(workspace: Path, characters: int) -> None:
    values = {"seed": 7, "text": "x" * characters}
    params, whole = tracked(workspace, values)
    assert params == {"seed": "7", "text": "x" * mlflow_sink.MAX_PARAM_CHARACTERS}
    assert whole == values


@pytest.mark.parametrize(
    ("name", "sent"),
    [("n" * 300, "n" * mlflow_sink.MAX_PARAM_NAME), ("wei\u00dft du? #1", "wei\u00dft du_ _1"), ("a\\b;", "a_b_")],
)
def test_row_31_a_name_that_mlflow_refuses_is_changed_and_the_whole_is_an_artifact(
    workspace: Path, name: str, sent: str
) -> None:
    assert tracked(workspace, {name: 1, "seed": 7}) == ({sent: "1", "seed": "7"}, {name: 1, "seed": 7})


def test_row_31_of_two_params_of_one_name_the_first_is_sent(workspace: Path) -> None:
    values = {"ppo": {"clip": 0.1}, "ppo.clip": 0.2}
    assert tracked(workspace, values) == ({"ppo.clip": "0.1"}, values)


def test_row_31_a_param_that_was_told_before_keeps_its_value_and_the_new_one_is_in_the_artifact(
    workspace: Path,
) -> None:
    first, second = {"seed": 7}, {"seed": 8, "threads": 2}
    assert tracked(workspace, first, second) == ({"seed": "7", "threads": "2"}, second)

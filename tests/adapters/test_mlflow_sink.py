"""Spools reach MLflow whole and once, whatever happens in between."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.adapters import locks, mlflow_sink, tracking
from pipelines.adapters.mlflow_sink import Sink
from pipelines.artifacts import State


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def workspace(tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MOTEUR_RUN", "run-1")
    monkeypatch.chdir(tmp_path)
    State.ROOT.path.mkdir()
    State.MLFLOW_DATABASE.path.write_bytes(migrated.read_bytes())
    return tmp_path


def client() -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(mlflow_sink.tracking_uri())


def found() -> list[Any]:
    experiment = client().get_experiment_by_name("moteur")
    every = client().search_runs([experiment.experiment_id])
    return sorted(every, key=lambda run: (run.info.start_time, run.info.run_name != "run-1"))


def stage_run(name: str = "ppo") -> Any:
    (one,) = [run for run in found() if run.info.run_name == name]
    return one


def curve(name: str, run: Any | None = None) -> list[tuple[int, float]]:
    history = client().get_metric_history((run or stage_run()).info.run_id, name)
    return sorted((point.step, point.value) for point in history)


def work(steps: range, *, end: str | None = "finished", stage: str = "ppo") -> tracking.SpoolTracker:
    tracker = tracking.SpoolTracker(stage)
    tracker.params({"seed": 7, "ppo": {"clip": 0.2, "decodings": [{"beams": 4}]}})
    for step in steps:
        tracker.log({"kl": step / 10}, step)
    if end:
        tracker.effort(flops=6e9, tokens=10, objective="reward", customisation="all weights")
        tracker.close(end)
    return tracker


def test_a_stage_becomes_a_run_below_the_run_of_the_lifecycle(workspace: Path) -> None:
    work(range(3))
    mlflow_sink.drain()
    parent, child = found()
    assert (parent.info.run_name, child.info.run_name) == ("run-1", "ppo")
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.info.status == "FINISHED"
    assert child.data.params == {"seed": "7", "ppo.clip": "0.2", "ppo.decodings": '[{"beams": 4}]'}
    assert curve("kl") == [(0, 0.0), (1, 0.1), (2, 0.2)]
    assert child.data.metrics["effort.flops"] == 6e9
    assert child.data.tags["objective"] == "reward"


def test_draining_again_sends_nothing_again(workspace: Path) -> None:
    work(range(3))
    mlflow_sink.drain()
    assert not mlflow_sink.pending()
    for mark in State.TRACKING.path.glob("*/*.sent"):
        mark.unlink()
    mlflow_sink.drain()
    assert len(found()) == 2
    assert curve("kl") == [(0, 0.0), (1, 0.1), (2, 0.2)]


def test_a_spool_that_grows_is_sent_in_parts(workspace: Path) -> None:
    tracker = work(range(3), end=None)
    mlflow_sink.drain()
    assert stage_run().info.status == "RUNNING"
    for step in range(3, 6):
        tracker.log({"kl": step / 10}, step)
    tracker.close("finished")
    mlflow_sink.drain()
    assert [step for step, _ in curve("kl")] == [0, 1, 2, 3, 4, 5]
    assert stage_run().info.status == "FINISHED"


class Dies(Exception):  # noqa: N818
    """The process is gone."""


@pytest.mark.parametrize("after", range(1, 7))
def test_a_sink_that_dies_anywhere_loses_nothing_and_sends_nothing_twice(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    monkeypatch.setattr(mlflow_sink, "MAX_METRICS", 4)
    work(range(20))
    dying, calls = client(), 0
    send: Callable[..., Any] = dying.log_batch

    def log_batch(*arguments: Any, **named: Any) -> None:
        nonlocal calls
        calls += 1
        send(*arguments, **named)
        if calls == after:
            raise Dies

    dying.log_batch = log_batch
    (spool,) = mlflow_sink.pending()
    with pytest.raises(Dies):
        Sink(dying).replay(spool)
    mlflow_sink.drain()
    assert [step for step, _ in curve("kl")] == list(range(20))
    assert len(found()) == 2


def test_more_points_than_one_batch_holds_are_all_sent(workspace: Path) -> None:
    tracker = tracking.SpoolTracker("ppo")
    tracker.log({f"m{number:04d}": 1.0 for number in range(2500)}, 0)
    tracker.close("finished")
    mlflow_sink.drain()
    assert sum(name.startswith("m") for name in stage_run().data.metrics) == 2500


def test_a_second_attempt_is_a_run_of_its_own_and_the_first_is_closed(workspace: Path) -> None:
    work(range(2), end="preempted")
    work(range(3))
    mlflow_sink.drain()
    attempts = [run for run in found() if run.info.run_name == "ppo"]
    assert sorted(run.info.status for run in attempts) == ["FINISHED", "KILLED"]
    assert sorted(len(curve("kl", run)) for run in attempts) == [2, 3]


def test_a_stage_that_died_without_a_word_is_closed_with_the_lifecycle(workspace: Path) -> None:
    work(range(2), end=None)
    spool = State.TRACKING.path / "run-1" / tracking.LIFECYCLE_SPOOL
    tracking.append(spool, "start", commit="abc", dirty=True, dvc_lock="l1")
    tracking.append(spool, "end", status="failed", dvc_lock="l2")
    mlflow_sink.drain()
    assert stage_run().info.status == "KILLED"
    parent = stage_run("run-1")
    assert parent.info.status == "FAILED"
    assert parent.data.tags["mlflow.source.git.commit"] == "abc"
    assert parent.data.tags["git.dirty"] == "true"
    assert parent.data.tags["dvc.lock"] == "l2"


def test_long_and_many_params_are_cut_and_kept_whole_in_an_artifact(workspace: Path) -> None:
    tracker = tracking.SpoolTracker("ppo")
    values = {"text": "x" * 9000, **{f"p{number}": number for number in range(150)}}
    tracker.params(values)
    tracker.close("finished")
    mlflow_sink.drain()
    run = stage_run()
    assert len(run.data.params) == 151
    assert len(run.data.params["text"]) == mlflow_sink.MAX_PARAM_CHARACTERS
    whole = client().download_artifacts(run.info.run_id, "params.json", str(workspace))
    assert json.loads(Path(whole).read_text()) == values


def test_a_report_that_was_named_is_an_artifact(workspace: Path) -> None:
    (workspace / "reports").mkdir()
    (workspace / "reports/ppo.json").write_text("{}")
    tracker = work(range(1), end=None)
    tracker.artifact(Path("reports/ppo.json"))
    tracker.close("finished")
    mlflow_sink.drain()
    assert [item.path for item in client().list_artifacts(stage_run().info.run_id)] == ["ppo.json"]


def test_a_line_that_is_still_being_written_waits(workspace: Path) -> None:
    tracker = work(range(2), end=None)
    tracker._spool.write('{"event": "metrics", "st')
    tracker._spool.flush()
    mlflow_sink.drain()
    tracker._spool.write('ep": 2, "time": 1, "values": {"kl": 0.2}}\n')
    tracker.close("finished")
    mlflow_sink.drain()
    assert [step for step, _ in curve("kl")] == [0, 1, 2]


def test_a_torn_line_in_the_middle_is_passed_over(workspace: Path) -> None:
    tracker = work(range(2), end=None)
    tracker._spool.write("{torn\n")
    tracker.log({"kl": 0.2}, 2)
    tracker.close("finished")
    mlflow_sink.drain()
    assert [step for step, _ in curve("kl")] == [0, 1, 2]


def test_row_48_the_password_of_a_server_is_neither_said_nor_written_beside_the_spools(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://moteur:planted-s3cret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    work(range(3))
    mlflow_sink._drain_or_warn([])
    said = capsys.readouterr().err
    assert "does not take what we send" in said
    assert "planted-s3cret" not in said
    assert mlflow_sink.shown_uri() == "http://[secret]@127.0.0.1:9"


def test_a_server_that_is_down_costs_one_line_and_the_spool_stays(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work(range(3))
    with monkeypatch.context() as down:
        down.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        down.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        warned: list[str] = []
        mlflow_sink._drain_or_warn(warned)
        mlflow_sink._drain_or_warn(warned)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("MLflow at http://127.0.0.1:9 does not take what we send")
    assert mlflow_sink.pending()
    mlflow_sink.drain()
    assert len(curve("kl")) == 3


def test_only_one_process_sends(workspace: Path) -> None:
    work(range(3))
    with locks.holding(State.TRACKING.path / ".lock"):
        mlflow_sink.drain()
    assert mlflow_sink.pending()


def test_nested_sections_become_dotted_keys() -> None:
    values = {"a": {"b": 1, "c": {"d": None}}, "e": [1], "f": {}, "g": "text"}
    assert dict(mlflow_sink.flatten(values)) == {"a.b": "1", "a.c.d": "null", "e": "[1]", "f": "{}", "g": "text"}

"""The spool, the ledger, and what a person sees."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from pipelines.adapters import quiet, tracking
from pipelines.adapters.tracking import NullTracker, SpoolTracker


@pytest.fixture
def tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SpoolTracker:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOTEUR_RUN", "run-1")
    return SpoolTracker("ppo")


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / ".moteur/tracking/run-1/ppo.jsonl").read_text().splitlines()]


def test_every_event_is_on_the_disk_at_once(tracker: SpoolTracker, tmp_path: Path) -> None:
    tracker.log({"kl": 1}, step=3)
    start, metrics = events(tmp_path)
    assert start["event"] == "start"
    assert metrics["values"] == {"kl": 1.0}
    assert metrics["step"] == 3


def test_effort_adds_up_and_keeps_the_last_words(tracker: SpoolTracker, tmp_path: Path) -> None:
    tracker.effort(flops=1e9, tokens=5, objective="a")
    tracker.effort(flops=2e9, tokens=6, customisation="b", pace="c")
    tracker.close("finished")
    (entry,) = map(json.loads, (tmp_path / ".moteur/effort.jsonl").read_text().splitlines())
    assert (entry["flops"], entry["tokens"], entry["objective"], entry["customisation"]) == (3e9, 11, "a", "b")
    assert entry["pace"] == "c"
    assert entry["seconds"] >= 0
    assert entry["peak_memory_mib"] > 1
    assert events(tmp_path)[-1]["effort"] == entry


def test_the_time_in_the_ledger_has_that_of_the_runs_from_whose_checkpoint_this_one_went_on(
    tracker: SpoolTracker, tmp_path: Path
) -> None:
    tracker.effort(seconds=1000.0)
    tracker.effort(seconds=500.5)
    tracker.close("finished")
    entry = json.loads((tmp_path / ".moteur/effort.jsonl").read_text(encoding="utf-8"))
    assert 1500.5 <= entry["seconds"] < 1600
    assert events(tmp_path)[-1]["seconds"] >= 1500.5


def test_names_of_runs_sort_by_time() -> None:
    assert tracking.new_run_name("run", 0) == "run-19700101-000000"
    assert tracking.new_run_name("run", 1e9) < tracking.new_run_name("run", 1e9 + 1)


def test_without_a_flow_or_dvc_around_us_the_run_is_manual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOTEUR_RUN", raising=False)
    monkeypatch.setattr("psutil.Process.parents", lambda _: [])
    assert tracking.run_name() == "manual"


def test_off_a_terminal_progress_is_a_line_now_and_then(
    tracker: SpoolTracker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([0.0, 4.0, 11.0, 12.0])
    monkeypatch.setattr(tracking.time, "monotonic", lambda: next(now))
    with tracker.progress("training", 1000, "tokens") as bar:
        bar.advance(100, loss=2.5)
        bar.advance(400, loss=1.25)
        bar.advance(1, loss=1.0)
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"ppo: training  500/1,000 tokens  45/s  loss 1\.250  11 s left", line)


def test_what_an_earlier_run_has_done_counts_neither_for_the_rate_nor_for_the_time_left(
    tracker: SpoolTracker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([0.0, 2.0, 12.0])
    monkeypatch.setattr(tracking.time, "monotonic", lambda: next(now))
    with tracker.progress("training", 1000, "tokens") as bar:
        bar.resume(500)
        bar.advance(100, loss=2.5)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "ppo: training  600/1,000 tokens  10/s  loss 2.500  40 s left"


def test_what_takes_longer_than_a_second_is_told_by_how_long_it_takes(
    tracker: SpoolTracker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([0.0, 16.0])
    monkeypatch.setattr(tracking.time, "monotonic", lambda: next(now))
    with tracker.progress("optimising", 12, "iterations") as bar:
        bar.advance(5, reward=0.745)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "ppo: optimising  5/12 iterations  3.2 s each  reward 0.745  22 s left"


def test_on_a_terminal_a_bar_begins_with_what_an_earlier_run_has_done(
    tracker: SpoolTracker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with tracker.progress("training", 10, "tokens") as bar:
        bar.resume(4)
        bar.advance(5, loss=1.25)
    assert "9/10" in capsys.readouterr().err


def test_on_a_terminal_there_is_a_bar(
    tracker: SpoolTracker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with tracker.progress("training", 10, "tokens") as bar:
        bar.advance(10, loss=1.25)
    text = capsys.readouterr().err
    assert "ppo: training" in text
    assert "10/10" in text
    assert "loss 1.250" in text


@pytest.mark.parametrize("kind", ["spool", "null"])
def test_tracking_items_gives_each_of_them(kind: str, tracker: SpoolTracker) -> None:
    one = tracker if kind == "spool" else NullTracker()
    assert list(one.track(iter("abc"), "letters", 3)) == ["a", "b", "c"]


def test_the_client_of_mlflow_is_quiet_and_as_patient_as_it_is_told_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [*quiet.PRIVATE, *quiet.MLFLOW, "MLFLOW_LOGGING_LEVEL", "MLFLOW_HTTP_REQUEST_TIMEOUT"]
    for name in names:
        monkeypatch.setenv(name, "as it was")  # taken back after the test
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "7")
    tracking.settle_client(retries=2, seconds=30)
    assert {name: os.environ[name] for name in quiet.MLFLOW} == quiet.MLFLOW
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "30"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "7"

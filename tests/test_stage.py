"""The frame of a stage: reports, errors, exit codes, signals. Each case is a process, as a stage is."""

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipelines import stage
from pipelines.errors import ParamsError

ROOT = Path(__file__).resolve().parents[1]

HEAD = """
import os, sys
from dataclasses import dataclass
from pipelines import stage
from pipelines.artifacts import Artifact
from pipelines.errors import *

@dataclass(frozen=True, kw_only=True)
class Report:
    num_pairs: int = 3
    share: float = 1 / 3

def main(params, tracker):
"""
TAIL = """
    return Report()

stage.run("feedback", main, report=Artifact.FEEDBACK_REPORT)
"""


def run(folder: Path, body: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    command = start_command(body)
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, check=False, **options
    )


def start_command(body: str) -> list[str]:
    return [sys.executable, "-c", HEAD + f"    {body}" + TAIL]


def environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT), "MOTEUR_RUN": "run-1"}


def ledger(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / ".moteur/effort.jsonl").read_text().splitlines()]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    return tmp_path


def test_a_stage_that_ends_well_writes_its_report_and_a_line_in_the_ledger(workspace: Path) -> None:
    done = run(workspace, "tracker.effort(flops=6e9, tokens=5, objective='o', customisation='c')")
    assert done.returncode == 0, done.stderr
    assert json.loads((workspace / "reports/feedback.json").read_text()) == {"num_pairs": 3, "share": 0.333333}
    (entry,) = ledger(workspace)
    assert (entry["run"], entry["stage"], entry["status"], entry["exit_code"]) == ("run-1", "feedback", "finished", 0)
    assert (entry["flops"], entry["tokens"], entry["objective"]) == (6e9, 5, "o")


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("raise DataError('data/x.jsonl:3 is not UTF-8')", 3, "feedback: data/x.jsonl:3 is not UTF-8\n"),
        ("raise TrainingError('loss is NaN')", 6, "feedback: loss is NaN\n"),
        ("raise KeyboardInterrupt", 130, "feedback: interrupted\n"),
        ("raise OSError(28, 'No space left on device')", 5, "feedback: No space on the disk"),
        ("raise MemoryError", 5, "feedback: Out of memory"),
    ],
)
def test_an_error_of_the_world_is_a_sentence_and_its_exit_code(
    workspace: Path, body: str, code: int, said: str
) -> None:
    done = run(workspace, body)
    assert done.returncode == code
    assert done.stderr.startswith(said)
    assert "Traceback" not in done.stderr
    assert ledger(workspace)[0]["exit_code"] == code


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [("raise ResourceError('No space')", 5, "feedback: No space\n"), ("pass", 0, "")],
    ids=["failed", "finished"],
)
def test_row_18_a_disk_too_full_for_the_ledger_does_not_hide_how_the_stage_ended(
    workspace: Path, body: str, code: int, said: str
) -> None:
    (workspace / ".moteur").mkdir()
    (workspace / ".moteur/effort.jsonl").symlink_to("/dev/full")
    done = run(workspace, body)
    assert done.returncode == code
    (line,) = done.stderr.removeprefix(said).splitlines()
    assert line.startswith("feedback: the ledger (.moteur/effort.jsonl) or the spool lacks the line on how this ended")
    assert f"exit code {code}: [Errno 28]" in line


def test_row_18_a_disk_too_full_for_the_spool_ends_a_stage_with_a_sentence(workspace: Path) -> None:
    done = run(workspace, "os.dup2(os.open('/dev/full', os.O_WRONLY), tracker._spool.fileno()); tracker.log({}, 1)")
    assert done.returncode == 5
    assert done.stderr.startswith("feedback: No space on the disk")
    assert "Traceback" not in done.stderr
    assert ledger(workspace)[0]["exit_code"] == 5


def test_a_fault_of_ours_shows_its_traceback(workspace: Path) -> None:
    done = run(workspace, "{}['key']")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "KeyError: 'key'" in done.stderr
    assert ledger(workspace)[0]["status"] == "failed"


def test_wrong_params_end_a_stage_before_it_begins(workspace: Path) -> None:
    path = workspace / "params.yaml"
    path.write_text(path.read_text().replace("hidden_size: 128", "hidden_size: wide"))
    done = run(workspace, "raise AssertionError")
    assert done.returncode == 2
    assert "model.hidden_size is 'wide'" in done.stderr
    assert ledger(workspace)[0]["exit_code"] == 2


SLOW = """import time
    {poll}
    print('ready', flush=True)
    while not stage._preempted:
        time.sleep(0.01)"""


@pytest.mark.parametrize(("poll", "code", "status"), [("pass", 143, "preempted"), ("stage.preempted()", 0, "finished")])
def test_sigterm_ends_at_once_only_a_stage_that_does_not_ask_for_it(
    workspace: Path, poll: str, code: int, status: str
) -> None:
    child = subprocess.Popen(
        start_command(SLOW.format(poll=poll)),
        cwd=workspace,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=30)
    assert child.returncode == code
    assert ledger(workspace)[0]["status"] == status


@dataclass(frozen=True, kw_only=True)
class Inner:
    score: float


@dataclass(frozen=True, kw_only=True)
class Nested:
    by_task: dict[str, float]
    rows: list[Inner]


def test_a_report_is_nested_and_rounded_to_six_digits(tmp_path: Path) -> None:
    stage.write_report(Nested(by_task={"qa": 0.12345678}, rows=[Inner(score=2 / 3)]), tmp_path / "r.json")
    expected = {"by_task": {"qa": 0.123457}, "rows": [{"score": 0.666667}]}
    assert json.loads((tmp_path / "r.json").read_text()) == expected


def test_a_nan_in_a_report_is_named_by_its_field(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"report field by_task\.qa is nan"):
        stage.write_report(Nested(by_task={"qa": float("nan")}, rows=[]), tmp_path / "r.json")


def test_missing_params_say_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"params\.yaml is missing: run in the folder that holds params\.yaml"):
        stage.load_params(tmp_path / "params.yaml")


def test_params_that_are_not_yaml_name_the_line(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("seed: [1\nmodel: 2\n")
    with pytest.raises(ParamsError, match=r"(?s)params\.yaml is not YAML.*line 2"):
        stage.load_params(tmp_path / "params.yaml")


def test_params_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes(b"seed: \xff\n")
    with pytest.raises(ParamsError, match=r"params\.yaml is not UTF-8"):
        stage.load_params(tmp_path / "params.yaml")

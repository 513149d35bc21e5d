"""Pretraining by two processes: the model of one process but for rounding, one set of outputs, and ends by name."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml

from pipelines import pretraining
from pipelines.adapters import models
from pipelines.adapters.tracking import NullTracker
from pipelines.artifacts import Artifact, State
from pipelines.errors import ParamsError, Preempted
from tests import workspaces
from tests.learning import ROOT, Stops, params
from tests.test_pretraining import MODEL, SETTINGS, curve

FLOAT32 = {**SETTINGS, "precision": "float32", "learning_rate": 0.003}
ENDLESS = {**FLOAT32, "max_tokens": 10**9, "checkpoint_every": 5}
STANDSTILL = {**FLOAT32, "max_tokens": 200 * 256, "learning_rate": 1e-12, "evaluate_every": 15, "patience": 2}
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")


@pytest.fixture(scope="module")
def tokenized(tmp_path_factory):
    return workspaces.tokenized(tmp_path_factory.mktemp("tokenized"))


@pytest.fixture
def workspace(tokenized, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    workspaces.linked(tokenized)
    return tmp_path


def start(settings, *, launcher=(), **changes):
    """The stage in a process of its own."""
    made = params(model=MODEL, pretraining={**settings, **changes})
    Path("params.yaml").write_text(yaml.safe_dump(made.model_dump(mode="json")), encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, "-m", *launcher, "pipelines.pretraining"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "MOTEUR_RUN": "run-1", "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


def alone(settings, tracker=None):
    return pretraining.main(params(model=MODEL, pretraining=settings), tracker or NullTracker())


def losses():
    return np.array([float(row["loss"]) for row in curve()])


def checkpoints():
    return sorted(int(path.name) for path in State.CHECKPOINTS.path.glob("pretraining/*/0*"))


def wait_for_a_checkpoint(child):
    while not checkpoints():
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.05)


def ledger():
    return [json.loads(line) for line in State.EFFORT.path.read_text().splitlines()]


class Steps(NullTracker):
    """Keeps the steps that it is told, and ends the training after the first."""

    class Enough(Exception):  # noqa: N818
        """One step was seen."""

    def __init__(self):
        self.seen = []

    def log(self, metrics, step):
        self.seen.append(step)
        raise self.Enough


def test_one_that_is_killed_ends_the_stage_by_name_and_a_single_process_goes_on(workspace):
    child = start(ENDLESS, processes=2)
    wait_for_a_checkpoint(child)
    (other,) = psutil.Process(child.pid).children()
    other.kill()
    _, said = child.communicate(timeout=60)
    assert child.returncode == 5
    assert "pretraining: Process 1 of the 2 that train together was killed by SIGKILL. The next run goes on" in said
    assert [(entry["status"], entry["exit_code"]) for entry in ledger()] == [("failed", 5)]
    found, tracker = checkpoints()[-1], Steps()
    with pytest.raises(Steps.Enough):
        alone(ENDLESS, tracker)
    assert tracker.seen == [found + 1]


def test_sigterm_to_the_first_saves_the_state_and_ends_both(workspace):
    child = start(ENDLESS, processes=2)
    wait_for_a_checkpoint(child)
    (other,) = psutil.Process(child.pid).children()
    child.send_signal(signal.SIGTERM)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 143
    assert f"Stopped at step {checkpoints()[-1]}; the next run goes on from there" in said
    assert not other.is_running()


def test_what_one_process_began_two_under_torchrun_end_alike_but_for_rounding(workspace, monkeypatch):
    whole = alone(FLOAT32)
    wanted, weights = losses(), models.load_causal(Artifact.BASE.path).state_dict()
    with monkeypatch.context() as patch, pytest.raises(Preempted):
        alone(FLOAT32, Stops(patch, 17).tracker())
    assert checkpoints()[-1] == 17
    child = start(FLOAT32, launcher=TORCHRUN)
    _, said = child.communicate(timeout=120)
    assert child.returncode == 0, said
    assert losses() == pytest.approx(wanted, rel=2e-5)
    for name, tensor in models.load_causal(Artifact.BASE.path).state_dict().items():
        assert tensor.numpy() == pytest.approx(weights[name].numpy(), abs=2e-4), name
    report = json.loads(Artifact.PRETRAINING_REPORT.path.read_text())
    assert report["val_bits_per_byte"] == pytest.approx(whole.val_bits_per_byte, rel=1e-4)
    assert [(entry["status"], entry["tokens"]) for entry in ledger()] == [("finished", 40 * 256)]
    spool = (State.TRACKING.path / "run-1/pretraining.jsonl").read_text()
    assert spool.count('"event": "start"') == 1
    assert spool.count('"learning_rate"') == 40 - 17 + 1  # and once among the params


def test_two_processes_stop_early_at_the_same_step(workspace):
    child = start(STANDSTILL, processes=2, microbatch_size=3)
    _, said = child.communicate(timeout=120)
    assert child.returncode == 0, said
    report = json.loads(Artifact.PRETRAINING_REPORT.path.read_text())
    assert (report["stopped_early"], report["best_step"], report["num_steps"]) == (True, 15, 45)


def test_more_processes_than_rows_are_refused():
    words = r"pretraining\.processes is 9 but pretraining\.batch_size is 8, .* lower the first or raise the second"
    with pytest.raises(ParamsError, match=words):
        params(pretraining={"processes": 9})

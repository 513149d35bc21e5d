"""Row 1: pretraining is killed with SIGKILL, anywhere and again and again. The end is the same to the bit."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipelines import tokenization
from pipelines.adapters.tracking import NullTracker
from pipelines.artifacts import Artifact, State
from tests import fixtures
from tests.learning import ROOT, params

FORKS = """
# Loads what the stage loads once, then runs it in one forked process after the other. Each is killed so many
# milliseconds after a checkpoint of at least the given step has appeared.
import json, os, pathlib, runpy, signal, sys, time
import safetensors.torch, torch, transformers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
sys.argv = ["pretraining"]

def reached(step):
    found = pathlib.Path(".moteur/checkpoints/pretraining").glob("*/0*")
    return any(int(folder.name) >= step for folder in found)

for step, delay in json.loads(sys.stdin.read()):
    child = os.fork()
    if child == 0:
        runpy.run_module("pipelines.pretraining", run_name="__main__")
    ended, status = 0, 0
    while step is not None and not ended and not reached(step):
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.002)
    if step is not None and not ended:
        time.sleep(delay / 1000)
        os.kill(child, signal.SIGKILL)
    if not ended:
        _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""
TO_THE_END = (None, 0)
SECTIONS = {
    "tokenization": {"vocab_size": 400, "audit_samples": 10},
    "model": {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64, "context": 512},
    "pretraining": {
        "context": 32,
        "batch_size": 8,
        "max_tokens": 60 * 256,
        "evaluate_every": 7,
        "validation_tokens": 1000,
        "checkpoint_every": 2,
    },
}


def run(workspace: Path, kills: list[tuple[int | None, int]]) -> list[int]:
    """Run the stage once for each kill, (step of a checkpoint, milliseconds after it); return the exit codes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", FORKS],
        cwd=workspace,
        env=environment,
        input=json.dumps(kills),
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(line) for line in done.stdout.split()]


def outputs(workspace: Path) -> dict[str, bytes]:
    tracked = [Artifact.PRETRAINING_REPORT, Artifact.PRETRAINING_CURVE]
    tracked += sorted((workspace / Artifact.BASE).iterdir())
    return {Path(path).name: (workspace / path).read_bytes() for path in tracked}


def checkpoints(workspace: Path) -> list[Path]:
    return sorted((workspace / State.CHECKPOINTS).glob("pretraining/*/0*"))


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fixtures.write_records(Artifact.VALIDATED.path, stories=200)
    made = params(**SECTIONS)
    tokenization.main(made, NullTracker())
    Path("params.yaml").write_text(yaml.safe_dump(made.model_dump(mode="json")), encoding="utf-8")
    assert run(tmp_path, [TO_THE_END]) == [0]
    return tmp_path, outputs(tmp_path)


def test_killed_again_and_again_and_the_newest_checkpoint_torn_it_ends_as_if_nothing_had_been(prepared):
    workspace, expected = prepared
    draw = random.Random(1)
    killed = run(workspace, [(step, draw.randrange(40)) for step in (2, 8, 16, 24, 34, 40)])
    assert killed.count(-signal.SIGKILL) >= 3
    *_, newest = checkpoints(workspace)
    tensors = newest / "state.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:1000])
    assert run(workspace, [TO_THE_END]) == [0]
    assert outputs(workspace) == expected
    assert not checkpoints(workspace)

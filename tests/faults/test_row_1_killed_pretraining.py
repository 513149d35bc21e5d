"""Row 1: pretraining is killed with SIGKILL, anywhere and again and again. The end is the same to the bit."""

import random
import signal
from pathlib import Path

import pytest
import yaml

from pipelines import tokenization
from pipelines.adapters.tracking import NullTracker
from pipelines.artifacts import Artifact, State
from tests import fixtures, forks
from tests.learning import params

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
    assert forks.run(tmp_path, "pretraining", [forks.TO_THE_END]) == [0]
    return tmp_path, outputs(tmp_path)


def test_killed_again_and_again_and_the_newest_checkpoint_torn_it_ends_as_if_nothing_had_been(prepared):
    workspace, expected = prepared
    draw = random.Random(1)
    killed = forks.run(workspace, "pretraining", [(step, draw.randrange(40)) for step in (2, 8, 16, 24, 34, 40)])
    assert killed.count(-signal.SIGKILL) >= 3
    *_, newest = checkpoints(workspace)
    tensors = newest / "state.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:1000])
    assert forks.run(workspace, "pretraining", [forks.TO_THE_END]) == [0]
    assert outputs(workspace) == expected
    assert not checkpoints(workspace)

"""Row 1: PPO is killed with SIGKILL at random moments, five times. The end is the same to the bit."""

import random
import signal
from pathlib import Path

import pytest
import yaml

from pipelines import ppo, stage
from pipelines.adapters.tracking import NullTracker
from pipelines.artifacts import Artifact
from tests import forks
from tests.learning import params
from tests.workspaces import aligned

SETTINGS = {
    "iterations": 10,
    "prompts_per_iteration": 24,
    "minibatch_size": 8,
    "learning_rate": 1e-3,
    "value_learning_rate": 1e-3,
    "kl_target": 0.05,
    "kl_horizon": 32,
    "max_new_tokens": 8,
    "checkpoint_every": 1,
    "evaluation_prompts": 12,
}


def outputs() -> dict[str, bytes]:
    paths = [
        Artifact.PPO_REPORT.path,
        Artifact.PPO_CURVE.path,
        Artifact.PPO_AXIS.path,
        *sorted(Artifact.POLICY.path.iterdir()),
    ]
    return {path.name: path.read_bytes() for path in paths}


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    aligned()
    made = params(ppo=SETTINGS)
    Path("params.yaml").write_text(yaml.safe_dump(made.model_dump(mode="json")), encoding="utf-8")
    stage.write_report(ppo.main(made, NullTracker()), Artifact.PPO_REPORT.path)  # undisturbed
    expected = outputs()
    for path in [Artifact.PPO_REPORT.path, *Artifact.POLICY.path.iterdir()]:
        path.unlink()
    return tmp_path, expected


def test_row_1_ppo_killed_at_five_random_moments_ends_as_if_nothing_had_been(workspace):
    folder, expected = workspace
    draw = random.Random(5)
    # Two anywhere from the start on, three while it learns; each iteration leaves a checkpoint.
    moments = [(0, draw.randrange(1200)), (1, draw.randrange(250)), (0, draw.randrange(1200))]
    moments += [(3, draw.randrange(250)), (5, draw.randrange(250))]
    assert forks.run(folder, "ppo", [*moments, forks.TO_THE_END]) == [-signal.SIGKILL] * 5 + [0]
    assert outputs() == expected

"""The results of kills are kept by training, what one kill leaves is not counted with the next."""

import random
from pathlib import Path

import pytest

from benchmarks import kills
from pipelines.adapters import files
from pipelines.artifacts import State


def test_a_row_that_is_run_again_leaves_the_others_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(kills, "RESULTS", tmp_path / "kills.json")
    for name, count in [("pretraining", 1), ("finetuning", 2), ("pretraining", 3)]:
        kills.keep(name, {"kills": count})
    assert files.read_json(kills.RESULTS) == {"finetuning": {"kills": 2}, "pretraining": {"kills": 3}}


@pytest.mark.parametrize(
    ("names", "last"),
    [(["pretraining"], "pretraining"), (["pretraining", "finetuning"], "finetuning"), (["ppo"], "reward_modeling")],
)
def test_the_stages_up_to_the_last_training_are_prepared(names, last):
    assert kills.needed(names)[-1] == last
    assert kills.needed(names)[0] == "ingestion"


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_model_that_was_half_written_is_forgotten_and_is_no_write_of_the_next_run(workspace):
    training = kills.TRAININGS["reward_modeling"]
    left = Path("models/.reward.0a_b1c2d")
    left.mkdir(parents=True)
    assert training.writes()
    training.forget()
    assert not training.writes()
    assert not left.exists()


def ends_well(training, *, checkpoint):
    """Instead of the processes: a stage that writes its model, and is always killed after its first checkpoint."""

    def started(_stage):
        (training.models[0].path).mkdir(parents=True, exist_ok=True)
        (training.models[0].path / "model.safetensors").write_text("weights")
        return 1

    def kill(*_arguments, **_options):
        if checkpoint:
            files.write_json(State.CHECKPOINTS.path / training.stage / "key" / "000000001" / "manifest.json", {})
        return False

    return {"started": started, "ended": lambda _child: 0, "kill": kill, "write_params": lambda _changes: None}


@pytest.mark.parametrize("checkpoint", [True, False])
def test_kills_that_left_no_checkpoint_show_nothing_of_resuming_and_end_the_run(workspace, monkeypatch, checkpoint):
    training = kills.TRAININGS["finetuning"]
    for name, fake in ends_well(training, checkpoint=checkpoint).items():
        monkeypatch.setattr(kills, name, fake)
    rows = kills.killed(training, 2, random.Random(1))
    if checkpoint:
        assert [(row["kills"], row["identical"]) for row in rows] == [(1, 1), (2, 2)]
    else:
        with pytest.raises(SystemExit, match=r"None of 2 kills of finetuning left a checkpoint.*checkpoint_every"):
            next(rows)


def test_small_trainings_write_a_checkpoint_at_each_step():
    assert {kills.SMALL[stage]["checkpoint_every"] for stage in ("finetuning", "reward_modeling", "ppo")} == {1}

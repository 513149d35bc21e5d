"""The results of kills are kept by training, and only the stages that a training needs are run before it."""

import pytest

from benchmarks import kills
from pipelines.adapters import files


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

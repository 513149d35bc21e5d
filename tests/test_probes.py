"""Short looks at pairs and models."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from pipelines import probes
from pipelines.adapters import files, models
from pipelines.artifacts import Artifact
from tests import fixtures, learning
from tests.core.learning.architectures import causal


def pair(chosen: str, rejected: str, annotator: str = "ann", **more: Any) -> dict[str, Any]:
    row = {"id": chosen + annotator, "prompt": "Tell.", "chosen": chosen, "rejected": rejected}
    return {**row, "source": "human", "annotator": annotator, "ranking_id": annotator, **more}


def test_labels_are_held_against_length_gold_and_each_other() -> None:
    found = probes.pairs(
        [
            pair("long text", "text", gold_chosen=0.9, gold_rejected=0.1),
            pair("long text", "text", "bob", gold_chosen=0.9, gold_rejected=0.1),
            pair("text", "long text", "cleo", gold_chosen=0.1, gold_rejected=0.9),
        ]
    )
    assert found["longer_chosen"] == found["gold_agreement"] == pytest.approx(2 / 3)
    assert (found["num_shared"], found["annotator_agreement"]) == (3, pytest.approx(1 / 3))


def test_one_annotators_second_opinion_is_no_agreement() -> None:
    assert probes.pairs([pair("a", "b"), pair("a", "b")])["annotator_agreement"] is None


def test_the_correlation_of_margins_does_not_depend_on_the_order_within_a_pair() -> None:
    assert probes.cosine([1.0, 2.0, -3.0], [2.0, 4.0, -6.0]) == pytest.approx(1.0)
    assert probes.cosine([1.0, -2.0], [3.0, 1.0]) == pytest.approx(probes.cosine([-1.0, -2.0], [-3.0, 1.0]))
    assert probes.cosine([0.0], [1.0]) == 0.0


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    records = fixtures.instruction_records(4)
    tokenizer = fixtures.tiny_tokenizer(row["completion"] + row["prompt"] for row in records)
    model = fixtures.tiny_model(tokenizer)
    for artifact in (Artifact.BASE, Artifact.SFT):
        learning.write_model(artifact.path, model, tokenizer)
    reward = learning.reward_model(model)
    reward.config.pad_token_id = tokenizer.pad_token_id
    learning.write_model(Artifact.REWARD.path, reward, tokenizer)
    learning.write_validated(Artifact.VALIDATED.path, instructions={"valid": records, "test": records})
    for split in ("train", "valid"):
        files.write_jsonl(Path(Artifact.PREFERENCES) / f"preferences.{split}.jsonl", [pair("long text", "text")])
    return tmp_path


def test_every_probe_gives_its_figures(workspace: Path) -> None:
    found = probes.main(learning.params(evaluation={"max_new_tokens": 4}))
    assert not [name for name, figures in found.items() if "error" in figures], found
    assert found["reward"]["head_spread"] > 0
    assert found["template"]["own_nats"] > 0
    assert 0 <= found["answers"]["exact_match"] <= 1


def test_a_reward_folder_without_its_head_is_noticed(workspace: Path) -> None:
    path = Artifact.REWARD.path / "model.safetensors"
    weights = {name: value for name, value in load_file(path).items() if name != "score.weight"}
    save_file(weights, path, metadata={"format": "pt"})
    assert probes.reward(learning.params()) == {"head_spread": 0.0}


def test_a_folder_that_is_no_reward_model_for_another_reason_is_not_blamed_for_its_head(workspace: Path) -> None:
    (Artifact.REWARD.path / "code.py").write_text("", encoding="utf-8")
    found = probes.main(learning.params(evaluation={"max_new_tokens": 4}))
    assert "can run code" in found["reward"]["error"]


def test_an_instruction_model_whose_positions_have_no_end_answers(workspace: Path) -> None:
    tokenizer = models.load_tokenizer(Artifact.SFT.path)
    shape = {"vocab_size": len(tokenizer), "eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
    learning.write_model(Artifact.SFT.path, causal("bloom", **shape), tokenizer)
    assert probes.answers(learning.params(evaluation={"max_new_tokens": 4}))["num_records"] > 0


def test_prompts_that_the_base_model_has_no_rows_for_are_not_put_to_it(workspace: Path) -> None:
    tokenizer = models.load_tokenizer(Artifact.SFT.path)
    tokenizer.add_tokens(["<|soft|>"])
    tokenizer.chat_template = "<|soft|>" + tokenizer.chat_template
    model = models.load_causal(Artifact.SFT.path)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    learning.write_model(Artifact.SFT.path, model, tokenizer)
    assert probes.template(learning.params())["base_nats"] > 0


def test_a_figure_that_is_not_a_number_is_an_error_of_its_probe() -> None:
    assert "error" in probes._tried(lambda _params: {"own_nats": float("nan")}, learning.params())


def test_a_probe_that_cannot_be_made_says_why_and_leaves_the_others_alone(workspace: Path) -> None:
    for path in Artifact.REWARD.path.iterdir():
        path.unlink()
    Artifact.REWARD.path.rmdir()
    found = probes.main(learning.params(evaluation={"max_new_tokens": 4}))
    assert "not a model folder" in found["reward"]["error"]
    assert "error" not in found["template"]


def test_changed_templates_differ_from_the_own_one(workspace: Path) -> None:
    records = fixtures.instruction_records(2)
    tokenizer = fixtures.tiny_tokenizer(row["prompt"] for row in records)
    own, *others = probes.framings(tokenizer, records)
    assert "turns of the pipeline" not in dict(others)
    assert all(ids != own[1] for _, ids in others)

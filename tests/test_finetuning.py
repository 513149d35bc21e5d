import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import finetuning, stage
from pipelines.adapters import files, models
from pipelines.adapters.tracking import NullTracker
from pipelines.artifacts import Artifact
from pipelines.core.text import chat
from pipelines.errors import DataError, ParamsError, Preempted
from tests import fixtures, learning
from tests.learning import Stops

ADAPTER = {"rank": 4, "alpha": 8, "dropout": 0.0, "train_embeddings": True, "merge_scale": 1.0}
SETTINGS = {
    "max_length": 200,
    "learning_rate": 0.01,
    "epochs": 8.0,
    "replay_share": 0.2,
    "batch_size": 8,
    "evaluation_records": 30,
    "max_new_tokens": 16,
}


def workspace(root, monkeypatch, **overrides):
    fixtures.write_workspace(root, stories=60, finetuning={**SETTINGS, **overrides})
    monkeypatch.chdir(root)
    return stage.load_params()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("finetuning")
    with pytest.MonkeyPatch.context() as patch:
        params = workspace(root, patch)
        report = finetuning.main(params, NullTracker())
    return root, report


def test_the_model_learns_the_instructions(trained):
    _, report = trained
    assert report.loss_last < 0.5 * report.loss_first
    assert 0 <= report.exact_match <= 1
    assert set(report.exact_match_by_task) == {"question_answering"}
    assert set(report.rouge_l_by_task) == {"summarisation"}
    assert report.rouge_l > 0.25


def test_forgetting_is_the_relative_change_of_bits_per_byte(trained):
    _, report = trained
    assert report.forgetting == pytest.approx(report.bits_per_byte_after / report.bits_per_byte_before - 1)


def test_the_curve_has_one_row_a_step_and_the_rate_rises_and_falls(trained):
    root, report = trained
    with (root / Artifact.FINETUNING_CURVE).open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, report.num_steps + 1))
    rates = [float(row["learning_rate"]) for row in rows]
    assert rates.index(max(rates)) in range(1, len(rates) // 3)
    assert rates[-1] < 0.1 * max(rates)


def test_the_asked_share_of_the_tokens_is_replayed_text(trained):
    _, report = trained
    assert report.num_replayed_tokens / report.num_tokens == pytest.approx(SETTINGS["replay_share"], abs=0.01)


def test_the_saved_model_is_a_plain_folder_that_answers(trained):
    root, report = trained
    folder = root / Artifact.SFT
    assert {file.suffix for file in folder.iterdir()} <= {".json", ".jinja", ".safetensors"}
    assert models.load_causal(folder).num_parameters() == report.trainable_parameters


def test_the_same_inputs_give_the_same_bytes(trained, tmp_path, monkeypatch):
    root, report = trained
    again = finetuning.main(workspace(tmp_path, monkeypatch), NullTracker())
    assert again == report
    assert files.sha256(tmp_path / Artifact.SFT) == files.sha256(root / Artifact.SFT)


def test_lora_may_leave_the_embeddings_as_they_are_but_for_the_tokens_of_the_roles(tmp_path, monkeypatch):
    frozen = {**ADAPTER, "train_embeddings": False}
    report = finetuning.main(workspace(tmp_path, monkeypatch, method="lora", lora=frozen), NullTracker())
    before, after = (
        models.load_causal(tmp_path / part).get_input_embeddings().weight for part in (Artifact.BASE, Artifact.SFT)
    )
    tokenizer = models.load_tokenizer(tmp_path / Artifact.SFT)
    moved = (after != before).any(dim=1).nonzero().flatten().tolist()
    assert tokenizer.convert_ids_to_tokens(moved) == list(chat.ROLES)
    assert report.loss_last < report.loss_first


def test_the_update_of_an_adapter_is_merged_with_the_weight_that_is_asked(tmp_path, monkeypatch):
    import torch

    tuned = {}
    for scale in (1.0, 0.5):
        here = tmp_path / str(scale)
        here.mkdir()
        lora = {**ADAPTER, "train_embeddings": False, "merge_scale": scale}
        finetuning.main(workspace(here, monkeypatch, method="lora", lora=lora), NullTracker())
        tuned[scale] = models.load_causal(here / Artifact.SFT).state_dict()
    base = models.load_causal(tmp_path / "1.0" / Artifact.BASE).state_dict()
    matrices = [name for name in base if "_proj" in name and not torch.equal(tuned[1.0][name], base[name])]
    assert matrices
    for name in matrices:
        half = base[name] + 0.5 * (tuned[1.0][name] - base[name])
        assert torch.allclose(tuned[0.5][name], half, atol=1e-6)
    assert torch.equal(tuned[0.5]["model.embed_tokens.weight"], tuned[1.0]["model.embed_tokens.weight"])


def test_lora_trains_adapters_and_embeddings_and_saves_merged_weights(tmp_path, monkeypatch):
    import torch

    params = workspace(tmp_path, monkeypatch, method="lora", lora=ADAPTER)
    report = finetuning.main(params, NullTracker())
    base, tuned = models.load_causal(tmp_path / Artifact.BASE), models.load_causal(tmp_path / Artifact.SFT)
    assert report.loss_last < 0.7 * report.loss_first
    config = base.config
    per_layer = 4 * (4 * 2 * config.hidden_size + 3 * (config.hidden_size + config.intermediate_size))
    embeddings = config.vocab_size * config.hidden_size
    assert report.trainable_parameters == config.num_hidden_layers * per_layer + embeddings
    after, before = tuned.state_dict(), base.state_dict()
    assert set(after) == set(before)
    changed = {name for name in before if not torch.equal(after[name], before[name])}
    assert "model.embed_tokens.weight" in changed
    assert "model.layers.0.self_attn.q_proj.weight" in changed
    assert "model.norm.weight" not in changed


def test_questions_that_leave_no_room_for_an_answer_are_not_asked_and_counted(trained, monkeypatch):
    root, _ = trained
    monkeypatch.chdir(root)
    tokenizer, model = models.load_tokenizer(Artifact.SFT.path), models.load_causal(Artifact.SFT.path)
    few = [*fixtures.instruction_records(2), *fixtures.instruction_records(1)]
    long = {**few[0], "id": "long", "context": "ball " * 400}
    bare = {**few[0], "id": "bare", "context": ""}
    settings = stage.load_params().finetuning

    def scored(*records):
        monkeypatch.setattr(finetuning.datasets, "records", lambda *_args: iter(records))
        return finetuning._scores(model, tokenizer, settings, NullTracker())

    without = scored(*few)
    assert without["num_questions_left_out"] == 0
    assert scored(*few, long) == {**without, "num_questions_left_out": 1}
    assert scored(bare)["exact_match_story_removed"] is None
    mixed = scored(*few, bare)
    assert mixed["exact_match_story_removed"] == without["exact_match_story_removed"] is not None


def test_a_length_beyond_the_model_names_both_keys(tmp_path, monkeypatch):
    params = workspace(tmp_path, monkeypatch, max_length=512)
    with pytest.raises(ParamsError, match=r"finetuning\.max_length is 512 but the base model reads at most 256"):
        finetuning.main(params, NullTracker())


def test_a_weight_for_an_unknown_task_is_an_error_that_lists_the_tasks(tmp_path, monkeypatch):
    params = workspace(tmp_path, monkeypatch, task_weights={"summary": 2.0})
    with pytest.raises(ParamsError, match=r"\['summary'\].*question_answering"):
        finetuning.main(params, NullTracker())


def test_weights_that_leave_every_task_out_are_an_error(tmp_path, monkeypatch):
    weights = {"question_answering": 0.0, "summarisation": 0.0}
    params = workspace(tmp_path, monkeypatch, task_weights=weights)
    with pytest.raises(ParamsError, match=r"finetuning\.task_weights is 0 for every task.*above 0"):
        finetuning.main(params, NullTracker())


def test_conversations_that_are_all_too_long_are_an_error(tmp_path, monkeypatch):
    params = workspace(tmp_path, monkeypatch, max_length=8)
    with pytest.raises(DataError, match=r"longer than finetuning\.max_length \(8\)"):
        finetuning.main(params, NullTracker())


def test_a_request_to_stop_ends_training_and_leaves_no_model(tmp_path, monkeypatch):
    params = workspace(tmp_path, monkeypatch)
    monkeypatch.setattr(stage, "preempted", lambda: True)
    with pytest.raises(Preempted):
        finetuning.main(params, NullTracker())
    assert not (tmp_path / Artifact.SFT).exists()


LORA = {"method": "lora", "lora": {**ADAPTER, "dropout": 0.2}}


@pytest.mark.parametrize("changes", [{}, {"optimizer": "adamw"}, LORA])
def test_a_run_stopped_and_resumed_is_the_run_that_was_never_stopped(tmp_path, monkeypatch, changes):
    params = workspace(tmp_path, monkeypatch, epochs=1.0, checkpoint_every=3, **changes)
    made = [Artifact.SFT.path, Artifact.FINETUNING_CURVE.path]
    expected = finetuning.main(params, NullTracker()), [files.sha256(path) for path in made]
    stops = Stops(monkeypatch, 5)
    with pytest.raises(Preempted, match="goes on from there"):
        finetuning.main(params, stops.tracker())
    resumed = Stops(monkeypatch, 10**9)
    rarely = {"finetuning": params.finetuning.model_copy(update={"checkpoint_every": 4})}
    assert finetuning.main(params.model_copy(update=rarely), resumed.tracker()) == expected[0]
    assert 0 < resumed.seen < expected[0].num_steps - 4
    assert resumed.seconds_before > 0
    assert 0 < resumed.resumed < expected[0].num_tokens
    assert [files.sha256(path) for path in made] == expected[1]


def test_the_stage_runs_as_a_command(tmp_path, monkeypatch):
    workspace(tmp_path, monkeypatch, epochs=1.0)
    environment = {"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.finetuning"], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / Artifact.FINETUNING_REPORT).read_text())["num_steps"] > 0


def changed(root):
    """Names of the tensors that differ from the base model's, and the two models."""
    import torch

    base, tuned = models.load_causal(root / Artifact.BASE), models.load_causal(root / Artifact.SFT)
    before, after = base.state_dict(), tuned.state_dict()
    assert set(after) == set(before)
    return {name for name in before if not torch.equal(after[name][: len(before[name])], before[name])}, base, tuned


def test_bitfit_trains_vectors_and_the_rows_of_the_role_tokens(tmp_path, monkeypatch):
    import torch

    params = workspace(tmp_path, monkeypatch, method="bitfit", optimizer="adamw", learning_rate=0.03)
    report = finetuning.main(params, NullTracker())
    names, base, tuned = changed(tmp_path)
    assert report.loss_last < report.loss_first
    vectors = {name: weight for name, weight in base.named_parameters() if weight.ndim == 1}
    embeddings = {name for name in names if "embed_tokens" in name or "lm_head" in name}
    assert names - embeddings == set(vectors)
    rows = (tuned.get_input_embeddings().weight != base.get_input_embeddings().weight).any(dim=1)
    roles = models.load_tokenizer(tmp_path / Artifact.SFT).convert_tokens_to_ids(["<|user|>", "<|assistant|>"])
    assert set(torch.nonzero(rows).flatten().tolist()) >= set(roles)
    assert rows.sum() <= 3
    assert report.trainable_parameters == sum(map(torch.numel, vectors.values())) + 3 * base.config.hidden_size


def test_prompt_tuning_saves_its_prompt_as_tokens_that_the_chat_template_writes(tmp_path, monkeypatch):
    import torch

    settings = {"method": "prompt_tuning", "prompt_tuning": {"virtual_tokens": 5}, "optimizer": "adamw"}
    report = finetuning.main(workspace(tmp_path, monkeypatch, **settings, learning_rate=0.1), NullTracker())
    names, base, tuned = changed(tmp_path)
    assert report.loss_last < report.loss_first
    assert report.trainable_parameters == (5 + 3) * base.config.hidden_size
    assert all("embed_tokens" in name or "lm_head" in name for name in names)
    old, new = base.get_input_embeddings().weight, tuned.get_input_embeddings().weight
    assert len(new) == len(old) + 5
    assert (new[: len(old)] != old).any(dim=1).sum() <= 3
    tokenizer = models.load_tokenizer(tmp_path / Artifact.SFT)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Who? <|virtual_1|>"}], add_generation_prompt=True, return_dict=False
    )
    assert asked[:5] == list(range(len(old), len(old) + 5))
    assert max(asked[5:]) < len(old)
    assert tokenizer.decode(asked[:5], skip_special_tokens=True) == ""
    with torch.inference_mode():
        assert tuned(torch.tensor([asked])).logits.shape[-1] == len(tokenizer)


def test_muon_for_a_method_without_matrices_names_both_keys():
    with pytest.raises(ParamsError, match=r"finetuning\.optimizer is muon.*finetuning\.method bitfit.*adamw"):
        learning.params(finetuning={"method": "bitfit"})

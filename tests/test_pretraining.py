"""Pretraining: a base model that has learnt, figures that are true, errors that come at the start."""

import csv
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM

from pipelines import pretraining, speed, stage, tokenization
from pipelines.adapters import models
from pipelines.adapters.checkpoints import Checkpoints
from pipelines.adapters.tokens import TokenStore
from pipelines.adapters.tracking import NullTracker
from pipelines.artifacts import Artifact, State
from pipelines.core.judging.likelihood import likelihood
from pipelines.core.learning import attention, pace
from pipelines.core.text import chat
from pipelines.errors import ArtifactError, DataError, ParamsError, Preempted, ResourceError
from tests import fixtures, workspaces
from tests.learning import Stops, params
from tests.workspaces import TOKENIZATION

MODEL = {
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 2,
    "intermediate_size": 64,
    "context": 512,
    "initializer_range": 0.02,
}
SETTINGS = {
    "context": 32,
    "batch_size": 8,
    "max_tokens": 40 * 256,
    "learning_rate": 0.01,
    "evaluate_every": 10,
    "validation_tokens": 1000,
    "checkpoint_every": 15,
}
BYTES = 3.65
"""About the bytes of a token in the fixture's text."""


@pytest.fixture(scope="module")
def tokenized(tmp_path_factory):
    return workspaces.tokenized(tmp_path_factory.mktemp("tokenized"))


@pytest.fixture
def workspace(tokenized, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    workspaces.linked(tokenized)
    return tmp_path


def run(tracker=None, architecture="llama", **settings):
    model = {**MODEL, "architecture": architecture}
    return pretraining.main(params(model=model, pretraining={**SETTINGS, **settings}), tracker or NullTracker())


def curve():
    with Artifact.PRETRAINING_CURVE.path.open() as file:
        return list(csv.DictReader(file))


def outputs():
    files = [*sorted(Artifact.BASE.path.iterdir()), Artifact.PRETRAINING_CURVE.path]
    return {file.name: file.read_bytes() for file in files}


class Ledger(NullTracker):
    def __init__(self):
        self.points, self.entry = [], {}

    def log(self, metrics, step):
        self.points.append((step, dict(metrics)))

    def effort(self, **facts):
        self.entry = facts


def test_the_model_learns_and_the_figures_fit_together(workspace):
    ledger = Ledger()
    report = run(ledger)
    untrained = math.log(400) / math.log(2) / BYTES
    assert report.val_bits_per_byte < 0.6 * untrained
    assert report.test_bits_per_byte < 0.6 * untrained
    assert report.val_perplexity == pytest.approx(math.exp(report.val_loss))
    assert report.num_tokens == 40 * 256
    assert report.training_flops == 6 * report.num_parameters * report.num_tokens
    assert report.petaflop_s_days == report.training_flops / 8.64e19
    assert report.tokens_per_parameter == report.num_tokens / report.num_parameters
    assert ledger.entry["flops"] == report.training_flops
    assert ledger.entry["objective"] == "next-token cross-entropy"
    assert ledger.entry["pace"] == pace.key(params(pretraining=SETTINGS))
    assert [step for step, _ in ledger.points] == list(range(1, 41))


def test_the_reported_figure_is_that_of_the_saved_model_on_all_validation_text(workspace):
    report = run(precision="float32")
    row = TokenStore.open(Artifact.TOKENS.path).split("valid")
    measured = likelihood(models.load_causal(Artifact.BASE.path), row, row.num_bytes, 32)
    assert measured.tokens == len(row)
    assert measured.bits_per_byte == pytest.approx(report.val_bits_per_byte, rel=1e-4)


def test_the_parameters_are_counted_with_tied_embeddings_once(workspace):
    report = run(max_tokens=256)
    width, feed_forward, entries = 32, 64, len(models.load_tokenizer(Artifact.TOKENIZER.path))
    layer = 4 * (width * width + width) + 3 * width * feed_forward + 2 * width  # attention has biases
    assert report.num_parameters == entries * width + 2 * layer + width


def test_the_curve_starts_near_the_logarithm_of_the_vocabulary_and_holds_every_step(workspace):
    run()
    rows = curve()
    assert [int(row["step"]) for row in rows] == list(range(1, 41))
    assert [int(row["tokens"]) for row in rows] == [256 * step for step in range(1, 41)]
    entries = len(models.load_tokenizer(Artifact.TOKENIZER.path))
    assert float(rows[0]["loss"]) == pytest.approx(math.log(entries), rel=0.03)
    assert [row["step"] for row in rows if row["val_bits_per_byte"]] == ["10", "20", "30", "40"]
    assert float(rows[-1]["learning_rate"]) == pytest.approx(0.001)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(workspace):
    run()
    first = outputs()
    run()
    assert outputs() == first
    pretraining.main(params(model=MODEL, pretraining=SETTINGS).model_copy(update={"seed": 8}), NullTracker())
    assert outputs()["model.safetensors"] != first["model.safetensors"]


def test_the_bytes_do_not_depend_on_how_threads_are_scheduled(workspace):
    made = params(model={**MODEL, "hidden_size": 128, "intermediate_size": 256}, pretraining=SETTINGS)
    made = made.model_copy(update={"threads": 2})
    settings = made.pretraining.model_copy(update={"max_tokens": 5 * 8 * 128, "context": 128, "precision": "float32"})
    found = []
    for _ in range(2):
        pretraining.main(made.model_copy(update={"pretraining": settings}), NullTracker())
        found.append(outputs())
    assert torch.get_num_threads() == 2
    assert found[0] == found[1]


def test_a_run_that_gets_no_better_stops_early_and_the_best_weights_are_saved(workspace):
    report = run(max_tokens=400 * 256, learning_rate=0.3, warmup_share=0.5, patience=2)
    assert report.stopped_early
    measured = {int(row["step"]): float(row["val_bits_per_byte"]) for row in curve() if row["val_bits_per_byte"]}
    assert report.best_step == min(measured, key=measured.get)
    assert report.num_steps == report.best_step + 20 < 400
    assert report.val_bits_per_byte < measured[report.num_steps]


def test_after_sigterm_the_state_is_saved_and_the_next_run_ends_as_if_nothing_had_been(workspace, monkeypatch):
    run()
    whole = outputs()

    class Stopping(Ledger):
        def log(self, metrics, step):
            super().log(metrics, step)
            monkeypatch.setattr(stage, "_preempted", step == 17)

    with pytest.raises(Preempted, match="Stopped at step 17; the next run goes on from there"):
        run(Stopping())
    monkeypatch.setattr(stage, "_preempted", False)
    resumed = Ledger()
    run(resumed)
    assert resumed.points[0][0] == 18
    assert resumed.entry["seconds"] > 0
    assert outputs() == whole


def test_a_run_goes_on_when_checkpoints_are_asked_for_at_other_steps_and_its_bar_begins_where_it_was(
    workspace, monkeypatch
):
    with pytest.raises(Preempted):
        run(Stops(monkeypatch, 17).tracker())
    resumed = Stops(monkeypatch, 10**9)
    run(resumed.tracker(), checkpoint_every=4)
    assert resumed.seen == 40 - 17
    assert resumed.resumed == 17 * 256


def test_a_run_from_a_given_model_begins_anew_when_the_content_of_its_folder_changes(workspace, monkeypatch, capsys):
    for folder, steps in (("given", 10), ("other", 20)):
        run(max_tokens=steps * 256)
        Artifact.BASE.path.rename(folder)
    with pytest.raises(Preempted):
        run(Stops(monkeypatch, 17).tracker(), init="given")
    assert capsys.readouterr().err == ""
    shutil.copytree("other", "given", dirs_exist_ok=True)
    anew = Stops(monkeypatch, 10**9)
    run(anew.tracker(), init="given")
    assert anew.seen == 40
    assert capsys.readouterr().err.startswith("pretraining: starting anew: ")


def test_a_killed_run_that_had_stopped_early_resumes_to_the_same_end(workspace, monkeypatch):
    settings = {"max_tokens": 400 * 256, "learning_rate": 0.3, "warmup_share": 0.5, "patience": 2}
    monkeypatch.setattr(Checkpoints, "discard", lambda _store: None)
    first = run(**settings)
    whole = outputs()
    assert run(**settings) == first
    assert outputs() == whole


def test_checkpoints_are_removed_once_the_model_is_saved(workspace):
    run()
    assert not list(State.CHECKPOINTS.path.rglob("*.safetensors"))
    assert Artifact.BASE.path.is_dir()


def test_more_training_than_text_goes_over_it_again(workspace):
    report = run(max_tokens=100 * 256)
    assert report.num_epochs == pytest.approx(100 * 256 / len(TokenStore.open(Artifact.TOKENS.path).split("train")))
    assert report.num_epochs > 2


def test_a_budget_says_how_many_tokens_the_model_sees(workspace):
    parameters = run(max_tokens=256).num_parameters
    by_ratio = run(budget="0.05 tokens/parameter")
    assert by_ratio.num_tokens == int(0.05 * parameters) // 256 * 256 > 256
    assert by_ratio.tokens_per_parameter <= 0.05
    same = [outputs()["model.safetensors"]]
    flops = 6 * parameters * (by_ratio.num_tokens + 10)
    for budget in (f"{flops:.9g} FLOPs", f"{flops / 1e6:.9g} seconds at 1 MFLOP/s"):
        assert run(budget=budget).num_tokens == by_ratio.num_tokens
        same.append(outputs()["model.safetensors"])
    assert len(set(same)) == 1


def test_a_budget_that_is_not_settled_or_too_small_is_told_before_training(workspace):
    with pytest.raises(ParamsError, match="`moteur plan --apply tokens` measures"):
        run(budget="10 minutes")
    with pytest.raises(ParamsError, match=r"one step takes 256 \(pretraining"):
        run(budget="1e3 FLOPs")


def test_less_text_than_a_batch_is_told_with_the_keys_to_lower(workspace):
    with pytest.raises(
        DataError, match=r"fewer than the 32,800 .* lower pretraining\.batch_size or pretraining\.contex"
    ):
        run(batch_size=1024)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_an_empty_held_out_split_is_told_before_training(workspace, tokenized, split):
    (workspace / "data").unlink()
    validated = workspace / Artifact.VALIDATED
    fixtures.write_records(validated, stories=60)
    (validated / f"corpus.{split}.jsonl").write_text("")
    (workspace / "models/tokenizer").unlink()
    tokenization.main(params(tokenization=TOKENIZATION), NullTracker())
    ledger = Ledger()
    with pytest.raises(DataError, match=rf"split {split} of the corpus is empty.*ingestion\.corpus\.{split}"):
        run(ledger)
    assert ledger.points == []


def test_training_goes_on_from_a_given_model(workspace):
    run()
    before = curve()
    Artifact.BASE.path.rename("given")
    report = run(init="given")
    assert float(curve()[0]["loss"]) < 0.5 * float(before[0]["loss"])
    assert report.num_steps == 40


def test_a_given_llama_is_trained_with_the_fastest_attention_as_one_from_scratch_is(workspace):
    run()
    Artifact.BASE.path.rename("given")
    tokens, cpu = TokenStore.open(Artifact.TOKENS.path), torch.device("cpu")
    for init in (None, "given"):
        asked = params(model=MODEL, pretraining={**SETTINGS, "init": init})
        model = pretraining._model(asked, models.load_tokenizer(Artifact.TOKENIZER.path), tokens, cpu)
        assert attention.is_fastest(model)
        assert attention.is_fastest(speed._model(asked, cpu))


def test_a_given_model_with_another_tokenizer_is_refused(workspace):
    other = fixtures.tiny_tokenizer(["wholly different words, zzz yyy xxx"] * 9, vocab_size=300)
    models.save(fixtures.tiny_model(other), other, workspace / "given")
    with pytest.raises(ParamsError, match=r"set tokenization\.init to 'given' too"):
        run(init="given")


def test_row_40_tokens_of_another_tokenizer_are_told_before_training(workspace):
    Path("models/tokenizer").unlink()
    fixtures.tiny_tokenizer(["a tokenizer of other words"] * 9, vocab_size=300).save_pretrained("models/tokenizer")
    ledger = Ledger()
    with pytest.raises(
        ArtifactError,
        match=r"data/tokens was written with .* 375 entries .*, but models/tokenizer has .*tokenization again",
    ):
        run(ledger)
    assert ledger.points == []


def test_row_40_tokens_with_another_end_are_told_before_training(workspace):
    tokenizer = models.load_tokenizer(Artifact.TOKENIZER.path)
    tokenizer.eos_token = chat.USER
    Path("models/tokenizer").unlink()
    tokenizer.save_pretrained("models/tokenizer")
    with pytest.raises(ArtifactError, match=r"end token 1, but .* end token 2: they"):
        run()


def test_a_disk_without_room_for_checkpoints_is_told_at_the_start(workspace, monkeypatch):
    usage = pretraining.Checkpoints.require_space.__globals__["shutil"].disk_usage(workspace)
    monkeypatch.setattr("shutil.disk_usage", lambda _path: usage._replace(free=100))
    with pytest.raises(ResourceError, match=r"Checkpoints need .* MiB"):
        run()


def test_weights_are_saved_in_float32_and_load_without_our_code(workspace):
    run(max_tokens=256)
    model = models.load_causal(Artifact.BASE.path)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert model.config._attn_implementation == "sdpa"
    assert (Artifact.BASE.path / "tokenizer.json").is_file()


OTHERS = [
    {"objective": "masked"},
    {"objective": "span_corruption"},
    {"architecture": "rnn"},
    {"architecture": "lstm"},
    {"architecture": "mlp"},
]


def named(settings):
    return next(iter(settings.values()))


@pytest.mark.parametrize("settings", OTHERS, ids=named)
def test_another_objective_or_architecture_learns_and_nothing_is_built_on_it(workspace, settings):
    report = run(**settings)
    rows = curve()
    assert float(rows[-1]["loss"]) < 0.9 * float(rows[0]["loss"])
    assert report.num_tokens == 40 * 256
    assert report.val_perplexity == pytest.approx(math.exp(report.val_loss))
    with pytest.raises(ArtifactError, match=r"set pretraining\.objective to causal and model\.architecture to llama"):
        models.load_causal(Artifact.BASE.path)
    weights = load_file(Artifact.BASE.path / "model.safetensors")
    assert sum(weight.numel() for weight in weights.values()) == report.num_parameters


@pytest.mark.parametrize("objective", ["masked", "span_corruption"])
def test_hidden_tokens_are_reported_by_loss_and_accuracy_and_not_by_bits_per_byte(workspace, objective):
    ledger = Ledger()
    report = run(ledger, objective=objective)
    assert report.objective == objective
    assert report.val_bits_per_byte is None
    assert report.test_bits_per_byte is None
    assert 1 / 400 < report.test_accuracy < 1
    assert 0 < report.test_loss < math.log(400)
    test = TokenStore.open(Artifact.TOKENS.path).split("test")
    assert report.num_hidden_tokens == pytest.approx(0.15 * len(test), rel=0.1)
    measured = [(int(row["step"]), float(row["val_loss"])) for row in curve() if row["val_loss"]]
    assert [step for step, _ in measured] == [10, 20, 30, 40]
    logged = [figures["val_loss"] for _, figures in ledger.points if "val_loss" in figures]
    assert logged == pytest.approx([loss for _, loss in measured], rel=1e-4)  # the curve is rounded
    assert ledger.entry["objective"] != "next-token cross-entropy"


@pytest.mark.parametrize("settings", [OTHERS[0], OTHERS[1], OTHERS[3]], ids=named)
def test_another_objective_or_architecture_goes_on_after_sigterm_to_the_same_bytes(workspace, monkeypatch, settings):
    run(**settings)
    whole = outputs()

    class Stopping(Ledger):
        def log(self, metrics, step):
            super().log(metrics, step)
            monkeypatch.setattr(stage, "_preempted", step == 17)

    with pytest.raises(Preempted):
        run(Stopping(), **settings)
    monkeypatch.setattr(stage, "_preempted", False)
    run(**settings)
    assert outputs() == whole


def test_the_tokenizer_of_a_model_with_masks_is_that_of_the_run(workspace):
    run(objective="masked", max_tokens=256)
    ours, saved = (models.load_tokenizer(place) for place in (Artifact.TOKENIZER.path, Artifact.BASE.path))
    assert saved.get_vocab() == ours.get_vocab()
    assert models.load_as(AutoModelForMaskedLM, Artifact.BASE.path).config.vocab_size == len(ours) + 1

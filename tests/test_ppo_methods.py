"""PPO as a stage with low-rank adapters, pretraining text, and a reward model of another make."""

from pathlib import Path

import pytest
import torch

from pipelines import ppo, stage
from pipelines.adapters import files, models
from pipelines.adapters.tracking import NullTracker
from pipelines.artifacts import Artifact
from pipelines.core.judging.likelihood import bits_per_byte
from pipelines.errors import DataError, ParamsError, Preempted
from tests import fixtures
from tests.core.learning.architectures import classifier
from tests.core.learning.test_rewards_of_any_model import WORDS, words
from tests.learning import params, write_model
from tests.workspaces import aligned, take_the_last_policy

SETTINGS = {
    "iterations": 3,
    "prompts_per_iteration": 16,
    "minibatch_size": 8,
    "learning_rate": 1e-3,
    "value_learning_rate": 1e-3,
    "max_new_tokens": 6,
    "checkpoint_every": 2,
    "evaluation_prompts": 12,
}
LORA = {"method": "lora", "microbatch_size": 3, "learning_rate": 1e-2}


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    take_the_last_policy(monkeypatch)
    aligned()


def run(tracker=None, **changes):
    return ppo.main(params(ppo={**SETTINGS, **changes}), tracker or NullTracker())


def with_text(stories):
    """Token shards for the instruction model's tokenizer."""
    texts = Path("texts")
    fixtures.write_records(texts, stories=stories)
    fixtures.write_tokens(Artifact.TOKENS.path, models.load_tokenizer(Artifact.SFT.path), texts)


def test_by_adapters_a_plain_model_is_saved_that_differs_from_the_instruction_model(workspace):
    report = run(**LORA)
    assert report.kl > 0
    before, after = models.load_causal(Artifact.SFT.path), models.load_causal(Artifact.POLICY.path)
    assert set(before.state_dict()) == set(after.state_dict())
    assert not torch.equal(before.model.layers[0].mlp.up_proj.weight, after.model.layers[0].mlp.up_proj.weight)
    assert torch.equal(before.get_input_embeddings().weight, after.get_input_embeddings().weight)


@pytest.mark.parametrize("changes", [LORA, {"ptx_coefficient": 0.5}], ids=["lora", "text"])
def test_stopped_and_resumed_it_is_the_run_that_was_never_stopped(workspace, monkeypatch, changes):
    with_text(200)
    expected = run(**changes), files.sha256(Artifact.POLICY.path)
    seen = []

    class Counting(NullTracker):
        def log(self, metrics, step):
            seen.append(step)

    monkeypatch.setattr(stage, "preempted", lambda: len(seen) == 1)
    with pytest.raises(Preempted):
        run(Counting(), **changes)
    assert run(Counting(), **changes) == expected[0]
    assert seen == [1, 2, 3]
    assert files.sha256(Artifact.POLICY.path) == expected[1]


def test_pretraining_text_keeps_the_policy_from_forgetting_it(workspace):
    with_text(400)
    valid = ppo.TokenStore.open(Artifact.TOKENS.path).split("valid")
    bits = []
    for coefficient in (0.0, 1.0):
        run(iterations=6, learning_rate=5e-3, kl_coefficient=0.0, kl_limit=1e6, ptx_coefficient=coefficient)
        bits.append(bits_per_byte(models.load_causal(Artifact.POLICY.path), valid, valid.num_bytes, 64))
    assert bits[1] < 0.8 * bits[0]


def test_what_is_read_of_pretraining_text_is_in_the_ledger_of_effort(workspace):
    with_text(400)
    efforts = []

    class Ledger(NullTracker):
        def effort(self, **figures):
            efforts.append(figures)

    changes = {"iterations": 1, "epochs": 2, "learning_rate": 1e-12}
    for coefficient in (0.0, 0.5):
        run(Ledger(), ptx_coefficient=coefficient, **changes)
    without, beside = efforts
    text = beside["tokens"] - without["tokens"]
    updates, rows = 2 * 16 // 8, 8
    assert text > 0
    assert text % (updates * rows) == 0
    parameters = models.load_causal(Artifact.SFT.path).num_parameters()
    assert beside["flops"] - without["flops"] == 6 * parameters * text


def test_too_little_text_is_an_error_with_the_key(workspace):
    with_text(2)
    with pytest.raises(DataError, match=r"ppo\.ptx_coefficient .* lower ppo\.minibatch_size"):
        run(ptx_coefficient=0.5)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_reward_model_with_another_tokenizer_judges_and_the_value_model_starts_with_a_new_head(workspace, method):
    assert run(iterations=1).new_value_head is None
    write_model(Artifact.REWARD.path, classifier("bert", vocab_size=len(WORDS), pad=0), words(segments=True))
    report = run(method=method)
    assert report.new_value_head == "the reward model has another tokenizer"
    assert report.iterations == 3


def test_dropout_of_adapters_is_refused_with_the_reason():
    with pytest.raises(ParamsError, match=r"ppo\.lora\.dropout is 0\.1.*differ before anything is learnt"):
        params(ppo={"lora": {"rank": 4, "alpha": 8, "dropout": 0.1}})

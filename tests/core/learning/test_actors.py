"""Policy, reference and value model from any language model and any reward model."""

import copy

import pytest
import torch

from pipelines.core.learning import actors, rewards, rollouts
from pipelines.core.learning.actors import unfit
from pipelines.core.learning.padding import right_padded
from pipelines.core.learning.policy_optimisation import Learner
from pipelines.core.learning.reward_mixture import RewardMixture
from pipelines.core.learning.rollouts import Sequences
from pipelines.params import Ppo
from tests.core.learning.architectures import CAUSAL, causal, classifier
from tests.core.learning.test_policy_optimisation import SETTINGS, letters, questions
from tests.fixtures import corpus_records, tiny_model, tiny_tokenizer
from tests.learning import reward_model

METHODS = ("full", "lora")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer([record["text"] for record in corpus_records(50)])


def model_of(kind, tokenizer):
    return causal(kind, vocab_size=len(tokenizer), eos=tokenizer.eos_token_id, pad=tokenizer.pad_token_id)


def cast(policy, judge, tokenizer, **changes):
    settings = Ppo(**{**SETTINGS, "iterations": 2, **changes})
    return settings, actors.actors(policy, judge, tokenizer=tokenizer, reward_tokenizer=tokenizer, settings=settings)


def learner(policy, judge, tokenizer, **changes):
    settings, made = cast(policy, judge, tokenizer, **changes)
    run = Learner(
        policy=policy,
        reference=made.reference,
        value_model=made.value_model,
        value_scale=made.value_scale,
        tokenizer=tokenizer,
        prompts=questions(tokenizer),
        reward=RewardMixture(model=letters("a")),
        settings=settings,
        seed=3,
        precision=torch.float32,
    )
    return run, made


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", CAUSAL)
def test_any_language_model_learns_from_ratios_of_one_and_no_divergence(kind, method, tokenizer):
    policy = model_of(kind, tokenizer)
    run, made = learner(policy, classifier("bert", vocab_size=len(tokenizer), pad=0), tokenizer, method=method)
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    first, second = run.steps()
    assert first.first_ratio < 1e-4
    assert first.kl == pytest.approx(0, abs=1e-6)
    assert second.kl > 0
    changed = {name for name, tensor in policy.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert method == "full" or all(".lora_" in name for name in changed)
    assert made.merged().num_parameters() == model_of(kind, tokenizer).num_parameters()


@pytest.mark.parametrize("kind", CAUSAL)
def test_probabilities_with_padding_are_those_of_each_text_alone(kind):
    model = causal(kind)
    texts = [[5, 6, 7, 8, 9, 1], [5, 6, 9, 1], [7, 1]]
    ids_BT, _ = right_padded(texts, 0)
    starts_B = torch.tensor([2, 1, 1])
    mask_BN = (torch.arange(4) < (torch.tensor([6, 4, 2]) - starts_B)[:, None]).float()
    with torch.inference_mode():
        said_BN = rollouts.token_log_probs(model, Sequences(ids_BT, starts_B, mask_BN), 1.0)
        for row, (text, start) in enumerate(zip(texts, starts_B.tolist(), strict=True)):
            log_probs = model(input_ids=torch.tensor([text])).logits[0].log_softmax(-1)
            alone = [float(log_probs[place - 1, text[place]]) for place in range(start, len(text))]
            assert said_BN[row, : len(alone)].tolist() == pytest.approx(alone, abs=1e-4)


def test_a_causal_reward_model_with_the_policys_tokenizer_is_what_the_value_model_begins_as(tokenizer):
    policy = tiny_model(tokenizer)
    judge = reward_model(policy)
    for method in METHODS:
        _, made = cast(copy.deepcopy(policy), judge, tokenizer, method=method)
        assert (made.new_head, made.value_scale) == (None, None)
        ids_BT = torch.tensor([[3, 9, 8, 7]])
        with torch.inference_mode():
            ours = rewards.token_rewards(made.value_model, input_ids=ids_BT)
            assert torch.equal(ours, rewards.token_rewards(judge, input_ids=ids_BT))


def test_of_any_other_reward_model_it_takes_nothing_and_the_reason_is_told(tokenizer):
    policy = tiny_model(tokenizer)
    size = len(tokenizer)
    same = {"policy": policy, "same_tokenizer": True}
    assert unfit(reward_model(policy), policy, same_tokenizer=False) == "the reward model has another tokenizer"
    assert "linear head" in unfit(classifier("bert", vocab_size=size, pad=0), **same)
    assert "shorter" in unfit(classifier("gpt2", vocab_size=size, pad=0, context=8), **same)
    assert unfit(classifier("gpt2", vocab_size=size, pad=0), **same) is None
    ahead = classifier("bert", vocab_size=size, pad=0)
    ahead.score = torch.nn.Linear(32, 1)
    assert "see those after them" in unfit(ahead, **same)


@pytest.mark.parametrize("method", METHODS)
def test_a_new_head_expects_nothing_at_first_and_learns(method, tokenizer):
    judge = classifier("bert", vocab_size=len(tokenizer), pad=0)
    run, made = learner(tiny_model(tokenizer), judge, tokenizer, method=method, iterations=8, value_learning_rate=1e-2)
    assert made.new_head
    assert made.value_scale == (0.0, 1.0)
    steps = list(run.steps())
    assert steps[0].explained_variance == pytest.approx(0, abs=1e-3)
    assert steps[-1].value_loss < steps[0].value_loss


def test_with_low_rank_adapters_a_checkpoint_holds_them_and_the_value_head_alone(tokenizer):
    policy = tiny_model(tokenizer)
    run, _ = learner(policy, reward_model(policy), tokenizer, method="lora")
    next(run.steps())
    tensors, _ = run.state()
    models = [name for name in tensors if name.split(".")[1] != "random" and "optimizer" not in name]
    assert all(".lora_" in name or name == "value.model.score.weight" for name in models)
    held = sum(tensor.nbytes for tensor in tensors.values() if tensor.dtype == torch.float32)
    assert held == pytest.approx(run.state_bytes, rel=0.01)
    whole, _ = learner(tiny_model(tokenizer), reward_model(tiny_model(tokenizer)), tokenizer)
    assert run.state_bytes < 0.5 * whole.state_bytes

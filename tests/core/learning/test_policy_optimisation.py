"""PPO as a whole: a bandit whose best answer is known, limits, and exact resuming."""

import copy
import json

import numpy as np
import pytest
import torch

from pipelines.core.learning.decoding import chat_ids
from pipelines.core.learning.policy_optimisation import Learner
from pipelines.core.learning.rollouts import Prompt
from pipelines.errors import TrainingError
from pipelines.params import Ppo
from tests.fixtures import THINGS, corpus_records, tiny_model, tiny_tokenizer
from tests.learning import reward_model

SETTINGS = {
    "iterations": 3,
    "prompts_per_iteration": 16,
    "epochs": 2,
    "minibatch_size": 8,
    "learning_rate": 1e-3,
    "value_learning_rate": 1e-3,
    "clip": 0.2,
    "value_clip": 0.2,
    "gradient_clip": 1.0,
    "kl_coefficient": 0.05,
    "kl_limit": 100.0,
    "discount": 1.0,
    "gae_lambda": 0.95,
    "temperature": 1.0,
    "max_new_tokens": 8,
    "unfinished_penalty": 0.0,
    "checkpoint_every": 5,
    "evaluation_prompts": 4,
}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer([record["text"] for record in corpus_records(50)])


def questions(tokenizer, count=16):
    texts = [f"Say {thing} {number}" for number in range(count) for thing in THINGS][:count]
    return [Prompt(text=text, ids=chat_ids(tokenizer, [{"role": "user", "content": text}])) for text in texts]


def learner(tokenizer, score, *, precision=torch.float32, **changes):
    policy = tiny_model(tokenizer)
    return Learner(
        policy=policy,
        reference=copy.deepcopy(policy),
        value_model=reward_model(policy),
        tokenizer=tokenizer,
        prompts=questions(tokenizer),
        score=score,
        settings=Ppo(**{**SETTINGS, **changes}),
        seed=3,
        precision=precision,
    )


def letters(wanted):
    """Reward: how often a letter occurs."""
    return lambda _prompts, responses: [float(text.count(wanted)) for text in responses]


class TestFirstUpdate:
    def test_before_any_update_the_ratio_is_one_and_the_divergence_zero(self, tokenizer):
        step = next(learner(tokenizer, letters("a"), temperature=0.7).steps())
        assert step.kl == pytest.approx(0.0, abs=1e-6)
        assert step.first_ratio == pytest.approx(0.0, abs=1e-4)

    def test_in_half_precision_too_up_to_rounding(self, tokenizer):
        step = next(learner(tokenizer, letters("a"), precision=torch.bfloat16).steps())
        assert step.kl == pytest.approx(0.0, abs=1e-3)
        assert step.first_ratio < 0.05

    def test_rewards_are_whitened_by_the_first_rollout_and_keep_that_scale(self, tokenizer):
        run = learner(tokenizer, letters("a"))
        steps = run.steps()
        first = next(steps)
        mean, deviation = run.scale
        assert mean == pytest.approx(first.reward)
        assert deviation > 0
        next(steps)
        assert run.scale == (mean, deviation)


def of_all_tokens(tokenizer, ids):
    """Reward: 1 for a response that begins with a token of `ids`, by its text."""
    pieces = tuple({tokenizer.decode([token]).strip() for token in ids} - {""})
    return lambda _prompts, responses: [float(text.startswith(pieces)) for text in responses]


class TestLearning:
    def test_a_bandit_with_known_good_answers_is_solved(self, tokenizer):
        run = learner(
            tokenizer,
            of_all_tokens(tokenizer, range(40, 60)),
            iterations=20,
            prompts_per_iteration=64,
            minibatch_size=16,
            learning_rate=3e-3,
            value_learning_rate=3e-3,
            max_new_tokens=1,
            kl_coefficient=0.0,
            epochs=4,
        )
        steps = list(run.steps())
        assert steps[0].reward < 0.3
        assert steps[-1].reward > 0.9

    def test_a_penalty_for_divergence_keeps_the_policy_near_the_reference(self, tokenizer):
        options = {"iterations": 12, "prompts_per_iteration": 32, "learning_rate": 3e-3, "max_new_tokens": 4}
        free = list(learner(tokenizer, letters("a"), kl_coefficient=0.0, **options).steps())
        held = list(learner(tokenizer, letters("a"), kl_coefficient=5.0, **options).steps())
        assert held[-1].kl < 0.5 * free[-1].kl
        assert free[-1].reward > free[0].reward

    def test_unfinished_responses_become_rarer_when_they_are_punished(self, tokenizer):
        run = learner(
            tokenizer,
            lambda _prompts, responses: [0.0 for _ in responses],
            iterations=12,
            prompts_per_iteration=32,
            minibatch_size=16,
            learning_rate=5e-3,
            value_learning_rate=5e-3,
            max_new_tokens=4,
            kl_coefficient=0.0,
            unfinished_penalty=1.0,
            epochs=4,
        )
        with torch.no_grad():  # an untrained model says its end token once in some three hundred: too rare to be found
            run.policy.get_input_embeddings().weight[tokenizer.eos_token_id] *= 8
        steps = list(run.steps())
        assert steps[-1].finished > steps[0].finished + 0.2


class TestStopping:
    def test_past_the_limit_training_ends_with_the_last_policy_within_it(self, tokenizer):
        options = {"iterations": 20, "learning_rate": 1e-2, "kl_coefficient": 0.0, "prompts_per_iteration": 32}
        run = learner(tokenizer, letters("a"), kl_limit=0.5, **options)
        steps = list(run.steps())
        assert 0 < len(steps) < 20
        assert all(step.kl <= 0.5 for step in steps)
        _, figures = run.rollout(np.random.default_rng([run.seed, len(steps) - 1]))
        assert figures["kl"] == pytest.approx(steps[-1].kl)

    def test_a_loss_that_is_no_number_is_an_error_with_the_remedy(self, tokenizer):
        run = learner(tokenizer, lambda _prompts, responses: [float("nan")] * len(responses))
        with pytest.raises(TrainingError, match=r"PPO diverged at iteration 1 .*lower ppo\.learning_rate"):
            list(run.steps())


class TestResuming:
    def test_a_resumed_run_is_the_same_run_to_the_bit(self, tokenizer):
        whole = learner(tokenizer, letters("a"), iterations=4)
        expected = list(whole.steps())
        torch.manual_seed(99)

        first = learner(tokenizer, letters("a"), iterations=4)
        steps = first.steps()
        done = [next(steps), next(steps)]
        tensors, values = first.state()
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        second = learner(tokenizer, letters("a"), iterations=4)
        second.restore(tensors, json.loads(json.dumps(values)))
        assert done + list(second.steps(start=2)) == expected
        for name, tensor in whole.policy.state_dict().items():
            assert torch.equal(tensor, second.policy.state_dict()[name]), name

    def test_the_state_holds_what_it_says_in_bytes(self, tokenizer):
        run = learner(tokenizer, letters("a"))
        next(run.steps())
        tensors, _ = run.state()
        held = sum(tensor.nbytes for tensor in tensors.values())
        assert held == pytest.approx(run.state_bytes, rel=0.15)

    def test_another_seed_is_another_run(self, tokenizer):
        one, other = learner(tokenizer, letters("a")), learner(tokenizer, letters("a"))
        other.seed = 4
        assert next(one.steps()) != next(other.steps())

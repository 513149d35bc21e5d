"""PPO as a whole: a bandit whose best answer is known, limits, and exact resuming."""

import itertools
import json
import math

import numpy as np
import pytest
import torch

from pipelines.core.learning import actors, decoding, rollouts
from pipelines.core.learning.batches import Packed
from pipelines.core.learning.decoding import chat_ids
from pipelines.core.learning.objectives import policy_loss
from pipelines.core.learning.policy_optimisation import Learner
from pipelines.core.learning.reward_mixture import RewardFunction, RewardMixture
from pipelines.core.learning.rollouts import Prompt
from pipelines.errors import TrainingError
from pipelines.params import Ppo
from tests.fixtures import THINGS, corpus_records, tiny_model, tiny_tokenizer
from tests.learning import reward_model

SETTINGS = {
    "iterations": 3,
    "prompts_per_iteration": 16,
    "epochs": 2,
    "method": "full",
    "lora": {"rank": 4, "alpha": 8, "dropout": 0.0},
    "minibatch_size": 8,
    "microbatch_size": None,
    "ptx_coefficient": 0.0,
    "learning_rate": 1e-3,
    "value_learning_rate": 1e-3,
    "clip": 0.2,
    "value_clip": 0.2,
    "gradient_clip": 1.0,
    "kl_coefficient": 0.05,
    "kl_target": None,
    "kl_horizon": 640,
    "kl_limit": 100.0,
    "length_collapse": 0.25,
    "length_explosion": 4.0,
    "discount": 1.0,
    "gae_lambda": 0.95,
    "temperature": 1.0,
    "max_new_tokens": 8,
    "unfinished_penalty": 0.0,
    "reward_model_weight": 1.0,
    "reward_functions": [],
    "checkpoint_every": 5,
    "measure_every": 10,
    "kl_price": 0.05,
    "max_length_change": None,
    "length_coefficient": 0.0,
    "evaluation_prompts": 4,
}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer([record["text"] for record in corpus_records(50)])


def questions(tokenizer, count=16):
    texts = [f"Say {thing} {number}" for number in range(count) for thing in THINGS][:count]
    return [Prompt(text=text, ids=chat_ids(tokenizer, [{"role": "user", "content": text}])) for text in texts]


def learner(tokenizer, score, *, precision=torch.float32, mixture=None, **changes):
    torch.manual_seed(0)
    policy, settings = tiny_model(tokenizer), Ppo(**{**SETTINGS, **changes})
    judge = reward_model(policy)
    cast = actors.actors(policy, judge, tokenizer=tokenizer, reward_tokenizer=tokenizer, settings=settings)
    return Learner(
        policy=policy,
        reference=cast.reference,
        value_model=cast.value_model,
        value_scale=cast.value_scale,
        tokenizer=tokenizer,
        prompts=questions(tokenizer),
        reward=RewardMixture(model=score, **mixture or {}),
        settings=settings,
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


@pytest.fixture(scope="module")
def uneven(tokenizer):
    """A run and its rollout, of responses of many lengths, every third without an end token."""
    run = learner(
        tokenizer,
        lambda _prompts, responses: [float(len(text)) for text in responses],
        prompts_per_iteration=12,
        max_new_tokens=10,
        kl_coefficient=0.0,
        gae_lambda=1.0,
        unfinished_penalty=3.0,
    )

    def said(_model, _tokenizer, prompts, **_options):
        lengths = [10 if number % 3 == 0 else 1 + number % 7 for number in range(len(prompts))]
        tokens = [[20 + (7 * number + at) % 100 for at in range(length)] for number, length in enumerate(lengths)]
        tokens = [ids if len(ids) == 10 else [*ids, tokenizer.eos_token_id] for ids in tokens]
        return [
            decoding.Response(tokens=ids, text=tokenizer.decode(ids, skip_special_tokens=True), finished=len(ids) < 10)
            for ids in tokens
        ]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(decoding, "respond", said)
        rollout, _ = run.rollout(np.random.default_rng(0))
    with torch.no_grad():
        run.policy.get_input_embeddings().weight.mul_(1.5)  # so that ratios are not all one
    return run, rollout


def gradients(run, *minibatches, weights=None):
    """Loss and gradients of the policy over some minibatches, added with weights."""
    run.policy.zero_grad()
    total = 0.0
    for number, part in enumerate(minibatches):
        said, old_BN, _, gains_BN, _ = part
        ratio_BN = (rollouts.token_log_probs(run.policy, said, 1.0) - old_BN).exp()
        loss = policy_loss(ratio_BN, gains_BN, said.mask_BN, 0.2) * (weights[number] if weights else 1.0)
        loss.backward()
        total += float(loss.detach())
    return total, [weight.grad.clone() for weight in run.policy.parameters()]


def assert_same(one, other):
    assert one[0] == pytest.approx(other[0], abs=1e-6)
    assert max(float(grad.abs().max()) for grad in one[1]) > 1e-3
    for mine, theirs in zip(one[1], other[1], strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)


class TestPadding:
    def test_gradients_of_minibatches_weighted_by_their_tokens_are_those_of_the_whole(self, uneven):
        run, rollout = uneven
        parts = [rollout.rows(rows) for rows in (torch.tensor([0, 3, 5]), torch.tensor([1, 2, 4, 6, 7, 8, 9, 10, 11]))]
        tokens = [float(part.said.mask_BN.sum()) for part in parts]
        shares = [count / sum(tokens) for count in tokens]
        assert shares[0] != pytest.approx(3 / 12, abs=1e-3)
        assert_same(gradients(run, *parts, weights=shares), gradients(run, rollout))

    def test_what_stands_in_the_padding_changes_nothing(self, uneven):
        run, rollout = uneven
        said = rollout.said
        wide_BT = torch.nn.functional.pad(said.ids_BT, (0, 7), value=9)
        ends_B = said.starts_B + said.mask_BN.sum(dim=1).long()
        behind_BT = torch.arange(wide_BT.shape[1]) >= ends_B[:, None]
        wide_BT = torch.where(behind_BT, torch.full_like(wide_BT, 11), wide_BT)
        assert_same(gradients(run, rollout._replace(said=said._replace(ids_BT=wide_BT))), gradients(run, rollout))

    def test_the_score_is_paid_at_the_end_token_and_its_lack_is_punished(self, uneven, tokenizer):
        run, rollout = uneven
        _, _, values_BN, _, returns_BN = rollout
        end = tokenizer.eos_token_id
        finished = []
        for row, (start, mask_N) in enumerate(zip(rollout.said.starts_B, rollout.said.mask_BN, strict=True)):
            length = int(mask_N.sum())
            ids = rollout.said.ids_BT[row, start : start + length].tolist()
            finished.append(ids[-1] == end)
            assert end not in ids[:-1]
            assert finished[-1] or length == 10
            text = tokenizer.decode(ids, skip_special_tokens=True)
            mean, deviation = run.scale
            paid = (len(text) - mean) / deviation - 3.0 * (not finished[-1])
            # with discount, lambda 1 and no penalty for divergence every token returns what the last is paid
            assert returns_BN[row, :length].tolist() == pytest.approx([paid] * length, abs=2e-4)
            assert values_BN[row, length:].abs().sum() == returns_BN[row, length:].abs().sum() == 0
        assert 0 < sum(finished) < len(finished)


class TestAccumulation:
    """The gradient of an update, caught before the optimiser takes it."""

    @staticmethod
    def caught(tokenizer, rollout, monkeypatch, *, text=None, **changes):
        run = learner(
            tokenizer, letters("a"), prompts_per_iteration=12, minibatch_size=12, epochs=1, gradient_clip=1e9, **changes
        )
        run.scale = run.value_scale = (0.0, 1.0)
        run.text = text
        with torch.no_grad():
            run.policy.get_input_embeddings().weight.mul_(1.5)
        found = []
        monkeypatch.setattr(
            run,
            "_descend",
            lambda optimizer, _rate: found.append([w.grad.clone() for w in optimizer.param_groups[0]["params"]]),
        )
        figures = run.update(rollout, np.random.default_rng(0), 0)
        return run, found, figures

    @pytest.mark.parametrize("size", [1, 5, 12, 100])
    def test_in_microbatches_of_any_size_the_gradient_and_the_figures_are_those_of_the_minibatch(
        self, tokenizer, uneven, monkeypatch, size
    ):
        _, rollout = uneven
        _, whole, expected = self.caught(tokenizer, rollout, monkeypatch)
        _, parts, figures = self.caught(tokenizer, rollout, monkeypatch, microbatch_size=size)
        assert len(whole) == len(parts) == 2
        for one, other in zip(whole, parts, strict=True):
            assert max(float(grad.abs().max()) for grad in one) > 1e-3
            for mine, theirs in zip(one, other, strict=True):
                assert torch.allclose(mine, theirs, atol=2e-6, rtol=1e-4)
        assert expected.pop("ptx_loss") is figures.pop("ptx_loss") is None
        assert figures == pytest.approx(expected, abs=1e-5)

    def test_it_is_the_gradient_of_the_formula(self, tokenizer, uneven, monkeypatch):
        _, rollout = uneven
        run, (mine, _), _ = self.caught(tokenizer, rollout, monkeypatch, microbatch_size=5)
        run.policy.zero_grad()
        terms = []
        for row, (start, mask_N) in enumerate(zip(rollout.said.starts_B, rollout.said.mask_BN, strict=True)):
            length = int(mask_N.sum())
            ids = rollout.said.ids_BT[row, : start + length]
            log_probs = run.policy(input_ids=ids[None]).logits[0].log_softmax(-1)
            for at in range(length):
                ratio = (log_probs[start + at - 1, ids[start + at]] - rollout.log_probs_BN[row, at]).exp()
                gain = rollout.advantages_BN[row, at]
                terms.append(torch.maximum(-gain * ratio, -gain * ratio.clamp(0.8, 1.2)))
        torch.stack(terms).mean().backward()
        for grad, weight in zip(mine, run.policy.parameters(), strict=True):
            assert torch.allclose(grad, weight.grad, atol=5e-6, rtol=1e-4)


class TestPretrainingText:
    ROW = np.random.default_rng(0).integers(20, 100, 2000)

    def test_its_gradient_is_added_with_its_weight_whatever_the_microbatch(self, tokenizer, uneven, monkeypatch):
        _, rollout = uneven
        text = Packed(self.ROW, 16, 12, 0)
        caught = TestAccumulation.caught
        run, (without, _), _ = caught(tokenizer, rollout, monkeypatch)
        run.policy.zero_grad()
        batch = text(0)
        logits = run.policy(input_ids=batch.inputs_BT).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets_BT.flatten())
        loss.backward()
        for size in (None, 5):
            options = {"microbatch_size": size, "ptx_coefficient": 0.5, "text": text}
            _, (both, values), figures = caught(tokenizer, rollout, monkeypatch, **options)
            assert figures["ptx_loss"] == pytest.approx(float(loss.detach()), abs=1e-5)
            assert len(values) == len(list(run.value_model.parameters()))
            for grad, plain, weight in zip(both, without, run.policy.parameters(), strict=True):
                assert torch.allclose(grad, plain + 0.5 * weight.grad, atol=5e-6, rtol=1e-4)

    def test_every_update_of_a_run_reads_other_text_and_a_resumed_run_the_same(self, tokenizer):
        asked = []

        def text(number):
            asked.append(number)
            return Packed(self.ROW, 16, 8, 0)(number)

        run = learner(tokenizer, letters("a"), ptx_coefficient=0.5)
        run.text = text
        list(run.steps())
        assert asked == list(range(3 * 2 * 2))
        asked.clear()
        again = learner(tokenizer, letters("a"), ptx_coefficient=0.5)
        again.text = text
        list(again.steps(start=2))
        assert asked == [8, 9, 10, 11]

    def test_it_is_learnt_while_rewards_are(self, tokenizer):
        row = np.tile([20, 21, 22, 23], 500)
        runs = []
        for coefficient in (0.0, 1.0):
            run = learner(tokenizer, letters("a"), iterations=8, learning_rate=3e-3, ptx_coefficient=coefficient)
            run.text = Packed(row, 16, 8, 0)
            runs.append(list(run.steps()))
        without, with_text = runs
        assert with_text[-1].ptx_loss < 0.6 * without[-1].ptx_loss


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

    def test_with_a_penalty_for_divergence_it_finds_the_known_optimum_between_reward_and_reference(self, tokenizer):
        """The best policy is the reference times exp(reward / weight of the penalty), normalised."""
        good = of_all_tokens(tokenizer, range(40, 60))
        run = learner(
            tokenizer,
            good,
            iterations=30,
            prompts_per_iteration=128,
            minibatch_size=32,
            learning_rate=2e-3,
            value_learning_rate=2e-3,
            max_new_tokens=1,
            kl_coefficient=2.0,
            epochs=4,
        )
        worth = torch.tensor(good([], [tokenizer.decode([token]).strip() for token in range(len(tokenizer))]))

        def share(model):
            with torch.no_grad():
                logits = [model(input_ids=torch.tensor([prompt.ids])).logits[0, -1] for prompt in run.prompts]
            return float((torch.stack(logits).softmax(dim=-1) * worth).sum(dim=-1).mean())

        before = share(run.reference)
        list(run.steps())
        gain = math.exp(1 / (run.scale[1] * 2.0))
        best = before * gain / (before * gain + 1 - before)
        assert best > before + 0.2
        assert share(run.policy) == pytest.approx(best, abs=0.05)

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


class TestLength:
    def test_a_reward_for_short_texts_makes_them_less_short_when_responses_are_drawn_back(self, tokenizer):
        lengths = {}
        for coefficient in (0.0, 10.0):
            run = learner(
                tokenizer,
                lambda _prompts, responses: [-float(len(text)) for text in responses],
                iterations=12,
                prompts_per_iteration=32,
                minibatch_size=16,
                learning_rate=3e-3,
                value_learning_rate=3e-3,
                kl_coefficient=0.0,
                max_length_change=0.2,
                length_coefficient=coefficient,
                length_collapse=0.0,
                length_explosion=100.0,
            )
            with torch.no_grad():  # so that some responses end before they are cut off
                run.policy.get_input_embeddings().weight[tokenizer.eos_token_id] *= 8
            steps = list(run.steps())
            assert steps[0].length_weight == 0
            lengths[coefficient] = steps[-1].length / steps[0].length
        assert lengths[0.0] < 0.8
        assert 1 - lengths[10.0] < 0.8 * (1 - lengths[0.0])


class TestStopping:
    def test_past_the_limit_training_ends_with_the_last_policy_within_it(self, tokenizer):
        options = {"iterations": 20, "learning_rate": 1e-2, "kl_coefficient": 0.0, "prompts_per_iteration": 32}
        run = learner(tokenizer, letters("a"), kl_limit=0.5, **options)
        steps = list(run.steps())
        assert 0 < len(steps) < 20
        assert all(step.kl <= 0.5 for step in steps)
        _, figures = run.rollout(np.random.default_rng([run.seed, len(steps) - 1]))
        assert figures["kl"] == pytest.approx(steps[-1].kl)
        assert run.stopped == "kl"

    def test_a_run_within_all_limits_has_no_stop(self, tokenizer):
        run = learner(tokenizer, letters("a"), length_collapse=0.9, length_explosion=1.1, learning_rate=1e-9)
        assert len(list(run.steps())) == 3
        assert run.stopped is None

    def test_where_responses_get_too_short_or_too_long_the_last_policy_before_is_kept(self, tokenizer):
        def lengths(wish, policy, **limit):
            run = learner(
                tokenizer,
                lambda _prompts, responses: [wish * float(len(text)) for text in responses],
                iterations=30,
                prompts_per_iteration=32,
                minibatch_size=16,
                learning_rate=1e-2,
                value_learning_rate=1e-2,
                kl_coefficient=0.0,
                kl_limit=1e6,
                max_new_tokens=12,
                epochs=4,
                **limit,
            )
            run.policy.load_state_dict(policy.state_dict())
            steps = list(run.steps())
            _, figures = run.rollout(np.random.default_rng([run.seed, len(steps) - 1]))
            assert figures["length"] == steps[-1].length
            return run, [step.length / run.first_length for step in steps]

        policy = tiny_model(tokenizer)
        with torch.no_grad():  # so that the end token is said often enough to be learnt from
            policy.get_input_embeddings().weight[tokenizer.eos_token_id] *= 10
        shorter, parts = lengths(-1, policy, length_collapse=0.5)
        assert shorter.stopped == "length collapse"
        assert min(parts) >= 0.5
        longer, parts = lengths(1, shorter.policy, length_explosion=1.3)
        assert longer.stopped == "length explosion"
        assert max(parts) <= 1.3

    def test_numbers_that_are_none_end_it_with_the_last_good_policy_where_it_has_learnt(self, tokenizer):
        calls = []

        def spoilt(prompts, responses):
            calls.append(1)
            return [float("nan") if len(calls) > 3 else value for value in letters("a")(prompts, responses)]

        run = learner(tokenizer, spoilt, iterations=6)
        steps = list(run.steps())
        assert len(steps) == 3
        assert run.stopped == "not finite"
        known = learner(tokenizer, letters("a"), iterations=6)
        healthy = known.steps()
        assert [next(healthy), next(healthy)] == steps[:2]
        for name, tensor in run.policy.state_dict().items():
            assert torch.equal(tensor, known.policy.state_dict()[name]), name

    def test_an_update_that_makes_weights_no_numbers_is_undone(self, tokenizer):
        run = learner(tokenizer, letters("a"), iterations=6)
        steps = run.steps()
        next(steps), next(steps)
        with torch.no_grad():
            run.policy.get_input_embeddings().weight[5] = float("nan")
        assert not list(steps)
        assert run.stopped == "not finite"
        assert all(torch.isfinite(weight).all() for weight in run.policy.parameters())

    def test_a_loss_that_is_no_number_is_an_error_with_the_remedy(self, tokenizer):
        run = learner(tokenizer, lambda _prompts, responses: [float("nan")] * len(responses))
        with pytest.raises(TrainingError, match=r"PPO diverged at iteration 1 .*lower ppo\.learning_rate"):
            list(run.steps())


class TestSteering:
    def test_the_weight_of_the_penalty_rises_above_the_target_and_falls_below_it(self, tokenizer):
        options = {"iterations": 8, "prompts_per_iteration": 32, "learning_rate": 3e-3, "kl_horizon": 32}
        steps = list(learner(tokenizer, letters("a"), kl_target=0.05, **options).steps())
        assert steps[0].kl_coefficient == 0.05
        for before, after in itertools.pairwise(steps):
            error = min(max((before.kl - 0.05) / 0.05, -0.2), 0.2)
            assert after.kl_coefficient == pytest.approx(before.kl_coefficient * (1 + error))
        assert steps[1].kl_coefficient < 0.05
        assert steps[-1].kl_coefficient > steps[1].kl_coefficient

    def test_without_a_target_it_is_fixed(self, tokenizer):
        assert {step.kl_coefficient for step in learner(tokenizer, letters("a")).steps()} == {0.05}


class TestBookkeeping:
    def test_the_penalties_of_a_step_are_what_was_taken_off(self, tokenizer):
        run = learner(tokenizer, letters("a"), iterations=4, unfinished_penalty=2.0, kl_coefficient=0.5)
        steps = list(run.steps())
        assert all(step.kl >= 0 for step in steps)
        assert all(step.unfinished_penalty == pytest.approx(2.0 * (1 - step.finished)) for step in steps)
        assert steps[0].kl_penalty == pytest.approx(0.0, abs=1e-5)
        assert steps[-1].kl_penalty != pytest.approx(0.0, abs=1e-4)

    def test_the_rewards_parts_add_up_and_the_value_model_keeps_the_scale_of_what_it_knows(self, tokenizer):
        longer = RewardFunction(name="f", weight=100.0, call=lambda _prompts, responses: [len(t) for t in responses])
        run = learner(tokenizer, letters("a"), mixture={"model_weight": 0.5, "functions": [longer]})
        alone = learner(tokenizer, letters("a"))
        step, other = next(run.steps()), next(alone.steps())
        assert step.reward == pytest.approx(step.reward_model + step.reward_functions)
        assert step.reward_model == pytest.approx(0.5 * other.reward)
        assert step.reward_functions > 100
        assert (other.reward_model, other.reward_functions) == (other.reward, 0.0)
        assert run.value_scale == alone.value_scale == alone.scale
        assert run.scale != alone.scale


class TestResuming:
    @pytest.mark.parametrize(
        "changes",
        [{}, {"kl_target": 0.05}, {"method": "lora"}, {"microbatch_size": 3}],
        ids=lambda changes: ", ".join(changes) or "plain",
    )
    def test_a_resumed_run_is_the_same_run_to_the_bit(self, tokenizer, changes):
        options = {"iterations": 4, "kl_horizon": 16, **changes}
        whole = learner(tokenizer, letters("a"), **options)
        expected = list(whole.steps())
        torch.manual_seed(99)

        first = learner(tokenizer, letters("a"), **options)
        steps = first.steps()
        done = [next(steps), next(steps)]
        tensors, values = first.state()
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        second = learner(tokenizer, letters("a"), **options)
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

"""Align the instruction model by one method within a budget, and measure it: one method of `moteur compare alignment`.

    python -m pipelines.alignment_comparison METHOD FLOPS

METHOD is dpo, grpo, rloo or best-of-n, or ppo, which only measures the policy that the stage of this name made.
"""

import math
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

from pipelines import stage
from pipelines.adapters import alignment_trainers, datasets, device, models, prompts
from pipelines.adapters.alignment_trainers import Run
from pipelines.adapters.tracking import Tracker
from pipelines.artifacts import Artifact, State
from pipelines.core.judging.intervals import paired_bootstrap
from pipelines.core.judging.kl_axis import Task
from pipelines.core.learning import decoding, preferences, rewards, rollouts
from pipelines.core.learning.compute import PASSES
from pipelines.core.learning.rollouts import Measured, Prompt
from pipelines.errors import ParamsError
from pipelines.params import Params

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

METHODS = ("ppo", "dpo", "grpo", "rloo", "best-of-n")
RATES = {"dpo": 1e-4, "grpo": 3e-4, "rloo": 3e-4}
"""Constant learning rates."""
DPO_BETA = 0.1
"""That of its paper."""
BATCH_SIZE = {"dpo": 16, "grpo": 64, "rloo": 64}
"""Pairs, or responses: as many as a rollout of stage ppo has by default."""


@dataclass(frozen=True, kw_only=True)
class MethodReport:
    """One method beside the instruction model, on prompts of the split test, one response each, same seeds."""

    method: str
    reward_before: float
    reward_after: float
    held_out_reward_before: float
    """By a reward model that was trained on other pairs."""
    held_out_reward_after: float
    gold_before: float | None
    """None where the prompts carry no gold facts."""
    gold_after: float | None
    gold_gain: float | None
    gold_gain_low: float | None
    """Ends of the paired 95 % interval; all responses to a prompt are drawn together."""
    gold_gain_high: float | None
    kl: float
    """Mean divergence of a response from the instruction model, nats (estimator k3); for best-of-n the upper bound
    log n - (n - 1) / n (Beirami et al. 2024, arXiv:2401.01879)."""
    length_before: float
    length_after: float
    """Tokens, the end token included."""
    finished_before: float
    finished_after: float
    flops: float
    """Spent on the alignment; for best-of-n on answering the test prompts."""
    steps: int
    candidates: int
    """n of best-of-n, else 1."""
    num_prompts: int


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all methods share."""

    params: Params
    tokenizer: "PreTrainedTokenizerBase"
    reference: "PreTrainedModel"
    judge: rollouts.Score
    train: Sequence[Prompt]
    task: Task
    """What is measured on."""

    def measure(self, policy: "PreTrainedModel") -> Measured:
        """One response to each prompt of the task."""
        return self.measured(policy, self.task.prompts)

    def measured(self, policy: "PreTrainedModel", asked: Sequence[Prompt]) -> Measured:
        """One response to each of these prompts."""
        settings = self.params.ppo
        return rollouts.measure(
            policy,
            reference=self.reference,
            tokenizer=self.tokenizer,
            prompts=asked,
            score=self.judge,
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            seed=self.params.seed,
        )


def main(params: Params, tracker: Tracker, *, method: str, flops: float) -> MethodReport:
    """Align, save the policy, measure."""
    target = device.prepare(params.seed, params.threads)
    tokenizer = models.load_tokenizer(Artifact.SFT.path)
    reference = models.load_causal(Artifact.SFT.path).to(target)
    reward_model = models.load_reward(Artifact.REWARD.path).to(target)
    room = {"context": decoding.longest(reference), "new_tokens": params.ppo.max_new_tokens}
    train, test = (prompts.load(split, tokenizer, tasks=params.feedback.tasks, **room) for split in ("train", "test"))
    unseen = prompts.unseen(test, train)
    setting = Setting(
        params=params,
        tokenizer=tokenizer,
        reference=reference,
        judge=partial(rewards.score, reward_model, models.load_tokenizer(Artifact.REWARD.path)),
        train=train.prompts,
        task=prompts.drawn(unseen, min(params.ppo.evaluation_prompts, len(unseen.prompts)), params.seed),
    )
    before = setting.measure(reference)
    if method == "best-of-n":
        after, spent, count = _best_of_n(setting, before, flops, tracker)
        return _report(method, setting, before, after, flops=spent, steps=0, candidates=count)
    steps = 0
    if method != "ppo":
        policy = models.load_causal(Artifact.SFT.path).to(target)
        budget = _trained(method, policy, setting, flops, tracker)
        flops, steps = budget.spent, budget.steps
        tracker.effort(flops=flops, tokens=budget.tokens, objective=method, customisation="all weights")
        models.save(policy, tokenizer, Artifact.POLICY.path)
    after = setting.measure(models.load_causal(Artifact.POLICY.path).to(target))
    return _report(method, setting, before, after, flops=flops, steps=steps, candidates=1)


def _trained(
    method: str, policy: "PreTrainedModel", setting: Setting, flops: float, tracker: Tracker
) -> alignment_trainers.Budget:
    params, settings = setting.params, setting.params.ppo
    with tracker.progress(f"aligning by {method}", None, "steps") as bar:
        run = Run(
            learning_rate=RATES[method],
            batch_size=BATCH_SIZE[method],
            seed=params.seed,
            beta=DPO_BETA if method == "dpo" else settings.kl_coefficient,
            stop=stage.preempted,
            on_step=lambda _step: bar.advance(1),
        )
        if method == "dpo":
            return alignment_trainers.dpo(policy, setting.reference, setting.tokenizer, _pairs(params), run, flops)
        return alignment_trainers.policy_gradient(
            "grpo" if method == "grpo" else "rloo",
            policy,
            setting.tokenizer,
            [prompt.text for prompt in setting.train],
            _whitened(setting),
            run,
            flops,
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
        )


def _pairs(params: Params) -> list[dict[str, Any]]:
    """Those that the reward model has learnt from: not those of the held-out one, which judges what comes out."""
    share = params.reward_modeling.held_out_model_share
    return [
        pair
        for pair in datasets.records(Artifact.PREFERENCES.path, "preferences", "train")
        if not preferences.for_held_out_model(pair["prompt"], seed=params.seed, share=share)
    ]


def _whitened(setting: Setting) -> alignment_trainers.Reward:
    """The reward in units of its spread over the instruction model's responses, less PPO's penalty: as in stage ppo."""
    draw = random.Random(f"whitening:{setting.params.seed}")
    some = draw.sample(list(setting.train), min(setting.params.ppo.prompts_per_iteration, len(setting.train)))
    first = setting.measured(setting.reference, some).rewards
    mean, spread, penalty = fmean(first), pstdev(first) or 1.0, setting.params.ppo.unfinished_penalty

    def reward(asked: Sequence[str], responses: Sequence[str], finished: Sequence[bool]) -> list[float]:
        raw = setting.judge(asked, responses)
        return [(value - mean) / spread - penalty * (not done) for value, done in zip(raw, finished, strict=True)]

    return reward


def _best_of_n(setting: Setting, before: Measured, flops: float, tracker: Tracker) -> tuple[Measured, float, int]:
    """The best by the reward model of as many responses to each prompt as the budget gives, at least two."""
    passes, parameters = PASSES["best-of-n"], setting.reference.num_parameters()
    asked = sum(len(prompt.ids) for prompt in setting.task.prompts)
    one = passes.flops(parameters, asked + sum(before.lengths))
    count = max(2, math.floor(flops / one))
    settings, spent = setting.params.ppo, 0
    best: list[tuple[float, decoding.Response]] = []
    with tracker.progress("sampling", count, "responses a prompt") as bar:
        for number in range(count):
            said = decoding.respond(
                setting.reference,
                setting.tokenizer,
                [prompt.ids for prompt in setting.task.prompts],
                max_new_tokens=settings.max_new_tokens,
                temperature=settings.temperature,
                seed=setting.params.seed + number,
            )
            scored = list(
                zip(setting.judge([p.text for p in setting.task.prompts], [r.text for r in said]), said, strict=True)
            )
            spent += asked + sum(len(response.tokens) for response in said)
            best = [max(pair, key=lambda each: each[0]) for pair in zip(best or scored, scored, strict=True)]
            bar.advance(1)
    after = Measured(
        texts=[response.text for _, response in best],
        rewards=[value for value, _ in best],
        lengths=[len(response.tokens) for _, response in best],
        finished=[response.finished for _, response in best],
        kl=[math.log(count) - (count - 1) / count] * len(best),
    )
    return after, passes.flops(parameters, spent), count


def _report(
    method: str,
    setting: Setting,
    before: Measured,
    after: Measured,
    *,
    flops: float,
    steps: int,
    candidates: int,
) -> MethodReport:
    texts = [prompt.text for prompt in setting.task.prompts]
    gold_before, gold_after = (setting.task.gold_scores(measured.texts) for measured in (before, after))
    gain = None
    if gold_before and gold_after:
        gain = paired_bootstrap(gold_before, gold_after, seed=setting.params.seed, clusters=texts)
    other = models.load_reward(Artifact.HELD_OUT_REWARD.path).to(setting.reference.device)
    reads = models.load_tokenizer(Artifact.HELD_OUT_REWARD.path)
    held_out = [fmean(rewards.score(other, reads, texts, each.texts)) for each in (before, after)]
    return MethodReport(
        method=method,
        reward_before=fmean(before.rewards),
        reward_after=fmean(after.rewards),
        held_out_reward_before=held_out[0],
        held_out_reward_after=held_out[1],
        gold_before=fmean(gold_before) if gold_before else None,
        gold_after=fmean(gold_after) if gold_after else None,
        gold_gain=gain.mean if gain else None,
        gold_gain_low=gain.low if gain else None,
        gold_gain_high=gain.high if gain else None,
        kl=fmean(after.kl),
        length_before=fmean(before.lengths),
        length_after=fmean(after.lengths),
        finished_before=fmean(before.finished),
        finished_after=fmean(after.finished),
        flops=flops,
        steps=steps,
        candidates=candidates,
        num_prompts=len(texts),
    )


def _arguments(given: Sequence[str]) -> dict[str, Any]:
    if len(given) != 2 or given[0] not in METHODS:
        raise ParamsError(f"usage: python -m pipelines.alignment_comparison {{{','.join(METHODS)}}} FLOPS")
    return {"method": given[0], "flops": float(given[1])}


if __name__ == "__main__":
    stage.run("alignment_comparison", partial(main, **_arguments(sys.argv[1:])), report=State.MEASURED)

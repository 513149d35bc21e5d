"""The report of PPO: the chosen policy beside the instruction model it began as."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

from pipelines.core.judging import kl_axis
from pipelines.core.judging.intervals import Interval, paired_bootstrap
from pipelines.core.judging.kl_axis import Examined, Task
from pipelines.core.judging.overoptimization import Law, Point
from pipelines.core.learning.limits import Stop
from pipelines.core.learning.policy_optimisation import Step


@dataclass(frozen=True, kw_only=True)
class PpoReport:
    """The chosen policy beside the instruction model, on prompts of the validation set, with the same seeds.

    It was chosen by its rewards on these very prompts, so that their gains are a little too good; stage evaluation
    measures it on others. The gold score had no part in the choice.
    """

    reward_before: float
    reward_after: float
    reward_gain_low: float
    """Ends of the paired 95 % interval; all samples for a prompt are drawn together."""
    reward_gain_high: float
    held_out_reward_before: float
    """By the reward model that never taught the policy."""
    held_out_reward_after: float
    held_out_reward_gain_low: float
    held_out_reward_gain_high: float
    gold_before: float | None
    """None where the prompts carry no gold facts."""
    gold_after: float | None
    gold_gain: float | None
    gold_gain_low: float | None
    gold_gain_high: float | None
    kl: float
    """Mean KL divergence of a response from the instruction model, nats."""
    mean_length_before: float
    """Tokens, the end token included."""
    mean_length_after: float
    finished_before: float
    """Share of the responses with an end token."""
    finished_after: float
    distinct_before: float
    """Share of the responses that differ from all others: a collapsed policy says the same to everyone."""
    distinct_after: float
    iterations: int
    chosen_updates: int
    """Iterations that the chosen policy has learnt from; fewer than were done where the rest went past the turn."""
    axis: list[Point]
    """The policies along the KL axis of which it was chosen, the instruction model first."""
    laws: dict[str, Law | None]
    """Gain as a function of the divergence, by reward; None with fewer than three policies."""
    spreads: dict[str, float]
    """Deviation of each reward over the instruction model's responses."""
    share_of_best_gold: float | None
    """Gold score of the chosen policy over the best one on the axis: how good the choice was, seen afterwards."""
    stopped_early: bool
    """A limit was passed, and the last policy within it was kept."""
    stopped: Stop | None
    """Which."""
    num_prompts: int
    num_evaluation_prompts: int
    num_too_long: int
    """Prompts to train on or to measure by that leave no room for `ppo.max_new_tokens`; left out."""
    unseen_prompt_share: float
    """Share of the evaluation prompts that were not trained on."""
    num_tokens: int
    new_value_head: str | None
    """Why the value model began as the instruction model with a new head; None: it began as the reward model."""


def report(
    axis: Sequence[Examined],
    chosen: Examined,
    train: Task,
    held_out: Task,
    steps: Sequence[Step],
    *,
    stopped: Stop | None,
    new_head: str | None,
    num_too_long: int,
    seed: int,
) -> PpoReport:
    """Make the report.

    Args:
        axis: The policies of which one was chosen, the instruction model first.
        chosen: That one.
        train: What was trained on.
        held_out: What the policies were measured on.
        steps: One an iteration.
        stopped: The limit that was passed; None: the training went to its end.
        new_head: As in the report.
        num_too_long: As in the report.
        seed: Of the intervals.
    """
    start, before, after = axis[0], axis[0].said, chosen.said
    clusters = [prompt.text for prompt in held_out.prompts]
    trained_on = {prompt.text for prompt in train.prompts}
    gain = partial(paired_bootstrap, seed=seed, clusters=clusters)
    reward = gain(before.rewards, after.rewards)
    held_out_reward = gain(start.held_out_rewards, chosen.held_out_rewards)
    gold: Interval | None = gain(start.gold, chosen.gold) if start.gold and chosen.gold else None
    golds = [each.point.gold for each in axis if each.point.gold is not None]
    return PpoReport(
        reward_before=fmean(before.rewards),
        reward_after=fmean(after.rewards),
        reward_gain_low=reward.low,
        reward_gain_high=reward.high,
        held_out_reward_before=start.point.held_out_reward,
        held_out_reward_after=chosen.point.held_out_reward,
        held_out_reward_gain_low=held_out_reward.low,
        held_out_reward_gain_high=held_out_reward.high,
        gold_before=start.point.gold,
        gold_after=chosen.point.gold,
        gold_gain=gold.mean if gold else None,
        gold_gain_low=gold.low if gold else None,
        gold_gain_high=gold.high if gold else None,
        kl=chosen.point.kl,
        mean_length_before=start.point.length,
        mean_length_after=chosen.point.length,
        finished_before=start.point.finished,
        finished_after=chosen.point.finished,
        distinct_before=len(set(before.texts)) / len(before.texts),
        distinct_after=len(set(after.texts)) / len(after.texts),
        iterations=len(steps),
        chosen_updates=chosen.updates,
        axis=[each.point for each in axis],
        laws=kl_axis.laws(axis),
        spreads=start.spreads,
        share_of_best_gold=chosen.point.gold / max(golds) if chosen.point.gold is not None and max(golds) else None,
        stopped_early=stopped is not None,
        stopped=stopped,
        num_prompts=len(train.prompts),
        num_evaluation_prompts=len(set(clusters)),
        num_too_long=num_too_long,
        unseen_prompt_share=fmean(text not in trained_on for text in clusters),
        num_tokens=sum(step.tokens for step in steps),
        new_value_head=new_head,
    )

"""Policies on the KL axis: each measured on the same held-out prompts, with the same seeds.

Two rewards are taken of each response: the one that the policy is optimised for, and the same with a reward model
that has learnt from other pairs and never taught the policy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

from pipelines.core.judging import overoptimization
from pipelines.core.judging.overoptimization import Point
from pipelines.core.learning import rollouts
from pipelines.core.learning.rollouts import Measured, Prompt, Score
from pipelines.core.world.gold import gold_score

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class Task:
    """Prompts, and the gold facts of each where there are any."""

    prompts: list[Prompt]
    gold: list[Mapping[str, Any] | None]
    num_too_long: int = 0
    """Further prompts, which leave no room for an answer."""

    def rows(self, rows: Sequence[int]) -> "Task":
        """Some of the prompts."""
        return Task(prompts=[self.prompts[row] for row in rows], gold=[self.gold[row] for row in rows])

    def gold_scores(self, texts: Sequence[str]) -> list[float] | None:
        """Gold scores of one response to each prompt; None unless every prompt carries gold facts."""
        if any(facts is None for facts in self.gold):
            return None
        return [
            gold_score(facts, text).total
            for facts, text in zip(self.gold, texts, strict=True)
            if facts is not None  # for the type checker
        ]


@dataclass(frozen=True, kw_only=True)
class Examined:
    """A policy on the held-out prompts; lists have one entry a prompt."""

    updates: int
    """Iterations that it has learnt from: 0 is the instruction model."""
    said: Measured
    held_out_rewards: list[float]
    gold: list[float] | None

    @cached_property
    def point(self) -> Point:
        """The means."""
        return Point(
            updates=self.updates,
            kl=fmean(self.said.kl),
            reward=fmean(self.said.rewards),
            held_out_reward=fmean(self.held_out_rewards),
            gold=fmean(self.gold) if self.gold else None,
            length=fmean(self.said.lengths),
            finished=fmean(self.said.finished),
        )

    @property
    def spreads(self) -> dict[str, float]:
        """Deviation of each reward over the responses."""
        rewards = {"reward": self.said.rewards, "held_out_reward": self.held_out_rewards, "gold": self.gold}
        return {name: pstdev(values) for name, values in rewards.items() if values}

    def values(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @staticmethod
    def of(values: Mapping[str, Any]) -> "Examined":
        """Out of what `values` gave."""
        return Examined(**{**values, "said": Measured(**values["said"])})


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """What a policy is measured on and by."""

    task: Task
    reference: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    reward: Score
    held_out_reward: Score
    max_new_tokens: int
    temperature: float
    seed: int

    def examine(self, policy: "PreTrainedModel", updates: int) -> Examined:
        """Sample one response to each prompt and look at them."""
        said = rollouts.measure(
            policy,
            self.reference,
            self.tokenizer,
            self.task.prompts,
            self.reward,
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            seed=self.seed,
        )
        return Examined(
            updates=updates,
            said=said,
            held_out_rewards=list(self.held_out_reward([prompt.text for prompt in self.task.prompts], said.texts)),
            gold=self.task.gold_scores(said.texts),
        )


def chosen(axis: Sequence[Examined], *, kl_price: float, max_length_change: float | None) -> Examined:
    """The policy before the turn, as `overoptimization.before_the_turn` has it; the instruction model comes first."""
    start = axis[0]
    place = overoptimization.before_the_turn(
        [each.point for each in axis],
        spread=start.spreads["reward"] or 1.0,
        held_out_spread=start.spreads["held_out_reward"] or 1.0,
        kl_price=kl_price,
        max_length_change=max_length_change,
    )
    return axis[place]


def laws(axis: Sequence[Examined]) -> dict[str, overoptimization.Law | None]:
    """The law of each reward's gain over the instruction model, where it can be fitted."""
    points = [each.point for each in axis]
    kls = [point.kl for point in points]
    found = {
        name: overoptimization.law(kls, [getattr(point, name) - getattr(points[0], name) for point in points])
        for name in ("reward", "held_out_reward")
    }
    gold = [point.gold for point in points if point.gold is not None]
    if len(gold) == len(points):
        found["gold"] = overoptimization.law(kls, [score - gold[0] for score in gold])
    return found

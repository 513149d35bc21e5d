"""Is a reward model right, sure when it is right, and more than a counter of words?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any

import numpy as np

from pipelines.core.judging.intervals import cluster_bootstrap

CHANCE = 0.5


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One preference pair with what the reward model thinks of it."""

    prompt: str
    chosen_reward: float
    rejected_reward: float
    chosen_tokens: int
    rejected_tokens: int
    gold_margin: float | None = None
    """Gold score of the chosen response less that of the rejected one."""
    source: str = "unknown"
    annotator: str | None = None
    task: str | None = None

    @property
    def margin(self) -> float:
        """Reward of the chosen response less that of the rejected one."""
        return self.chosen_reward - self.rejected_reward

    @property
    def correct(self) -> float:
        """1 in the annotator's order, 0.5 undecided, 0 in the other."""
        return _share(self.margin)

    @property
    def correct_by_length(self) -> float:
        """The same for whoever prefers the longer response."""
        return _share(self.chosen_tokens - self.rejected_tokens)

    @property
    def correct_by_gold(self) -> float:
        """The same against the gold order; 0.5 where the gold scorer sees no difference."""
        return _share(self.margin * (self.gold_margin or 0.0))

    def similar_in_length(self, ratio: float) -> bool:
        """Whether the longer response has at most `ratio` times the tokens of the shorter."""
        short, long = sorted((self.chosen_tokens, self.rejected_tokens))
        return long <= ratio * short


def _share(margin: float) -> float:
    return CHANCE + CHANCE * ((margin > 0) - (margin < 0))


def accuracy(pairs: Sequence[Judged], where: Callable[[Judged], bool] = lambda _pair: True) -> float | None:
    """Share in order among the pairs `where` it holds; None without any."""
    chosen = [pair.correct for pair in pairs if where(pair)]
    return fmean(chosen) if chosen else None


@dataclass(frozen=True, kw_only=True)
class Part:
    """Accuracy on some of the held-out pairs."""

    accuracy: float
    low: float | None
    """Ends of the 95 % interval, the pairs of a prompt drawn together; None with a single prompt."""
    high: float | None
    num_pairs: int
    num_prompts: int


def parts(pairs: Sequence[Judged], key: Callable[[Judged], str | None], *, seed: int) -> dict[str, Part]:
    """Accuracy on the pairs of each `key`, sorted by it; pairs whose key is None are in none."""
    groups: dict[str, list[Judged]] = {}
    for pair in pairs:
        if (name := key(pair)) is not None:
            groups.setdefault(name, []).append(pair)
    return {name: _part(groups[name], seed) for name in sorted(groups)}


def _part(pairs: Sequence[Judged], seed: int) -> Part:
    prompts = [pair.prompt for pair in pairs]
    right = [pair.correct for pair in pairs]
    interval = cluster_bootstrap(right, prompts, seed=seed) if len(set(prompts)) > 1 else None
    return Part(
        accuracy=fmean(right),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        num_pairs=len(pairs),
        num_prompts=len(set(prompts)),
    )


QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How some rewards are distributed."""

    mean: float
    deviation: float
    """Standard deviation of the population."""
    quantiles: list[float]
    """At 0.05, 0.25, 0.5, 0.75 and 0.95, linear between neighbours."""
    number: int


def spread(values: Sequence[float]) -> Spread:
    """The distribution of at least one value."""
    return Spread(
        mean=fmean(values),
        deviation=pstdev(values),
        quantiles=np.quantile(values, QUANTILES).tolist(),
        number=len(values),
    )


@dataclass(frozen=True, kw_only=True)
class TaskRewards:
    """Rewards of the responses to the prompts of one task; a response counts once for each pair that it is in."""

    chosen: Spread
    rejected: Spread


def rewards_by_task(pairs: Sequence[Judged]) -> dict[str, TaskRewards]:
    """Rewards of chosen and rejected responses for each task, sorted; pairs without a task are under `unknown`."""
    groups: dict[str, list[Judged]] = {}
    for pair in pairs:
        groups.setdefault(pair.task or "unknown", []).append(pair)
    return {
        task: TaskRewards(
            chosen=spread([pair.chosen_reward for pair in group]),
            rejected=spread([pair.rejected_reward for pair in group]),
        )
        for task, group in sorted(groups.items())
    }


def recovered_share(accuracy: float, ceiling: float | None) -> float | None:
    """How much of the way from chance to the best reachable accuracy is covered; None without such a way."""
    return None if ceiling is None or ceiling <= CHANCE else (accuracy - CHANCE) / (ceiling - CHANCE)


def gold_margin(record: Mapping[str, Any]) -> float | None:
    """Of a preference record, where it carries gold scores."""
    if record.get("gold_chosen") is None:
        return None
    return float(record["gold_chosen"] - record["gold_rejected"])


def gold_accuracy(pairs: Sequence[Judged]) -> float | None:
    """Share in the gold order among the pairs where the gold scorer sees a difference."""
    known = [pair.correct_by_gold for pair in pairs if pair.gold_margin]
    return fmean(known) if known else None


def ceiling(pairs: Sequence[Judged]) -> float | None:
    """How often the gold order agrees with the annotators (equal gold: half); None without gold."""
    known = [_share(pair.gold_margin) for pair in pairs if pair.gold_margin is not None]
    return fmean(known) if known else None

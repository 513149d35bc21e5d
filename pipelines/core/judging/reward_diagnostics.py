"""Is a reward model right, sure when it is right, and more than a counter of words?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

CHANCE = 0.5


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One preference pair with what the reward model thinks of it."""

    prompt: str
    margin: float
    """Reward of the chosen response less that of the rejected one."""
    chosen_tokens: int
    rejected_tokens: int
    gold_margin: float | None = None
    """Gold score of the chosen response less that of the rejected one."""

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

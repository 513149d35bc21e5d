"""Rankings out of comparisons by a judge, each asked in both orders.

A judge who says A whatever it is shown says nothing by that: the mean of both orders is then even (Bai et al. 2022,
arXiv:2212.08073, section 4.1, compare the probabilities of the letters; Zheng et al. 2023, arXiv:2306.05685, show how
strong the preference for a position is).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import fmean

from pipelines.core.learning.constitution import Case, Judge, Principle, Question, chosen
from pipelines.core.learning.preferences import Rank

_DIGITS = 6
"""Chances that differ less are equal: sums of the same halves in another order must tie."""


@dataclass(kw_only=True)
class Tally:
    """What a judge said, in both orders."""

    num_asked: int = 0
    """Comparisons, each order counted."""
    num_unusable: int = 0
    """Of them without an answer that can be used."""
    firsts: list[float] = field(default_factory=list)
    """Chances given to whichever response stood first."""
    consistent: list[bool] = field(default_factory=list)
    """For each pair answered in both orders: whether one response was preferred in both, wherever it stood."""

    def both(self, judge: Judge, questions: Sequence[Question]) -> list[float | None]:
        """Ask each question in both orders; the mean chance that its first response is better, None without both."""
        answers = judge([one for question in questions for one in (question, question.turned())])
        means: list[float | None] = []
        for forth, back in zip(answers[::2], answers[1::2], strict=True):
            self.num_asked += 2
            self.num_unusable += (forth is None) + (back is None)
            self.firsts += [chance for chance in (forth, back) if chance is not None]
            if forth is None or back is None:
                means.append(None)
                continue
            self.consistent.append((forth - 0.5) * (back - 0.5) < 0)
            means.append((forth + 1 - back) / 2)
        return means


def judged(
    cases: Sequence[Case], principles: Sequence[Principle], judge: Judge, *, count: int, seed: int, tally: Tally
) -> list[tuple[Rank, ...] | None]:
    """Ranks of the responses of each case, by all pairs, both orders and `count` principles; None: no usable answer."""
    keys, questions = [], []
    for number, case in enumerate(cases):
        for principle in chosen(case.id, principles, count=count, seed=seed):
            for first, second in combinations(range(len(case.responses)), 2):
                keys.append((number, first, second))
                questions.append(
                    Question(
                        prompt=case.prompt,
                        first=case.responses[first],
                        second=case.responses[second],
                        principle=principle,
                    )
                )
    found: list[dict[tuple[int, int], list[float]]] = [{} for _ in cases]
    for (number, first, second), chance in zip(keys, tally.both(judge, questions), strict=True):
        if chance is not None:
            found[number].setdefault((first, second), []).append(chance)
    return [
        ranks({pair: fmean(chances) for pair, chances in by_pair.items()}, len(case.responses))
        for case, by_pair in zip(cases, found, strict=True)
    ]


def ranks(chances: Mapping[tuple[int, int], float], count: int) -> tuple[Rank, ...] | None:
    """Ranks of `count` responses by their mean chance against the others; equal means tie (1, 1, 3).

    Args:
        chances: (i, j) -> chance that response i is better than response j, each pair once; pairs may lack.
        count: Responses.

    Returns:
        None when some response was compared with no other. With chances of the Bradley-Terry model and no pair
        missing the order is that of its rewards, for each term grows with the response's own reward.
    """
    against: list[list[float]] = [[] for _ in range(count)]
    for (first, second), chance in chances.items():
        against[first].append(chance)
        against[second].append(1 - chance)
    if not all(against):
        return None
    means = [round(fmean(row), _DIGITS) for row in against]
    return tuple(1 + sum(other > mean for other in means) for mean in means)

"""AI feedback by a constitution: critiques, revisions and comparisons by written principles.

Bai et al. 2022, arXiv:2212.08073. A response is criticised by a principle and revised after the critique (section 3.1);
a judge is asked which of two responses follows a principle better, by the letters of two options (section 4.1). Each
pair is asked in both orders, and the mean of both is what counts: a judge who always says A says nothing by that.
"""

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.core.learning.preferences import Ranking
from pipelines.core.text.prompts import Message
from pipelines.core.world.gold import gold_score

LETTERS = ("A", "B")
_LETTER = re.compile(r"\(?([AB])\)?\.?")


@dataclass(frozen=True, kw_only=True)
class Principle:
    """One thing to go by, as people wrote it."""

    name: str
    critique: str
    """Asks what is wrong with a response."""
    revision: str
    """Asks for a better one."""
    comparison: str
    """Asks which of two is better."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Different responses to one prompt."""

    id: str
    prompt: str
    """All that the user said."""
    responses: tuple[str, ...]
    task: str | None = None
    facts: Mapping[str, Any] | None = None
    """What the gold scorer goes by, where there is one."""

    @property
    def gold(self) -> tuple[float, ...] | None:
        """What the gold scorer thinks of each response."""
        return None if self.facts is None else tuple(gold_score(self.facts, text).total for text in self.responses)


@dataclass(frozen=True, kw_only=True)
class Question:
    """Which of two responses to a prompt follows a principle better?"""

    prompt: str
    first: str
    second: str
    principle: Principle

    def turned(self) -> "Question":
        """The same with the responses in the other order."""
        return Question(prompt=self.prompt, first=self.second, second=self.first, principle=self.principle)


Judge = Callable[[Sequence[Question]], list[float | None]]
"""The chance that the first response of each question is the better one; None: no usable answer."""
Writer = Callable[[Sequence[list[Message]]], list[str | None]]
"""The next turn of each conversation; None: no usable answer."""


def drawn(case: str, share: float, overlap: float, seed: int) -> tuple[bool, bool]:
    """Whether the judge ranks a case, and whether annotators do; `overlap` of the judge's share both rank."""
    draw = random.Random(f"constitution:{seed}:{case}")
    by_judge = draw.random() < share
    return by_judge, not by_judge or draw.random() < overlap


def chosen(case: str, principles: Sequence[Principle], *, count: int, seed: int) -> list[Principle]:
    """The principles that a case is judged by: drawn without repetition, the same for the same id."""
    return random.Random(f"principles:{seed}:{case}").sample(list(principles), min(count, len(principles)))


def critique_request(prompt: str, response: str, principle: Principle) -> list[Message]:
    """A conversation whose next turn is a critique of the response."""
    return [
        {"role": "user", "content": prompt},
        {"role": "assistant", "content": response},
        {"role": "user", "content": principle.critique},
    ]


def revision_request(prompt: str, response: str, principle: Principle, critique: str) -> list[Message]:
    """A conversation whose next turn is a revision of the response."""
    return [
        *critique_request(prompt, response, principle),
        {"role": "assistant", "content": critique},
        {"role": "user", "content": principle.revision},
    ]


def comparison_request(question: Question) -> list[Message]:
    """A conversation whose next turn is a letter: A for the first response, B for the second."""
    text = (
        f"Consider what somebody asked, and two answers.\n\nAsked: {question.prompt}\n\n{question.principle.comparison}"
        f"\n\n(A) {question.first}\n\n(B) {question.second}\n\nSay A or B, and nothing else."
    )
    return [{"role": "user", "content": text}]


def chance_from(answer: str | None) -> float | None:
    """1 for the letter A, 0 for B; None for anything else, a letter with reasons included: reasons may say "not A"."""
    found = _LETTER.fullmatch((answer or "").strip())
    return None if found is None else float(found[1] == "A")


def cases_of_people(rankings: Iterable[Ranking], *, besides: Iterable[Case], share: float, seed: int) -> list[Case]:
    """A share of what people ranked, drawn by hash; the same responses once, however many ranked them in what order.

    Those that `besides` holds are left out.
    """
    known = {_responses(case) for case in besides}
    found = {_responses(ranking): ranking for ranking in rankings if ranking.kind == "human"}
    return [
        Case(id=ranking.id, prompt=ranking.prompt, responses=ranking.responses)
        for responses, ranking in found.items()
        if responses not in known
        and len(set(ranking.responses)) == len(ranking.responses)
        and random.Random(f"overlap:{seed}:{ranking.prompt}").random() < share
    ]


def _responses(ranked: Ranking | Case) -> tuple[str, frozenset[str]]:
    return ranked.prompt, frozenset(ranked.responses)


def num_requests(cases: Sequence[Case], revise: Sequence[Case], count: int) -> tuple[int, int]:
    """The most comparisons, each order counted, to rank `cases` and revise `revise`, and the most texts to write."""
    pairs = sum(len(case.responses) * (len(case.responses) - 1) // 2 for case in cases)
    return 2 * count * (pairs + len(revise)), 2 * count * len(revise)

"""Responses that a writer criticises and revises by a constitution (Bai et al. 2022, arXiv:2212.08073, section 3.1)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from pipelines.core.learning.comparisons import Tally
from pipelines.core.learning.constitution import (
    Case,
    Judge,
    Principle,
    Question,
    Writer,
    chosen,
    critique_request,
    revision_request,
)


@dataclass(frozen=True, kw_only=True)
class Revision:
    """One response, criticised and revised by one principle after the other."""

    id: str
    """Of its case."""
    prompt: str
    task: str | None
    response: str
    revision: str
    principles: tuple[str, ...] = ()
    critiques: tuple[str, ...] = ()
    chance: float | None = None
    """That the judge prefers the revision; None: not asked, as it is the response again, or no usable answer."""

    @property
    def kept(self) -> bool:
        """Whether it is good enough to learn from: the judge prefers it to what it revises."""
        return self.chance is not None and self.chance > 0.5


def revised(
    cases: Sequence[Case],
    principles: Sequence[Principle],
    writer: Writer,
    judge: Judge,
    *,
    count: int,
    seed: int,
    tally: Tally,
) -> list[Revision]:
    """Criticise and revise the first response of each case by `count` principles in turn; the judge compares.

    A case of which the writer leaves a critique or a revision out is left out.
    """
    current = {case.id: _beginning(case) for case in cases}
    drawn = {case.id: chosen(case.id, principles, count=count, seed=seed) for case in cases}
    for turn in range(min(count, len(principles))):
        open_now = [(one, drawn[one.id][turn]) for one in current.values()]
        current = {revision.id: revision for revision in _turn(open_now, writer)}
    changed = [one for one in current.values() if one.revision != one.response]
    chances = _preferred(changed, drawn, judge, tally)
    return [replace(one, chance=chances.get(one.id)) for one in current.values()]


def _beginning(case: Case) -> Revision:
    response = case.responses[0]
    return Revision(id=case.id, prompt=case.prompt, task=case.task, response=response, revision=response)


def _turn(revisions: Sequence[tuple[Revision, Principle]], writer: Writer) -> Iterator[Revision]:
    critiques = writer([critique_request(one.prompt, one.revision, principle) for one, principle in revisions])
    criticised = [(*pair, text) for pair, text in zip(revisions, critiques, strict=True) if text]
    texts = writer([revision_request(one.prompt, one.revision, principle, text) for one, principle, text in criticised])
    for (one, principle, critique), text in zip(criticised, texts, strict=True):
        if text:
            yield replace(
                one,
                principles=(*one.principles, principle.name),
                critiques=(*one.critiques, critique),
                revision=text,
            )


def _preferred(
    revisions: Iterable[Revision], drawn: Mapping[str, Sequence[Principle]], judge: Judge, tally: Tally
) -> dict[str, float]:
    asked = [(one, principle) for one in revisions for principle in drawn[one.id]]
    questions = [
        Question(prompt=one.prompt, first=one.revision, second=one.response, principle=principle)
        for one, principle in asked
    ]
    chances: dict[str, list[float]] = {}
    for (one, _), chance in zip(asked, tally.both(judge, questions), strict=True):
        if chance is not None:
            chances.setdefault(one.id, []).append(chance)
    return {name: fmean(found) for name, found in chances.items()}


def instruction(revision: Revision) -> dict[str, str | None]:
    """A revision as a record of the instruction contract."""
    return {
        "id": f"{revision.id}-revision",
        "task": revision.task,
        "prompt": revision.prompt,
        "completion": revision.revision,
        "source": "constitution",
    }

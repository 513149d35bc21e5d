"""What feedback by a constitution is worth: its consistency, and its agreement with other labels."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from pipelines.core.judging.agreement import PairwiseAgreement, pairwise_agreement
from pipelines.core.learning.comparisons import Tally
from pipelines.core.learning.constitution import Case
from pipelines.core.learning.preferences import Ranking
from pipelines.core.learning.revisions import Revision
from pipelines.core.world.gold import gold_score


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a judge and a writer said."""

    cases: list[Case] = field(default_factory=list)
    """What the judge was to rank."""
    rankings: list[Ranking] = field(default_factory=list)
    revisions: list[Revision] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)


@dataclass(frozen=True, kw_only=True)
class ConstitutionReport:
    """What a judge and a writer made of the principles."""

    num_rankings: int
    num_unranked: int
    """Prompts of which some response could not be compared with any other; left out."""
    num_comparisons: int
    """Asked of the judge, each order counted."""
    num_unusable: int
    """Of them without a usable answer: too long for the judge, or another answer than a letter."""
    first_position: float | None
    """Mean chance given to whichever response stands first; 0.5 where the order plays no part."""
    consistent_share: float | None
    """Share of the pairs of which one response is preferred in both orders."""
    agreement: dict[str, PairwiseAgreement]
    """With others who ranked the same responses, by their kind: human or simulated."""
    num_revisions: int
    num_revisions_kept: int
    """Those that the judge prefers to what they revise: data/preferences/revisions.jsonl."""
    gold_of_revised: float | None
    """Mean gold score of the responses whose revision was kept, where there are gold facts."""
    gold_of_revisions: float | None
    """And of the revisions."""


def report(given: Given, others: Sequence[Ranking], *, seed: int) -> ConstitutionReport:
    """Sum up what was given, beside the rankings of all others; `seed` is that of the intervals."""
    kinds = sorted({ranking.kind for ranking in others})
    agreement = {
        kind: pairwise_agreement(given.rankings, [other for other in others if other.kind == kind], seed=seed)
        for kind in kinds
    }
    facts = {case.id: case.facts for case in given.cases}
    kept = [revision for revision in given.revisions if revision.kept]
    known = [(one, found) for one in kept if (found := facts[one.id]) is not None]
    tally = given.tally
    return ConstitutionReport(
        num_rankings=len(given.rankings),
        num_unranked=len(given.cases) - len(given.rankings),
        num_comparisons=tally.num_asked,
        num_unusable=tally.num_unusable,
        first_position=fmean(tally.firsts) if tally.firsts else None,
        consistent_share=fmean(tally.consistent) if tally.consistent else None,
        agreement={kind: found for kind, found in agreement.items() if found.num_prompts},
        num_revisions=len(given.revisions),
        num_revisions_kept=len(kept),
        gold_of_revised=fmean(gold_score(found, one.response).total for one, found in known) if known else None,
        gold_of_revisions=fmean(gold_score(found, one.revision).total for one, found in known) if known else None,
    )

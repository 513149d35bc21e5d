"""Do annotators agree beyond chance?"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations

from pipelines.core.judging.intervals import cluster_bootstrap
from pipelines.core.learning.preferences import Rank, Ranking, preference


def krippendorff_alpha(labels: Iterable[tuple[str, str, float]]) -> float | None:
    """Krippendorff's alpha with the interval metric, which takes any number of coders and missing labels.

    Args:
        labels: (coder, item, value). Items with a single label say nothing about agreement and are left out.

    Returns:
        1: perfect agreement; 0: as by chance; below: systematic disagreement. None when no item has two labels, or
        all labels are the same: there is no chance then to compare with.
        Source: Krippendorff 2004, Content Analysis, chapter 11.
    """
    from nltk.metrics.agreement import AnnotationTask
    from nltk.metrics.distance import interval_distance

    by_item: dict[str, list[tuple[str, str, float]]] = {}
    for label in labels:
        by_item.setdefault(label[1], []).append(label)
    shared = [label for group in by_item.values() if len({coder for coder, _, _ in group}) > 1 for label in group]
    if len({value for _, _, value in shared}) < 2:
        return None
    return float(AnnotationTask(shared, distance=interval_distance).alpha())


def agreement_with_others(labels: Sequence[tuple[str, str, float]]) -> dict[str, float | None]:
    """Krippendorff's alpha of each coder with whoever else labelled the same items; None where nobody did.

    Each label of another coder to an item stands beside the coder's own label as a unit of two, so that what the
    others disagree on among themselves is not held against the coder.
    """
    by_item: dict[str, list[tuple[str, float]]] = {}
    for coder, item, value in labels:
        by_item.setdefault(item, []).append((coder, value))
    met: dict[str, list[tuple[float, float]]] = {coder: [] for coder in sorted({coder for coder, _, _ in labels})}
    for group in by_item.values():
        for coder, value in group:
            met[coder] += [(value, other) for somebody, other in group if somebody != coder]
    return {coder: krippendorff_alpha(_units(pairs)) for coder, pairs in met.items()}


def _units(pairs: Iterable[tuple[float, float]]) -> Iterator[tuple[str, str, float]]:
    for number, (own, other) in enumerate(pairs):
        yield "own", f"{number:09}", own
        yield "other", f"{number:09}", other


@dataclass(frozen=True, kw_only=True)
class PairwiseAgreement:
    """How far one judge agrees with others who ranked the same responses."""

    num_prompts: int
    """Ranked by both."""
    num_pairs: int
    """In them, of which one of the others prefers one response."""
    alpha: float | None
    """Krippendorff's alpha (interval metric) over what both prefer of every two responses."""
    accuracy: float | None
    """Share of the pairs in which the judge prefers the same response; a tie of the judge counts half."""
    accuracy_low: float | None
    accuracy_high: float | None
    """Ends of the 95 % interval, drawn by prompts; None with fewer than two."""


def pairwise_agreement(judge: Iterable[Ranking], others: Iterable[Ranking], *, seed: int) -> PairwiseAgreement:
    """Agreement of one judge's rankings with those of others of the same responses to the same prompts."""
    ours = {_responses(ranking): ranking for ranking in judge}
    met = [(_ordered_as(theirs, own), theirs) for theirs in others if (own := ours.get(_responses(theirs)))]
    hits = [(hit, theirs.prompt) for own, theirs in met for hit in _hits(own.ranks, theirs.ranks)]
    values, prompts = [hit for hit, _ in hits], [prompt for _, prompt in hits]
    interval = cluster_bootstrap(values, prompts, seed=seed) if len(set(prompts)) > 1 else None
    units = [
        (float(preference(*(own.ranks[row] for row in two))), float(preference(*(theirs.ranks[row] for row in two))))
        for own, theirs in met
        for two in permutations(range(len(own.responses)), 2)
    ]
    return PairwiseAgreement(
        num_prompts=len({theirs.prompt for _, theirs in met}),
        num_pairs=len(hits),
        alpha=krippendorff_alpha(_units(units)),
        accuracy=sum(values) / len(values) if values else None,
        accuracy_low=interval.low if interval else None,
        accuracy_high=interval.high if interval else None,
    )


def _responses(ranking: Ranking) -> tuple[str, frozenset[str]]:
    return ranking.prompt, frozenset(ranking.responses)


def _ordered_as(example: Ranking, ranking: Ranking) -> Ranking:
    """Whoever ranked may have seen the same responses in another order."""
    rank = dict(zip(ranking.responses, ranking.ranks, strict=True))
    return replace(ranking, responses=example.responses, ranks=tuple(rank[text] for text in example.responses))


def _hits(own: Sequence[Rank], theirs: Sequence[Rank]) -> Iterator[float]:
    for first, second in combinations(range(len(own)), 2):
        if preferred := preference(theirs[first], theirs[second]):
            yield 0.5 + 0.5 * preferred * preference(own[first], own[second])

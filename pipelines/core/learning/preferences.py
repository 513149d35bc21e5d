"""From rankings and ratings to preference pairs.

A ranking gives a rank to each of K responses to one prompt: 1 is best, equal ranks are a tie, None is 'F' (failed).
The pairs of one prompt stay together on one side of the split, because they share their responses (Ouyang et al.
2022, arXiv:2203.02155, section 3.5).
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby, permutations
from statistics import fmean
from typing import Any, TypeVar

Rank = int | None

FEWEST_PROMPTS = 2
"""On each side: with one prompt there is no interval."""

Record = TypeVar("Record", bound=Mapping[str, Any])


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """One annotator's order of the responses to one prompt."""

    id: str
    prompt: str
    """All that the user said."""
    responses: tuple[str, ...]
    ranks: tuple[Rank, ...]
    annotator: str
    kind: str
    """human, constitution or simulated."""
    task: str | None = None
    gold: tuple[float, ...] | None = None
    """What the gold scorer thinks of each response, where there is one."""
    instructions: str | None = None
    """sha256 of the labelling instructions that a person ranked by, where it is known."""


@dataclass(frozen=True, kw_only=True)
class Rating:
    """One annotator's score of one response: more is better, None is 'F' (failed)."""

    prompt: str
    response: str
    score: float | None
    annotator: str
    instructions: str | None = None


def worse(first: Rank, second: Rank) -> bool:
    """Whether the first of two ranks is below the second; 'F' is below every rank."""
    if first is None or second is None:
        return first is None and second is not None
    return first > second


def pairs(ranking: Ranking) -> list[dict[str, Any]]:
    """Every two responses with different ranks, as a record of the preference contract; a tie gives none.

    Equal texts give none either: nothing can be learnt from preferring a text to itself.
    """
    found = []
    for first, second in combinations(range(len(ranking.responses)), 2):
        if ranking.responses[first] == ranking.responses[second]:
            continue
        if worse(ranking.ranks[first], ranking.ranks[second]):
            found.append(_pair(ranking, second, first))
        elif worse(ranking.ranks[second], ranking.ranks[first]):
            found.append(_pair(ranking, first, second))
    return found


def _pair(ranking: Ranking, chosen: int, rejected: int) -> dict[str, Any]:
    record: dict[str, Any] = {
        "id": f"{ranking.id}:{chosen}>{rejected}",
        "prompt": ranking.prompt,
        "chosen": ranking.responses[chosen],
        "rejected": ranking.responses[rejected],
        "source": ranking.kind,
        "ranking_id": ranking.id,
        "annotator": ranking.annotator,
        "task": ranking.task,
    }
    if ranking.gold is not None:
        record |= {"gold_chosen": ranking.gold[chosen], "gold_rejected": ranking.gold[rejected]}
    return record


def num_ties(ranking: Ranking) -> int:
    """Pairs of equally ranked responses, two failed ones left out."""
    ranked = [rank for rank in ranking.ranks if rank is not None]
    return sum(first == second for first, second in combinations(ranked, 2))


def num_failed(ranking: Ranking) -> int:
    """Responses marked 'F'."""
    return sum(rank is None for rank in ranking.ranks)


def preference(first: Rank, second: Rank) -> int:
    """1 when the first of two ranks is better, -1 when the second is, 0 when neither is."""
    return worse(second, first) - worse(first, second)


def labels(rankings: Iterable[Ranking]) -> Iterator[tuple[str, str, float]]:
    """(annotator, prompt and two responses, preference): what agreement is measured on.

    Every two responses count in both orders, so that it does not matter which is named first. There is one value for
    an annotator and two responses: the mean, where they were ranked more than once. Prompts that only one annotator
    ranked are left out.
    """
    by_prompt: dict[str, list[Ranking]] = {}
    for ranking in rankings:
        by_prompt.setdefault(ranking.prompt, []).append(ranking)
    for prompt, group in by_prompt.items():
        if len({ranking.annotator for ranking in group}) < 2:
            continue
        said: dict[tuple[str, str], list[int]] = {}
        for ranking in group:
            for (one, rank), (other, other_rank) in permutations(zip(ranking.responses, ranking.ranks, strict=True), 2):
                if one != other:
                    item = f"{prompt}\0{one}\0{other}"
                    said.setdefault((ranking.annotator, item), []).append(preference(rank, other_rank))
        for (annotator, item), values in said.items():
            yield annotator, item, fmean(values)


def from_ratings(ratings: Iterable[Rating], kind: str) -> tuple[list[Ranking], int]:
    """Rankings out of one annotator's ratings of one prompt's responses, and how many ratings stood alone."""
    key = lambda rating: (rating.prompt, rating.annotator)  # noqa: E731  named for use twice
    rankings, alone = [], 0
    for (prompt, annotator), group in groupby(sorted(ratings, key=key), key=key):
        rated = list({rating.response: rating for rating in group}.values())
        if len(rated) == 1:
            alone += 1
            continue
        best_first = sorted({rating.score for rating in rated if rating.score is not None}, reverse=True)
        name = hashlib.sha256(f"{prompt}\0{annotator}".encode()).hexdigest()[:12]
        instructions = {rating.instructions for rating in rated}
        rankings.append(
            Ranking(
                id=f"ratings-{name}",
                prompt=prompt,
                responses=tuple(rating.response for rating in rated),
                ranks=tuple(None if rating.score is None else best_first.index(rating.score) + 1 for rating in rated),
                annotator=annotator,
                kind=kind,
                instructions=instructions.pop() if len(instructions) == 1 else None,
            )
        )
    return rankings, alone


def held_out(prompt: str, *, seed: int, share: float) -> bool:
    """Whether the pairs of a prompt are held out: decided by hash, so that new prompts move no old one."""
    return _drawn(f"{seed}\0{prompt}", share)


def for_held_out_model(prompt: str, *, seed: int, share: float) -> bool:
    """Whether the pairs of a training prompt train the second, held-out reward model; decided as in `held_out`.

    By a hash of its own: that of `held_out` is above the held-out share for every training prompt.
    """
    return _drawn(f"{seed}\0held-out reward model\0{prompt}", share)


def _drawn(text: str, share: float) -> bool:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") < share * 2**64


def best_reachable_accuracy(records: Iterable[Mapping[str, Any]]) -> float | None:
    """How often the gold order agrees with the annotators' label (equal gold: half); None without gold.

    Nobody who sees only the responses can be expected to beat it: the rest is the annotators' noise.
    """
    hits = [
        0.5
        + 0.5 * ((record["gold_chosen"] > record["gold_rejected"]) - (record["gold_chosen"] < record["gold_rejected"]))
        for record in records
        if record.get("gold_chosen") is not None
    ]
    return fmean(hits) if hits else None


def about(records: Iterable[Record], tasks: Sequence[str]) -> list[Record]:
    """The instruction records of the given tasks; of all tasks when none of the given ones occurs."""
    every = list(records)
    chosen = [record for record in every if record["task"] in tasks]
    return chosen or every


def distinct(responses: Iterable[str]) -> list[str]:
    """Different texts, in the order of their first appearance."""
    return list(dict.fromkeys(responses))


def grouped(records: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Pairs that came out of one ranking, together, in the order of the records."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        groups.setdefault(f"{record.get('ranking_id') or record['id']}\0{record['prompt']}", []).append(record)
    yield from groups.values()

"""How a person writes a ranking down: `A>C=D, B F`.

`>` is better, `=` is a tie, and after a comma the letters before an F failed. Letters without signs stand in order
(`ACDB`); one letter alone is the best, with the others tied below it; F alone fails every response.
"""

from collections.abc import Sequence

from pipelines.core.learning.preferences import Rank

FAILED = "F"
LETTERS = "ABCDEGHIJKLMNOPRTVWXYZ"
"""The names of responses, in order. F, Q, S and U say other things: failed, quit, skip, undo."""
EXAMPLE = "A>C=D, B F"


def parse(answer: str, num: int) -> tuple[Rank, ...]:
    """The ranks of `num` responses: 1 is best, after a tie ranks skip (1, 1, 3), None is failed.

    Raises:
        ValueError: says what is wrong with the answer.
    """
    clauses = ["".join(clause.split()) for clause in answer.upper().split(",")]
    if clauses == [FAILED]:
        return (None,) * num
    failed = "".join(clause.removesuffix(FAILED) for clause in clauses if clause.endswith(FAILED))
    orders = [clause for clause in clauses if not clause.endswith(FAILED)]
    if {">", "="} & set(failed):
        raise ValueError(f"put a comma before the failed ones, as in {EXAMPLE}")
    if len(orders) > 1:
        raise ValueError(f"one order is needed, then the failed ones after a comma, as in {EXAMPLE}")
    tiers = _tiers(orders[0]) if orders else []
    named = [*failed, *(letter for tier in tiers for letter in tier)]
    missing = _missing(named, LETTERS[:num])
    if missing and len(tiers) == 1 and len(tiers[0]) == 1:
        tiers, missing = [*tiers, missing], []
    if missing:
        raise ValueError(f"no place for {' and '.join(missing)}: rank every response, or mark it F, as in {EXAMPLE}")
    return _ranks(tiers, num)


def _tiers(order: str) -> list[list[str]]:
    """From the best to the worst, what is tied together."""
    if not {">", "="} & set(order):
        return [[letter] for letter in order]
    tiers = [tier.split("=") for tier in order.split(">")]
    for name in (name for tier in tiers for name in tier):
        if not name:
            raise ValueError(f"a letter is needed on both sides of > and =, as in {EXAMPLE}")
        if len(name) > 1:
            raise ValueError(f"{name!r} lacks a sign between its letters: > or =, as in {EXAMPLE}")
    return tiers


def _missing(named: Sequence[str], letters: str) -> list[str]:
    if not named:
        raise ValueError(f"an order is needed, as in {EXAMPLE}")
    for letter in named:
        if letter not in letters:
            raise ValueError(f"{letter!r} is none of the responses, {letters[0]} to {letters[-1]}")
        if named.count(letter) > 1:
            raise ValueError(f"{letter} appears more than once")
    return [letter for letter in letters if letter not in named]


def _ranks(tiers: Sequence[Sequence[str]], num: int) -> tuple[Rank, ...]:
    ranks: list[Rank] = [None] * num
    place = 1
    for tier in tiers:
        for letter in tier:
            ranks[LETTERS.index(letter)] = place
        place += len(tier)
    return tuple(ranks)


def words(ranks: Sequence[Rank]) -> str:
    """A ranking as `parse` reads it."""
    places = sorted({rank for rank in ranks if rank is not None})
    named = list(zip(ranks, LETTERS, strict=False))
    tiers = [" = ".join(letter for rank, letter in named if rank == place) for place in places]
    failed = [letter for rank, letter in named if rank is None]
    return ", ".join(part for part in (" > ".join(tiers), " ".join([*failed, FAILED]) if failed else "") if part)

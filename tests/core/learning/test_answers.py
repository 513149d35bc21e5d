"""What people type at a ranking."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.learning import answers

RANKS = st.lists(st.one_of(st.none(), st.integers(1, 4)), min_size=2, max_size=len(answers.LETTERS))


@pytest.mark.parametrize(
    ("answer", "ranks"),
    [
        ("A>C=D, B F", (1, None, 2, 2)),
        ("a > c = d , b f", (1, None, 2, 2)),
        ("B F, A>C=D", (1, None, 2, 2)),
        ("A=B=C=D", (1, 1, 1, 1)),
        ("A=B>C>D", (1, 1, 3, 4)),
        ("ACDB", (1, 4, 2, 3)),
        ("A C D B", (1, 4, 2, 3)),
        ("C", (2, 2, 1, 2)),
        ("C, AF", (None, 2, 1, 2)),
        ("C, A F, B D F", (None, None, 1, None)),
        ("A>C, BDF", (1, None, 2, None)),
        ("F", (None, None, None, None)),
        ("ABCD F", (None, None, None, None)),
    ],
)
def test_an_answer_means_these_ranks(answer, ranks):
    assert answers.parse(answer, 4) == ranks


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "an order is needed, as in A>C=D, B F"),
        ("A>B", "no place for C and D"),
        ("A>B>C>D>A", "A appears more than once"),
        ("A>B>C>D, A F", "A appears more than once"),
        ("A>B>C>E", "'E' is none of the responses, A to D"),
        ("A<B", "'<' is none of the responses, A to D"),
        ("A>BC>D", "'BC' lacks a sign between its letters"),
        ("A>>B", "a letter is needed on both sides"),
        ("A>B>C D F", "put a comma before the failed ones"),
        ("A>B, C>D", "one order is needed"),
        ("A>B,, C D F", "one order is needed"),
        ("good", "is none of the responses"),
    ],
)
def test_an_answer_that_means_nothing_is_refused_in_words(answer, reason):
    with pytest.raises(ValueError, match=reason):
        answers.parse(answer, 4)


def order(ranks):
    """Ranks without gaps."""
    places = sorted({rank for rank in ranks if rank is not None})
    return [rank if rank is None else places.index(rank) for rank in ranks]


@given(RANKS)
def test_every_ranking_can_be_written_and_is_read_as_it_was_meant(ranks):
    assert order(answers.parse(answers.words(ranks), len(ranks))) == order(ranks)


@given(RANKS, st.randoms())
def test_spaces_and_small_letters_change_nothing(ranks, draw):
    written = answers.words(ranks)
    loose = "".join(f"{char.lower() if draw.random() < 0.5 else char}{' ' * draw.randrange(2)}" for char in written)
    assert answers.parse(loose, len(ranks)) == answers.parse(written.replace(" ", ""), len(ranks))


@given(st.one_of(st.text(), st.text("ABCDF>=, ")), st.integers(2, 6))
def test_whatever_is_typed_either_ranks_every_response_or_is_refused(answer, num):
    try:
        ranks = answers.parse(answer, num)
    except ValueError:
        return
    assert len(ranks) == num
    given_ranks = sorted(rank for rank in ranks if rank is not None)
    assert all(rank == 1 + sum(other < rank for other in given_ranks) for rank in given_ranks)


def test_no_letter_of_a_response_says_something_else():
    assert len(set(answers.LETTERS)) == len(answers.LETTERS) >= 20
    assert not set("FQSU") & set(answers.LETTERS)

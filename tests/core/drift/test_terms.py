"""Words: who holds them, and which carry a change."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.drift import terms


def test_words_that_all_or_too_few_documents_hold_are_left_out():
    table = terms.presence(["a b c", "a b", "a b", "a z"], most=10)
    assert table.words == ("b",)
    assert table.held_NV[:, 0].tolist() == [1, 1, 1, 0]


def test_of_too_many_words_those_in_the_most_documents_stay():
    table = terms.presence(["x y", "x y", "x y", "x", "-"], most=1)
    assert table.words == ("x",)


@settings(deadline=None)
@given(st.lists(st.text("abc ", max_size=12), max_size=15))
def test_a_word_is_held_by_the_documents_that_hold_it(texts):
    table = terms.presence(texts, most=100)
    for column, word in enumerate(table.words):
        assert [bool(held) for held in table.held_NV[:, column]] == [word in text.split() for text in texts]


def test_the_most_telling_words_come_first_with_their_shares():
    old = ["the cat sat", "the dog sat"] * 30
    new = ["the whale sat", "the dog sat"] * 30
    first, second = terms.carriers(old, new, most=2)
    assert {first.word, second.word} == {"cat", "whale"}
    whale = first if first.word == "whale" else second
    assert (whale.reference_share, whale.window_share) == (0, 0.5)
    assert whale.score > 4


def test_without_texts_no_word_carries_anything():
    assert terms.carriers([], ["a"], most=3) == []

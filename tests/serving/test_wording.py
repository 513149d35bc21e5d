"""Text that grows token by token: whole characters, stops, no lead."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.wording import Wording
from tests.fixtures import corpus_records, tiny_tokenizer

TOKENIZER = tiny_tokenizer([record["text"] for record in corpus_records(10)], 300)


def decode(ids: list[int]) -> str:
    text: str = TOKENIZER.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text


def pieces(ids: list[int], *stops: str, lead: str = "") -> list[str]:
    wording = Wording(decode, stops, lead)
    made = []
    for token in ids:
        made.append(wording.push(token))
        if wording.stopped:
            break
    return [*made, wording.finish()]


def ids(text: str) -> list[int]:
    found: list[int] = TOKENIZER(text)["input_ids"]
    return found


@given(st.lists(st.integers(0, len(TOKENIZER) - 1), max_size=40))
def test_the_pieces_of_any_tokens_make_their_whole_text(tokens: list[int]) -> None:
    assert "".join(pieces(tokens)) == decode(tokens)


@given(st.text(max_size=30), st.text("ab", min_size=1, max_size=3))
def test_the_text_ends_right_before_the_first_stop(text: str, stop: str) -> None:
    whole = decode(ids(text))
    assert "".join(pieces(ids(text), stop)) == whole.split(stop)[0]


@given(st.text(max_size=30))
def test_what_was_handed_out_is_never_taken_back(text: str) -> None:
    so_far = ""
    for piece in pieces(ids(text), "aa", "b\n"):
        so_far += piece
        assert decode(ids(text)).startswith(so_far)


def test_a_character_of_several_tokens_comes_whole() -> None:
    made = pieces(ids("a🙂b"))
    assert len(ids("a🙂b")) > 3
    assert [piece for piece in made if piece] == ["a", "🙂", "b"]


@pytest.mark.parametrize(
    ("text", "rest"), [(" went", "went"), ("  went", " went"), ("went", "went"), (" ", ""), ("", "")]
)
def test_one_lead_is_left_out(text: str, rest: str) -> None:
    assert "".join(pieces(ids(text), lead=" ")) == rest


def test_a_stop_that_is_cut_in_two_by_tokens_is_found() -> None:
    made = pieces([*ids("say s"), *ids("top"), *ids(" now")], "stop")
    assert "".join(made) == "say "

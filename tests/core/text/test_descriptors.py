import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.text.descriptors import damaged_characters, describe, field_lengths, whole_text
from pipelines.core.text.words import split_words


def described(*texts: str) -> dict[str, list[float]]:
    return {name: values.tolist() for name, values in describe(texts, split_words(texts)).items()}


def test_known_answers() -> None:
    table = described("One two, two.\nÄ9!")
    assert table["characters"] == [17]
    assert table["bytes"] == [18]
    assert table["words"] == [4]
    assert table["lines"] == [2]
    assert table["longest_line_bytes"] == [13]
    assert table["distinct_word_share"] == [0.75]
    assert table["digit_share"] == pytest.approx([1 / 17])
    assert table["non_ascii_share"] == pytest.approx([1 / 17])
    assert table["punctuation_share"] == pytest.approx([3 / 17])
    assert table["mean_word_length"] == pytest.approx([11 / 4])


def test_repetition_shows_in_trigrams() -> None:
    table = described("a b c a b c a b c", "a b c d e f g h i")
    assert table["repeated_trigram_share"] == pytest.approx([4 / 7, 0])


def test_control_characters_count_and_line_ends_do_not() -> None:
    assert described("a\x07\x1bb\n\t\r")["control_character_share"] == pytest.approx([2 / 7])


@pytest.mark.parametrize("good", ["Café über naïve", "GARÇÃO São", "東京 — “quoted” …", "€5 and £6", "plain"])
def test_sound_text_is_not_taken_for_damaged(good: str) -> None:
    assert damaged_characters(good) == 0


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
@pytest.mark.parametrize("good", ["café", "naïve", "“quoted”", "don\u2019t", "über"])
def test_text_decoded_wrongly_is_damaged(good: str, encoding: str) -> None:
    assert damaged_characters(good.encode().decode(encoding, errors="replace")) >= 1


@given(st.lists(st.text(max_size=40), max_size=5))
def test_every_share_lies_between_0_and_1_whatever_the_text(texts: list[str]) -> None:
    table = describe(texts, split_words(texts))
    for name, values in table.items():
        assert len(values) == len(texts)
        assert np.isfinite(values).all()
        if name.endswith("_share"):
            assert ((values >= 0) & (values <= 1)).all()
    assert table["bytes"].tolist() == [len(text.encode()) for text in texts]
    assert table["lines"].tolist() == [text.count("\n") + 1 if text else 0 for text in texts]
    longest = [max(len(line.encode()) for line in text.split("\n")) for text in texts]
    assert table["longest_line_bytes"].tolist() == longest


def test_the_fields_of_instructions_are_measured_one_by_one() -> None:
    record = {"context": "", "prompt": "abc", "completion": "de"}
    assert whole_text("instructions", record) == "abc\n\nde"
    lengths = {name: values.tolist() for name, values in field_lengths("instructions", [record]).items()}
    assert lengths == {"context_characters": [0], "prompt_characters": [3], "completion_characters": [2]}

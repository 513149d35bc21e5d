import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.text.words import distinct_counts, split_words
from pipelines.core.text.words import spoken as spoken_words

PLAIN = st.text(alphabet="abC dE1\n.,'", max_size=60)
ANY = st.text(max_size=60)


def spoken(text: str) -> list[str]:
    return re.findall("[a-z0-9]+", text.lower())


@given(st.lists(PLAIN, max_size=6))
def test_words_are_the_runs_of_letters_and_digits(texts: list[str]) -> None:
    words = split_words(texts)
    assert words.counts.tolist() == [len(spoken(text)) for text in texts]
    found = [words.text(index) for index in range(len(words.hashes_W))]
    assert found == [word for text in texts for word in spoken(text)]


@given(st.lists(PLAIN, max_size=6))
def test_equal_words_have_equal_hashes_and_others_have_others(texts: list[str]) -> None:
    words = split_words(texts)
    plain = [word for text in texts for word in spoken(text)]
    assert len(set(words.hashes_W.tolist())) == len(set(plain))
    assert len(set(zip(words.hashes_W.tolist(), plain, strict=True))) == len(set(plain))


@given(st.lists(ANY, max_size=4), ANY)
def test_the_hashes_of_a_text_do_not_depend_on_its_neighbours(before: list[str], text: str) -> None:
    alone, among = split_words([text]), split_words([*before, text])
    start = among.offsets_N1[len(before)]
    assert among.hashes_W[start:].tolist() == alone.hashes_W.tolist()
    assert among.ngrams(2)[0][among.ngrams(2)[1][len(before)] :].tolist() == alone.ngrams(2)[0].tolist()


@given(st.lists(PLAIN, max_size=5), st.integers(1, 4))
def test_ngrams_stay_within_their_text(texts: list[str], length: int) -> None:
    words = split_words(texts)
    hashes, offsets = words.ngrams(length)
    expected = []
    for text in texts:
        plain = spoken(text)
        expected.append([tuple(plain[start : start + length]) for start in range(len(plain) - length + 1)])
    assert np.diff(offsets).tolist() == [len(grams) for grams in expected]
    flat = [gram for grams in expected for gram in grams]
    assert len(set(zip(hashes.tolist(), flat, strict=True))) == len(set(flat)) == len(set(hashes.tolist()))
    assert distinct_counts(hashes, offsets).tolist() == [len(set(grams)) for grams in expected]


def test_case_curly_quotes_and_dashes_do_not_change_words() -> None:
    straight, curly = split_words(['he said "don\'t" - twice']), split_words(["He said “Don\u2019t” — TWICE"])
    assert straight.hashes_W.tolist() == curly.hashes_W.tolist()


def test_an_east_asian_character_is_a_word() -> None:
    words = split_words(["東京へ、行く abc日"])
    assert [words.text(index) for index in range(len(words.hashes_W))] == ["東", "京", "へ", "行", "く", "abc", "日"]


def test_a_character_of_a_script_without_spaces_is_a_word() -> None:
    for text in ("ไปบ้าน", "ໄປບ້ານ", "ទៅផ្ទះ", "အိမ်သွား"):
        words = split_words([f"abc{text} abc"])
        assert [words.text(index) for index in range(len(words.hashes_W))] == ["abc", *text, "abc"]


@given(st.lists(ANY, max_size=4))
def test_words_that_are_listed_are_those_that_are_hashed(texts: list[str]) -> None:
    words = split_words(texts)
    assert words.counts.tolist() == [len(spoken_words(text)) for text in texts]


def test_accented_words_stay_whole() -> None:
    words = split_words(["Füße über Café"])
    assert [words.text(index) for index in range(3)] == ["füße", "über", "café"]

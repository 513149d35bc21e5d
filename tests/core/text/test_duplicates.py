import random

import numpy as np
import pytest

from pipelines.core.text.duplicates import ExactDuplicates, NearDuplicates
from pipelines.core.text.words import split_words


def some_text(words: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [f"w{rng.randrange(10**6)}" for _ in range(words)]


def flagged(index: NearDuplicates, texts: list[str]) -> dict[int, str]:
    names = [f"text-{number}" for number in range(len(texts))]
    return index.add(names, split_words(texts), np.ones(len(texts), dtype=np.bool_))


def test_case_and_white_space_do_not_make_a_text_new() -> None:
    seen = ExactDuplicates()
    assert seen.add(["A b", " a\n B ", "a c"]).tolist() == [False, True, False]
    assert seen.add(["A B", "d"]).tolist() == [True, False]


@pytest.mark.parametrize("rare", ["", "\0", "é", "\u3000"])
def test_white_space_of_every_kind_and_at_every_end_counts_as_one_space(rare: str) -> None:
    seen = ExactDuplicates()
    texts = [f"a b{rare}c", f" \t A\r\n\x1c B{rare}C\v\f ", "", " \n\n", "ab", f"a\x1fb{rare}c"]
    assert seen.add(texts).tolist() == [False, True, False, True, False, True]
    assert seen.add([]).tolist() == []


def test_a_text_with_two_words_changed_is_a_near_duplicate_and_names_the_first() -> None:
    words = some_text(200, 1)
    changed = [*words[:-2], "other", "end"]
    texts = [" ".join(words), " ".join(some_text(200, 2)), " ".join(changed)]
    assert flagged(NearDuplicates(0.9), texts) == {2: "text-0"}


def test_it_does_not_matter_in_which_batch_a_text_came() -> None:
    index = NearDuplicates(0.9)
    text = " ".join(some_text(100, 3))
    assert flagged(index, [text]) == {}
    assert flagged(index, [text.upper()]) == {0: "text-0"}


def test_texts_that_share_half_of_their_runs_are_not_near_duplicates() -> None:
    start = some_text(100, 4)
    texts = [" ".join(start + some_text(50, seed)) for seed in range(5, 25)]
    assert flagged(NearDuplicates(0.9), texts) == {}


def test_a_text_of_four_words_is_passed_over() -> None:
    assert flagged(NearDuplicates(0.5), ["one two three four"] * 3) == {}


def test_unwanted_texts_are_not_remembered() -> None:
    index = NearDuplicates(0.9)
    text = " ".join(some_text(50, 6))
    index.add(["bad"], split_words([text]), np.zeros(1, dtype=np.bool_))
    assert flagged(index, [text]) == {}


@pytest.mark.parametrize(("similarity", "expected"), [(0.6, 0.95), (0.99, 0.0)])
def test_the_threshold_counts(similarity: float, expected: float) -> None:
    found = 0
    for seed in range(40):
        words = some_text(150, seed)
        texts = [" ".join(words), " ".join([*words[:135], *some_text(15, seed + 1000)])]
        found += len(flagged(NearDuplicates(similarity), texts))
    assert found / 40 == pytest.approx(expected, abs=0.1)

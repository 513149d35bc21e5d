import random

from pipelines.core.text.contamination import BOILERPLATE_TEXTS, EvaluationRuns
from pipelines.core.text.words import split_words


def some_words(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [f"w{rng.randrange(10**6)}" for _ in range(count)]


def found(runs: EvaluationRuns, *texts: str) -> list[bool]:
    return runs.found(split_words(texts)).tolist()


def test_a_shared_run_is_found_wherever_it_stands_and_whatever_the_case() -> None:
    secret = some_words(12, 1)
    runs = EvaluationRuns(10)
    runs.add(["before " + " ".join(secret) + " after"])
    shown = " ".join(some_words(30, 2)) + ", " + " ".join(secret[:10]).upper() + "! " + " ".join(some_words(5, 3))
    assert found(runs, shown, " ".join(some_words(50, 4))) == [True, False]


def test_a_run_one_word_shorter_is_no_leak() -> None:
    secret = some_words(30, 1)
    runs = EvaluationRuns(10)
    runs.add([" ".join(secret)])
    assert found(runs, " ".join([*secret[:9], "else", *secret[10:19]])) == [False]


def test_runs_do_not_reach_across_texts() -> None:
    secret = some_words(10, 1)
    runs = EvaluationRuns(10)
    runs.add([" ".join(secret)])
    assert found(runs, " ".join(secret[:5]), " ".join(secret[5:])) == [False, False]


def test_words_that_open_many_evaluation_texts_are_boilerplate() -> None:
    opening = " ".join(some_words(12, 1))
    few, many = EvaluationRuns(10), EvaluationRuns(10)
    few.add([f"{opening} {' '.join(some_words(20, seed))}" for seed in range(BOILERPLATE_TEXTS)])
    many.add([f"{opening} {' '.join(some_words(20, seed))}" for seed in range(BOILERPLATE_TEXTS + 1)])
    assert found(few, opening) == [True]
    assert found(many, opening) == [False]


def test_a_story_asked_about_many_times_is_no_boilerplate() -> None:
    story = " ".join(some_words(30, 1))
    runs = EvaluationRuns(10)
    for _ in range(50):
        runs.add([story])
    assert found(runs, story) == [True]


def test_without_evaluation_texts_nothing_is_found() -> None:
    assert found(EvaluationRuns(5), "a b c d e f", "") == [False, False]

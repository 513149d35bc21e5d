import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from pipelines.core.judging import scores

WORDS = st.lists(st.sampled_from(["cat", "dog", "sat", "mat", "red"]), max_size=8).map(" ".join)


@pytest.mark.parametrize(
    ("answer", "reference", "match"),
    [
        ("The red ball.", "red ball", 1.0),
        ("a  RED ball!", "the red ball", 1.0),
        ("“Red” ball…", "red ball", 1.0),
        ("red", "red ball", 0.0),
        ("another ball", "other ball", 0.0),
        ("theatre", "atre", 0.0),
        ("«Red» ball。", "red ball", 1.0),
        ("¿Rojo?", "rojo", 1.0),
    ],
)
def test_exact_match_forgives_case_articles_and_punctuation_only(answer, reference, match):
    assert scores.exact_match(answer, [reference]) == match


@pytest.mark.parametrize(
    ("answer", "reference", "match"),
    [
        ("", "the", 0.0),
        ("!", "A", 0.0),
        ("B", "A", 0.0),
        ("a.", "A", 1.0),
        ("The", "A", 0.0),
        ("-", "+", 0.0),
        (" + ", "+", 1.0),
        ("?", "!", 0.0),
        ("", "", 1.0),
    ],
)
def test_a_reference_of_which_normalising_leaves_nothing_is_compared_as_it_is(answer, reference, match):
    assert scores.exact_match(answer, [reference]) == scores.token_f1(answer, [reference]) == match


@pytest.mark.parametrize(
    ("answer", "reference", "match"),
    [
        ("-5", "5", 0.0),
        ("\u22125", "-5", 1.0),
        ("3.5", "35", 0.0),
        ("3,5", "35", 0.0),
        ("3\u20135", "3-5", 1.0),
        ("It is 5.", "it is 5", 1.0),
        ("5, or 6!", "5 or 6", 1.0),
        ("5 %", "5", 1.0),
    ],
)
def test_signs_and_points_of_numbers_are_no_punctuation(answer, reference, match):
    assert scores.exact_match(answer, [reference]) == match


@given(st.text(alphabet="abC dE12\n.,'-!_", max_size=60), st.text(alphabet="abC dE12\n.,'-!_", max_size=60))
def test_rouge_l_of_ascii_text_is_that_of_the_library(answer, reference):
    theirs = rouge_scorer.RougeScorer(["rougeL"]).score(reference, answer)["rougeL"].fmeasure
    assert scores.rouge_l(answer, [reference]) == theirs


@pytest.mark.parametrize(
    ("answer", "reference"),
    [("Мама мыла раму.", "мама мыла окно"), ("猫吃鱼", "猫吃肉"), ("ไปดี", "ไปนี"), ("Ünal çok iyi", "ünal çok kötü")],
)
def test_rouge_l_counts_the_words_of_every_script(answer, reference):
    assert 0 < scores.rouge_l(answer, [reference]) < 1
    assert scores.rouge_l(answer, [answer]) == 1


def test_a_long_answer_without_spaces_is_no_short_one():
    records = [{"task": "retold", "completion": "小猫去公园玩了一整天"}, {"task": "asked", "completion": "小猫"}]
    assert scores.short_answer_tasks(records) == ["asked"]


def test_the_best_of_several_references_counts():
    assert scores.exact_match("Ann", ["Ben", "ann"]) == 1
    assert scores.token_f1("red ball", ["blue", "big red ball"]) == pytest.approx(0.8)
    assert scores.rouge_l("one two", ["three", "one two"]) == 1


def test_token_f1_is_the_harmonic_mean_of_precision_and_recall():
    assert scores.token_f1("red ball hill", ["red kite"]) == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))
    assert scores.token_f1("", [""]) == 1
    assert scores.token_f1("", ["red"]) == 0


def test_rouge_l_of_a_known_example():
    assert scores.rouge_l("police kill the gunman", ["police killed the gunman"]) == pytest.approx(0.75)


@given(WORDS, WORDS)
def test_scores_are_symmetric_within_0_and_1_and_1_for_equal_texts(left, right):
    for score in (scores.exact_match, scores.token_f1, scores.rouge_l):
        assert 0 <= score(left, [right]) <= 1
        assert score(left, [right]) == pytest.approx(score(right, [left]))
    assert scores.exact_match(left, [left]) == scores.token_f1(left, [left]) == 1


def test_a_task_is_short_when_its_median_answer_has_at_most_four_words():
    answers = {"a": ["one", "one two", "w " * 50], "b": ["one two three four five"], "c": ["one two three four"]}
    records = [{"task": task, "completion": text} for task, texts in answers.items() for text in texts]
    assert scores.short_answer_tasks(records) == ["a", "c"]


@given(st.integers(0, 40), st.integers(0, 50), st.integers(0, 50))
def test_a_smaller_draw_is_part_of_a_larger_one_and_keeps_the_order(size, few, many):
    records = [{"id": f"r{number}"} for number in range(size)]
    few, many = sorted((few, many))
    smaller, larger = scores.drawn(records, few), scores.drawn(records, many)
    assert len(smaller) == min(few, size)
    assert [record for record in larger if record in smaller] == smaller
    assert [record for record in records if record in larger] == larger


def test_extra_references_are_accepted_answers():
    assert scores.references({"completion": "a", "references": ["b", "c"]}) == ["a", "b", "c"]
    assert scores.references({"completion": "a", "references": None}) == ["a"]


def test_means_by_key():
    assert scores.mean_by(["b", "a", "b"], [1.0, 0.5, 0.0]) == {"a": 0.5, "b": 0.5}
    assert scores.mean([]) == 0

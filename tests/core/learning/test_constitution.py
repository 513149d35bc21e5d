"""What is asked by a constitution, and how answers are understood."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.learning import constitution
from pipelines.core.learning.constitution import Case, Principle, Question
from pipelines.core.learning.preferences import Ranking

KIND = Principle(name="kindness", critique="What is unkind?", revision="Make it kind.", comparison="Which is kinder?")
PRINCIPLES = [Principle(name=name, critique="c", revision="r", comparison="?") for name in "uvwxyz"]


def test_a_critique_and_a_revision_are_asked_for_as_a_conversation_goes_on():
    asked = constitution.critique_request("Sing.", "no", KIND)
    assert [(turn["role"], turn["content"]) for turn in asked] == [
        ("user", "Sing."),
        ("assistant", "no"),
        ("user", "What is unkind?"),
    ]
    assert constitution.revision_request("Sing.", "no", KIND, "It refuses.") == [
        *asked,
        {"role": "assistant", "content": "It refuses."},
        {"role": "user", "content": "Make it kind."},
    ]


def test_a_comparison_shows_the_prompt_the_question_and_both_responses_in_their_order():
    question = Question(prompt="Sing.", first="la", second="no", principle=KIND)
    text = constitution.comparison_request(question)[0]["content"]
    parts = [text.index(part) for part in ("Sing.", "Which is kinder?", "(A) la", "(B) no")]
    assert parts == sorted(parts)
    turned = constitution.comparison_request(question.turned())[0]["content"]
    assert "(A) no" in turned
    assert "(B) la" in turned


@pytest.mark.parametrize(
    ("answer", "chance"),
    [("A", 1.0), ("B", 0.0), (" (A)\n", 1.0), ("B.", 0.0), ("(B).", 0.0)]
    + [(other, None) for other in (None, "", "C", "a", "AB", "A or B", "A, not B", "The answer is A", "A\nB", "**A**")],
)
def test_a_letter_alone_is_an_answer_and_nothing_else_is(answer, chance):
    assert constitution.chance_from(answer) == chance


@given(st.text())
def test_no_other_text_is_taken_for_a_letter(answer):
    bare = answer.strip().rstrip(".").strip("()")
    assert (constitution.chance_from(answer) is None) or bare in ("A", "B")


def test_the_principles_of_a_case_are_different_ones_and_the_same_each_time():
    drawn = constitution.chosen("case", PRINCIPLES, count=4, seed=1)
    assert drawn == constitution.chosen("case", PRINCIPLES, count=4, seed=1)
    assert len({one.name for one in drawn}) == 4
    assert len(constitution.chosen("case", PRINCIPLES, count=99, seed=1)) == len(PRINCIPLES)
    by_case = {constitution.chosen(f"{case}", PRINCIPLES, count=1, seed=1)[0].name for case in range(60)}
    assert len(by_case) == len(PRINCIPLES)


def test_a_share_of_the_cases_is_the_judges_and_a_share_of_these_both_rank():
    drawn = [constitution.drawn(f"{case}", 0.4, 0.25, 7) for case in range(4000)]
    assert sum(by_judge for by_judge, _ in drawn) / 4000 == pytest.approx(0.4, abs=0.03)
    assert sum(by_judge and by_others for by_judge, by_others in drawn) / 4000 == pytest.approx(0.1, abs=0.02)
    assert all(any(one) for one in drawn)


def test_a_share_of_nothing_leaves_every_case_to_the_annotators():
    assert {constitution.drawn(f"{case}", 0.0, 1.0, 7) for case in range(200)} == {(False, True)}


def ranking(name, prompt, responses, kind="human"):
    ranks = tuple(range(1, len(responses) + 1))
    return Ranking(id=name, prompt=prompt, responses=responses, ranks=ranks, annotator=name, kind=kind)


def test_what_people_ranked_is_judged_once_whatever_the_order_they_saw_it_in():
    people = [
        ranking("ann", "Sing.", ("la", "no")),
        ranking("ben", "Sing.", ("no", "la")),
        ranking("cleo", "Hum.", ("mm", "no")),
        ranking("bot", "Hop.", ("hip", "no"), kind="constitution"),
        ranking("dan", "Jump.", ("no", "no")),
    ]
    besides = [Case(id="own", prompt="Hum.", responses=("no", "mm"))]
    (case,) = constitution.cases_of_people(people, besides=besides, share=1.0, seed=0)
    assert (case.prompt, set(case.responses), case.facts) == ("Sing.", {"la", "no"}, None)
    assert constitution.cases_of_people(people, besides=[], share=0.0, seed=0) == []


def test_the_most_that_is_asked_is_counted_before():
    cases = [Case(id="a", prompt="p", responses=("1", "2", "3", "4")), Case(id="b", prompt="p", responses=("1", "2"))]
    assert constitution.num_requests(cases, cases[:1], 3) == (2 * 3 * (6 + 1 + 1), 2 * 3)

"""Critiques, revisions, and which of them are kept."""

import pytest

from pipelines.core.learning import revisions
from pipelines.core.learning.comparisons import Tally
from pipelines.core.learning.constitution import Case, Principle

PRINCIPLES = [
    Principle(name=name, critique=f"What is not {name}?", revision=f"Make it {name}.", comparison=f"Which is {name}?")
    for name in ("kind", "brief")
]
CASE = Case(id="case", prompt="Sing.", responses=("no", "la"), task="song")
OTHER = Case(id="other", prompt="Hum.", responses=("mm", "m"), task="song")


def writer(conversations):
    """Says of each response that it is bad, and adds a mark to it."""
    said = []
    for turns in conversations:
        if len(turns) == 3:
            said.append(f"{turns[1]['content']} is bad: {turns[2]['content']}")
        else:
            said.append(f"{turns[1]['content']}+")
    return said


def longer(questions):
    return [float(len(one.first) > len(one.second)) for one in questions]


def revised(*cases, writer=writer, judge=longer, count=1):
    tally = Tally()
    return revisions.revised(cases, PRINCIPLES, writer, judge, count=count, seed=0, tally=tally), tally


def test_the_first_response_is_criticised_and_revised_by_one_principle_after_the_other():
    ((made,), tally) = revised(CASE, count=2)
    assert (made.response, made.revision, sorted(made.principles)) == ("no", "no++", ["brief", "kind"])
    assert made.critiques == (
        f"no is bad: What is not {made.principles[0]}?",
        f"no+ is bad: What is not {made.principles[1]}?",
    )
    assert made.kept
    assert tally.num_asked == 4


def test_a_revision_is_kept_only_where_the_judge_prefers_it():
    (made, _) = revised(CASE, OTHER, judge=lambda questions: [0.0 if "no" in one.first else 1.0 for one in questions])
    assert [one.chance for one in made] == [0.5, 0.5]
    assert not any(one.kept for one in made)
    (worse, _) = revised(CASE, judge=lambda questions: [float(len(one.first) < len(one.second)) for one in questions])
    assert (worse[0].chance, worse[0].kept) == (0.0, False)


def test_a_revision_that_changes_nothing_is_not_asked_about_and_not_kept():
    ((made,), tally) = revised(CASE, writer=lambda conversations: [turns[1]["content"] for turns in conversations])
    assert (made.revision, made.chance, made.kept, tally.num_asked) == ("no", None, False, 0)


@pytest.mark.parametrize("silent", [3, 5])
def test_a_case_without_a_critique_or_a_revision_is_left_out(silent):
    def mute(conversations):
        said = writer(conversations)
        return [
            None if turns[0]["content"] == "Sing." and len(turns) == silent else text
            for turns, text in zip(conversations, said, strict=True)
        ]

    (made, _) = revised(CASE, OTHER, writer=mute)
    assert [one.id for one in made] == ["other"]


def test_a_kept_revision_is_an_instruction_record():
    ((made,), _) = revised(CASE)
    assert revisions.instruction(made) == {
        "id": "case-revision",
        "task": "song",
        "prompt": "Sing.",
        "completion": "no+",
        "source": "constitution",
    }

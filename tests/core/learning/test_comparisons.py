"""From what a judge says to ranks."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.learning import comparisons
from pipelines.core.learning.comparisons import Tally
from pipelines.core.learning.constitution import Case, Principle

PRINCIPLES = [Principle(name=name, critique="c", revision="r", comparison=f"{name}?") for name in ("short", "long")]
CASE = Case(id="case", prompt="Sing.", responses=("lala", "la", "lalala"))


def shorter(questions):
    """A judge without any bias."""
    return [0.9 if len(one.first) < len(one.second) else 0.1 for one in questions]


def says_a(questions):
    return [1.0 for _ in questions]


def judged(judge, *cases, count=1):
    tally = Tally()
    found = comparisons.judged(cases or (CASE,), PRINCIPLES, judge, count=count, seed=0, tally=tally)
    return found, tally


def test_responses_are_ranked_by_the_judge_in_the_order_they_were_given():
    ((ranks,), tally) = judged(shorter)
    assert ranks == (2, 1, 3)
    assert (tally.num_asked, tally.num_unusable) == (6, 0)
    assert all(tally.consistent)
    assert sum(tally.firsts) / len(tally.firsts) == pytest.approx(0.5)


def test_a_judge_who_always_says_a_ranks_nothing_above_anything():
    ((ranks,), tally) = judged(says_a)
    assert ranks == (1, 1, 1)
    assert set(tally.firsts) == {1.0}
    assert not any(tally.consistent)


def test_a_preference_for_a_place_that_is_weaker_than_one_for_a_response_does_not_change_the_order():
    def leaning(questions):
        return [chance * 0.5 + 0.5 for chance in shorter(questions)]

    ((ranks,), tally) = judged(leaning)
    assert ranks == (2, 1, 3)
    assert not any(tally.consistent)


def test_each_principle_is_asked_about_and_they_are_averaged():
    asked = []

    def by_principle(questions):
        asked.extend(one.principle.name for one in questions)
        wanted = {"short": 1, "long": -1}
        return [float(wanted[one.principle.name] * (len(one.second) - len(one.first)) > 0) for one in questions]

    ((ranks,), _) = judged(by_principle, count=2)
    assert sorted(set(asked)) == ["long", "short"]
    assert ranks == (1, 1, 1)


def test_a_pair_without_both_orders_is_left_out_and_counted():
    def silent(questions):
        return [None if (one.first, one.second) == ("lala", "la") else chance for one, chance in zip(questions, shorter(questions), strict=True)]  # fmt: skip  # noqa: E501

    ((ranks,), tally) = judged(silent)
    assert ranks == (1, 1, 3)
    assert (tally.num_asked, tally.num_unusable, len(tally.consistent)) == (6, 1, 2)


def test_a_response_that_could_be_compared_with_no_other_leaves_its_prompt_unranked():
    def deaf(questions):
        return [None if "lalala" in (one.first, one.second) else 1.0 for one in questions]

    two = Case(id="two", prompt="Hum.", responses=("m", "mm"))
    ((first, second), _) = judged(deaf, CASE, two)
    assert first is None
    assert second == (1, 1)


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=6, unique_by=lambda value: round(value, 3)))
def test_chances_by_bradley_and_terry_give_the_order_of_the_rewards(rewards):
    chances = {
        (first, second): 1 / (1 + math.exp(rewards[second] - rewards[first]))
        for first in range(len(rewards))
        for second in range(first + 1, len(rewards))
    }
    ranks = comparisons.ranks(chances, len(rewards))
    assert ranks is not None
    order = sorted(range(len(rewards)), key=lambda index: -rewards[index])
    assert [ranks[index] for index in order] == list(range(1, len(rewards) + 1))


def test_sums_of_the_same_halves_tie_in_whatever_order_they_are_added():
    assert comparisons.ranks({(0, 1): 0.1, (0, 2): 0.8, (1, 2): 0.6}, 3) == (2, 1, 3)
    assert comparisons.ranks({(0, 1): 0.3, (0, 2): 0.7, (1, 2): 0.3}, 3) == (1, 1, 1)

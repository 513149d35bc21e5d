"""The table of compressed models and the rule."""

import math

from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.judging.pareto import Candidate, Choice, Limits, broken_limits, choose, on_front

LIMITS = Limits(
    max_bytes_ratio=0.35, max_bits_per_byte_increase=0.01, max_task_score_drop=0.02, max_worst_task_drop=0.05
)


def candidate(name, size, bits=1.0, score=0.5):
    return Candidate(name=name, bytes=size, bits_per_byte=bits, task_scores={"mood": score})


BASELINE = candidate("float32", 1000)


def test_the_smallest_within_the_limits_is_chosen():
    table = [BASELINE, candidate("a", 340), candidate("b", 250, 1.009, 0.49), candidate("c", 100, 1.02)]
    assert choose(table, LIMITS) == Choice(name="b", rule_met=True)


def test_among_equal_sizes_the_better_one_is_chosen():
    table = [BASELINE, candidate("a", 250, 1.005), candidate("b", 250, 1.001)]
    assert choose(table, LIMITS).name == "b"


def test_when_nothing_is_small_enough_the_smallest_that_loses_no_quality_is_taken_and_the_rule_is_not_met():
    table = [BASELINE, candidate("bfloat16", 500, 1.001), candidate("int8", 250, 1.05)]
    assert choose(table, LIMITS) == Choice(name="bfloat16", rule_met=False)


def test_when_everything_loses_quality_the_baseline_is_taken():
    table = [BASELINE, candidate("bfloat16", 500, 1.5), candidate("int8", 250, 1.0, 0.1)]
    assert choose(table, LIMITS) == Choice(name="float32", rule_met=False)


def test_a_figure_that_is_not_a_number_keeps_no_limit():
    broken = candidate("broken", 100, math.nan, math.nan)
    assert broken_limits(broken, BASELINE, LIMITS) == [
        "max_bits_per_byte_increase",
        "max_task_score_drop",
        "max_worst_task_drop",
    ]
    assert choose([BASELINE, broken], LIMITS) == Choice(name="float32", rule_met=False)


def test_each_limit_that_is_broken_is_named():
    assert broken_limits(candidate("a", 351, 1.011, 0.449), BASELINE, LIMITS) == [
        "max_bytes_ratio",
        "max_bits_per_byte_increase",
        "max_task_score_drop",
        "max_worst_task_drop",
    ]
    assert broken_limits(candidate("a", 350, 1.01, 0.48), BASELINE, LIMITS) == []


def test_a_task_that_is_lost_is_not_hidden_by_the_mean():
    tasks = ("a", "b", "c", "d")
    before = Candidate(name="float32", bytes=1000, bits_per_byte=1, task_scores=dict.fromkeys(tasks, 0.5))
    after = Candidate(name="int8", bytes=250, bits_per_byte=1, task_scores={**before.task_scores, "a": 0.4, "b": 0.6})
    assert broken_limits(after, before, LIMITS) == ["max_worst_task_drop"]


def test_the_front_leaves_out_what_another_beats():
    table = [BASELINE, candidate("smaller", 500), candidate("worse", 600, 1.1), candidate("best", 900, 0.9)]
    assert on_front(table) == [False, True, False, True]


def test_equals_are_both_on_the_front():
    assert on_front([candidate("a", 5), candidate("b", 5)]) == [True, True]


tables = st.lists(
    st.builds(
        candidate,
        st.text(min_size=1, max_size=3),
        st.integers(1, 20),
        st.sampled_from([0.9, 1.0, 1.005, 1.2]),
        st.sampled_from([0.4, 0.49, 0.5, 0.6]),
    ),
    min_size=1,
    max_size=8,
)


@given(tables)
def test_whatever_is_not_on_the_front_is_beaten_by_something_on_it(table):
    front = [one for one, is_on in zip(table, on_front(table), strict=True) if is_on]
    assert front
    for one in table:
        assert any(all(a <= b for a, b in zip(best.costs, one.costs, strict=True)) for best in front)


@given(tables)
def test_what_is_chosen_never_loses_more_quality_than_the_rule_allows(table):
    choice = choose(table, LIMITS)
    taken = [one for one in table if one.name == choice.name]
    assert any(not set(broken_limits(one, table[0], LIMITS)) - {"max_bytes_ratio"} for one in taken)

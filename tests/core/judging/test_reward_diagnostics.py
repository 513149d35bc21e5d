"""What the figures about a reward model mean."""

from dataclasses import replace

import pytest

from pipelines.core.judging import reward_diagnostics as diagnostics
from pipelines.core.judging.reward_diagnostics import Judged


def pair(margin, chosen=10, rejected=10, gold=None):
    return Judged(
        prompt="p",
        chosen_reward=float(margin),
        rejected_reward=0.0,
        chosen_tokens=chosen,
        rejected_tokens=rejected,
        gold_margin=gold,
    )


def test_each_part_has_its_accuracy_counts_and_interval_by_prompt():
    marked = [
        replace(pair(margin), prompt=prompt, annotator=name)
        for margin, prompt, name in (
            (1, "p", "ann"),
            (-1, "q", "ann"),
            (1, "q", "ann"),
            (1, "p", "bob"),
            (1, "p", None),
        )
    ]
    found = diagnostics.parts(marked, lambda one: one.annotator, seed=1)
    assert list(found) == ["ann", "bob"]
    assert found["ann"].accuracy == pytest.approx(2 / 3)
    assert (found["ann"].low, found["ann"].high) == (0.5, 1.0)
    assert (found["ann"].num_pairs, found["ann"].num_prompts) == (3, 2)
    assert (found["bob"].low, found["bob"].num_prompts) == (None, 1)


def test_the_spread_of_rewards_is_told_for_each_task():
    marked = [replace(pair(0), chosen_reward=float(n), rejected_reward=-1.0, task="mood") for n in range(5)]
    found = diagnostics.rewards_by_task([*marked, pair(3)])
    assert list(found) == ["mood", "unknown"]
    assert found["mood"].chosen.mean == 2.0
    assert found["mood"].chosen.deviation == pytest.approx(2**0.5)
    assert found["mood"].chosen.quantiles == pytest.approx([0.2, 1.0, 2.0, 3.0, 3.8])
    assert (found["mood"].rejected.mean, found["mood"].rejected.deviation) == (-1.0, 0.0)


def test_a_pair_is_right_wrong_or_undecided_by_the_sign_of_its_margin():
    assert [pair(margin).correct for margin in (0.2, 0.0, -3.0)] == [1.0, 0.5, 0.0]


def test_accuracy_can_be_asked_of_some_pairs_and_is_unknown_of_none():
    pairs = [pair(1, 10, 11), pair(-1, 10, 100)]
    assert diagnostics.accuracy(pairs) == 0.5
    assert diagnostics.accuracy(pairs, lambda one: one.similar_in_length(1.1)) == 1.0
    assert diagnostics.accuracy(pairs, lambda one: one.similar_in_length(1.0)) is None


def test_a_counter_of_words_is_told_from_a_reader():
    assert pair(1, 20, 10).correct_by_length == 1.0
    assert pair(1, 10, 20).correct_by_length == 0.0
    assert pair(1, 10, 10).correct_by_length == 0.5


def test_similar_length_does_not_depend_on_which_side_is_longer():
    assert pair(1, 110, 100).similar_in_length(1.1)
    assert pair(1, 100, 110).similar_in_length(1.1)
    assert not pair(1, 100, 112).similar_in_length(1.1)


def test_gold_accuracy_looks_at_the_gold_order_and_not_at_the_label():
    pairs = [pair(1, gold=-0.5), pair(-1, gold=-0.5), pair(1, gold=0.0), pair(1)]
    assert diagnostics.gold_accuracy(pairs) == 0.5
    assert diagnostics.gold_accuracy([pair(1)]) is None


def test_the_ceiling_is_how_often_gold_agrees_with_the_label():
    assert diagnostics.ceiling([pair(-1, gold=0.5), pair(-1, gold=0.1), pair(1, gold=-0.1), pair(1, gold=0.0)]) == 0.625
    assert diagnostics.ceiling([pair(1)]) is None


def test_recovered_is_the_share_of_the_way_from_chance_to_the_ceiling():
    assert diagnostics.recovered_share(0.74, 0.9) == pytest.approx(0.6)
    assert diagnostics.recovered_share(0.5, 0.9) == pytest.approx(0)
    assert diagnostics.recovered_share(0.7, None) is None
    assert diagnostics.recovered_share(0.7, 0.5) is None


def test_the_gold_margin_of_a_record_is_known_only_with_gold():
    assert diagnostics.gold_margin({"gold_chosen": 0.75, "gold_rejected": 0.5}) == 0.25
    assert diagnostics.gold_margin({"id": "x"}) is None

"""A Bradley-Terry model over words."""

import math
from typing import Any

import pytest

from benchmarks import word_rewards


def pair(chosen: str, rejected: str, prompt: str = "Ann met Ben.") -> dict[str, Any]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def test_features_are_words_new_words_and_the_end_each_once() -> None:
    assert word_rewards.features("Ann met Ben.", "Ben saw Cal. Ben ran!") == {
        *("ben", "saw", "cal", "ran", "new saw", "new cal", "new ran"),
        *("end ran", "end cal ben ran", "last !"),
    }


def test_weights_are_those_of_the_likelihood() -> None:
    """Three wins of four: two words that differ alone share the logit, log 3, equally when the penalty is small."""
    pairs = [pair("yes. The end", "no. The end")] * 3 + [pair("no. The end", "yes. The end")]
    found = word_rewards.fitted(pairs, 1e-6)
    known = {name: weight for name, weight in found.items() if "yes" in name}
    assert sum(known.values()) == pytest.approx(math.log(3) / 2, abs=1e-3)
    assert sum(found.values()) == pytest.approx(0, abs=1e-3)


def test_a_penalty_draws_weights_to_zero() -> None:
    pairs = [pair("yes", "no")] * 3
    weak, strong = (word_rewards.fitted(pairs, penalty) for penalty in (0.1, 10.0))
    assert 0 < strong["yes"] < weak["yes"]


def test_a_stranger_is_told_from_a_name_of_the_prompt_though_both_are_the_same_word() -> None:
    told = [
        pair("Ann ran.", "Cal ran."),
        pair("Cal ran.", "Ann ran.", prompt="Cal met Dan."),
    ]
    weights = word_rewards.fitted(told * 5, 0.1)
    assert word_rewards.correct(weights, told) == [1.0, 1.0]


def test_a_pair_of_unknown_words_is_undecided() -> None:
    weights = word_rewards.fitted([pair("yes.", "no.")], 1.0)
    assert word_rewards.correct(weights, [pair("one.", "two."), pair("yes.", "no."), pair("no.", "yes.")]) == [
        0.5,
        1,
        0,
    ]


def test_the_penalty_is_chosen_on_other_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_rewards, "fitted", lambda _pairs, penalty: {"yes": penalty - 50, "no": 0.0})
    assert word_rewards.chosen([], [pair("yes", "no")])["yes"] > 0
    assert word_rewards.chosen([], [pair("no", "yes")])["yes"] < 0

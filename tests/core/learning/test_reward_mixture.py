"""The reward model and functions of the user's, weighted and added."""

import sys

import numpy as np
import pytest

from pipelines.core.learning.reward_mixture import RewardFunction, RewardMixture
from pipelines.errors import TrainingError

PROMPTS, RESPONSES = ["p", "q", "r"], ["a", "bb", ""]


def function(call, weight=1.0):
    return RewardFunction(name="ppo.reward_functions[0].function, reward_functions.mine:f,", weight=weight, call=call)


def lengths(prompts, responses):
    return [len(text) for text in responses]


def test_the_reward_is_the_weighted_sum_and_its_parts_are_told_apart():
    mixture = RewardMixture(
        model=lambda _prompts, _responses: [1.0, 2.0, 3.0],
        model_weight=2.0,
        functions=[function(lengths, 0.5), function(lambda prompts, _responses: [10.0] * len(prompts), -1.0)],
    )
    parts = mixture.parts(PROMPTS, RESPONSES)
    assert parts.model_B.tolist() == [1.0, 2.0, 3.0]
    assert parts.functions_B.tolist() == [-9.5, -9.0, -10.0]
    assert mixture(PROMPTS, RESPONSES) == parts.total_B.tolist() == [-7.5, -5.0, -4.0]


def test_without_functions_the_reward_is_the_models_to_the_bit():
    values = [0.1, -0.30000000000000004, 1e-9]
    assert RewardMixture(model=lambda _prompts, _responses: values)(PROMPTS, RESPONSES) == values


def test_a_function_gets_lists_of_its_own():
    def greedy(prompts, responses):
        count = len(responses)
        prompts.clear()
        responses.clear()
        return [0.0] * count

    mixture = RewardMixture(model=lengths, functions=[function(greedy), function(lengths)])
    assert mixture(PROMPTS, RESPONSES) == [2.0, 4.0, 0.0]


@pytest.mark.parametrize("values", [[1, 2.5, np.float32(3)], (0.0, 0.0, 0.0), np.arange(3.0)])
def test_numbers_of_any_kind_will_do(values):
    assert function(lambda _prompts, _responses: values).rewards(PROMPTS, RESPONSES).dtype == np.float64


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda _prompts, _responses: [1.0], "returned 1 rewards for 3 responses"),
        (lambda _prompts, _responses: [1.0, float("nan"), 1.0], "returned nan for 'bb': make it a finite number"),
        (lambda _prompts, _responses: [1.0, 1.0, float("inf")], "returned inf for ''"),
        (lambda _prompts, _responses: [1.0, "1", 1.0], "returned '1' for 'bb'"),
        (lambda _prompts, _responses: None, "failed with TypeError"),
        (lambda _prompts, _responses: 1 / 0, "failed with ZeroDivisionError: division by zero"),
        (lambda _prompts: [], "failed with TypeError"),
        (lambda _prompts, _responses: [1.0, 10**400, 1.0], "for 'bb': make it a finite number"),
        (lambda _prompts, _responses: sys.exit(3), "failed with SystemExit: 3"),
    ],
)
def test_what_is_no_reward_is_an_error_with_the_key(call, words):
    with pytest.raises(TrainingError) as caught:
        function(call).rewards(PROMPTS, RESPONSES)
    assert str(caught.value).startswith("ppo.reward_functions[0].function, reward_functions.mine:f,")
    assert words in str(caught.value)


def test_a_reward_that_its_weight_makes_infinite_is_an_error_with_the_key():
    mixture = RewardMixture(model=lengths, functions=[function(lambda *_: [1e308] * 3, weight=1000.0)])
    with pytest.raises(TrainingError, match=r"ppo\.reward_functions.* times its weight, 1000\.0, is no number"):
        mixture(PROMPTS, RESPONSES)

import json

import pytest

from pipelines.core.judging.kl_axis import Examined, Task, laws
from pipelines.core.learning.rollouts import Measured, Prompt


def examined(updates, kl, reward, held_out_reward, gold=None):
    said = Measured(
        texts=["One.", "Two."], rewards=[reward, reward + 2], lengths=[3, 5], finished=[True, False], kl=[kl, kl]
    )
    return Examined(updates=updates, said=said, held_out_rewards=[held_out_reward] * 2, gold=gold)


def test_what_was_measured_comes_back_out_of_json_as_it_was():
    seen = examined(4, 1 / 3, 0.1 + 0.2, -0.7, [0.25, 0.5])
    assert Examined.of(json.loads(json.dumps(seen.values()))) == seen


def test_a_point_is_the_means():
    point = examined(4, 1.5, 1.0, -0.7, [0.25, 0.75]).point
    assert (point.updates, point.kl, point.reward, point.held_out_reward) == (4, 1.5, 2.0, -0.7)
    assert (point.gold, point.length, point.finished) == (0.5, 4, 0.5)


def test_the_spread_of_a_reward_is_over_the_responses():
    assert examined(0, 0.0, 1.0, -0.7, [0.25, 0.75]).spreads == {"reward": 1.0, "held_out_reward": 0.0, "gold": 0.25}


def test_each_reward_has_a_law_of_its_own_and_gold_only_where_it_is_known():
    axis = [examined(n, float(n), 0.5 * n**0.5, 0.1 * n**0.5) for n in range(5)]
    found = laws(axis)
    assert set(found) == {"reward", "held_out_reward"}
    assert (found["reward"].alpha, found["reward"].beta) == pytest.approx((0.5, 0.0))
    assert (found["held_out_reward"].alpha, found["held_out_reward"].beta) == pytest.approx((0.1, 0.0))


def test_gold_scores_need_the_facts_of_every_prompt():
    prompts = [Prompt(text="a", ids=[1]), Prompt(text="b", ids=[2])]
    facts = {"task": "mood", "answer": "happy"}
    assert Task(prompts=prompts, gold=[facts, None]).gold_scores(["happy", "sad"]) is None
    right, wrong = Task(prompts=prompts, gold=[facts, facts]).gold_scores(["happy", "sad"])
    assert right > wrong

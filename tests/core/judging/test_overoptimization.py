import math

import pytest

from pipelines.core.judging.overoptimization import Law, Point, before_the_turn, law

KLS = [0.5, 1.0, 2.0, 4.0, 9.0, 16.0, 30.0]


def point(updates, kl, reward, held_out_reward, length=10.0):
    return Point(
        updates=updates, kl=kl, reward=reward, held_out_reward=held_out_reward, gold=None, length=length, finished=1.0
    )


def chosen(points, kl_price=0.0, spread=1.0, held_out_spread=1.0, max_length_change=None):
    return before_the_turn(
        points,
        spread=spread,
        held_out_spread=held_out_spread,
        kl_price=kl_price,
        max_length_change=max_length_change,
    )


@pytest.mark.parametrize(("alpha", "beta"), [(1.3, 0.4), (0.7, -0.1), (-0.2, 0.05)])
def test_a_curve_that_follows_the_law_gives_its_two_numbers_back(alpha, beta):
    true = Law(alpha=alpha, beta=beta)
    found = law([0.0, *KLS], [0.0, *(true.gain(kl) for kl in KLS)])
    assert (found.alpha, found.beta) == pytest.approx((alpha, beta))


def test_the_gain_is_d_times_alpha_less_beta_log_d():
    assert Law(alpha=1.3, beta=0.4).gain(9.0) == pytest.approx(3 * (1.3 - 0.4 * math.log(3)))
    assert Law(alpha=1.3, beta=0.4).gain(0.0) == 0.0


def test_at_the_turn_the_gain_is_largest():
    curve = Law(alpha=1.3, beta=0.9)
    assert curve.gain(curve.turn) > max(curve.gain(curve.turn * 0.98), curve.gain(curve.turn * 1.02))


@pytest.mark.parametrize("beta", [0.0, -0.3, 0.01])
def test_a_gain_that_only_rises_has_no_turn(beta):
    assert Law(alpha=1.0, beta=beta).turn is None


def test_two_policies_are_too_few_for_a_law():
    assert law([0.0, 1.0, 2.0], [0.0, 0.4, 0.6]) is None


def test_policies_at_one_divergence_are_no_curve():
    assert law([2.0, 2.0, 2.0], [0.4, 0.5, 0.6]) is None


def test_while_both_rewards_rise_faster_than_the_price_the_last_policy_is_chosen():
    points = [point(n, 1.0 * n, 0.4 * n, 0.3 * n) for n in range(4)]
    assert chosen(points, kl_price=0.05) == 3


def test_a_fall_of_the_held_out_reward_that_outweighs_the_rise_is_the_turn():
    points = [point(0, 0, 0, 0), point(4, 3, 1.0, 0.9), point(8, 6, 1.4, 0.2)]
    assert chosen(points) == 1


def test_where_neither_reward_turns_the_price_of_the_divergence_decides():
    points = [point(0, 0, 0, 0), point(4, 4, 1.0, 0.8), point(8, 25, 1.6, 1.0)]
    assert chosen(points) == 2
    assert chosen(points, kl_price=0.05) == 1


def test_a_policy_that_is_worth_nothing_leaves_the_instruction_model():
    assert chosen([point(0, 0, 0, 0), point(4, 9, 0.1, -0.2)], kl_price=0.05) == 0


def test_a_policy_that_bought_its_reward_with_length_is_no_candidate():
    points = [point(0, 0, 0, 0), point(4, 1, 0.4, 0.4, length=13.0), point(8, 4, 2.0, 2.0, length=13.1)]
    assert chosen(points) == 2
    assert chosen(points, max_length_change=0.3) == 1
    assert chosen([points[0], point(8, 4, 2.0, 2.0, length=6.9)], max_length_change=0.3) == 0


def test_the_scale_of_a_reward_model_does_not_count():
    points = [point(0, 0, 0, 0), point(4, 3, 1.0, 0.9), point(8, 6, 1.4, 0.2)]
    scaled = [point(p.updates, p.kl, 10 * p.reward + 3, 0.1 * p.held_out_reward - 5) for p in points]
    assert chosen(scaled, spread=10.0, held_out_spread=0.1) == chosen(points)

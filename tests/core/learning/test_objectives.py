"""The terms of PPO against known answers."""

import pytest
import torch

from pipelines.core.learning import objectives


def test_advantages_with_lambda_one_are_returns_less_values():
    rewards_BN = torch.tensor([[0.0, 1.0, 2.0]])
    values_BN = torch.tensor([[0.5, 0.25, 1.0]])
    got = objectives.advantages(rewards_BN, values_BN, torch.ones(1, 3), discount=1.0, gae_lambda=1.0)
    assert got[0].tolist() == pytest.approx([3 - 0.5, 3 - 0.25, 2 - 1.0])


def test_advantages_with_lambda_zero_are_one_step_errors():
    rewards_BN = torch.tensor([[0.0, 1.0, 2.0]])
    values_BN = torch.tensor([[0.5, 0.25, 1.0]])
    got = objectives.advantages(rewards_BN, values_BN, torch.ones(1, 3), discount=0.9, gae_lambda=0.0)
    assert got[0].tolist() == pytest.approx([0.9 * 0.25 - 0.5, 1 + 0.9 * 1.0 - 0.25, 2 - 1.0])


def test_advantages_do_not_look_behind_the_end_of_a_shorter_response():
    rewards_BN = torch.tensor([[1.0, 0.0], [1.0, 5.0]])
    values_BN = torch.tensor([[0.25, 9.0], [0.25, 1.0]])
    mask_BN = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    got = objectives.advantages(rewards_BN, values_BN, mask_BN, discount=1.0, gae_lambda=0.5)
    assert got[0].tolist() == pytest.approx([0.75, 0.0])
    assert got[1].tolist() == pytest.approx([1 + 1 - 0.25 + 0.5 * 4, 4.0])


def test_the_score_is_paid_at_the_last_token_and_the_penalty_everywhere():
    log_ratio_BN = torch.tensor([[1.0, -2.0, 7.0], [0.5, 0.5, 0.5]])
    mask_BN = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    got = objectives.shaped_rewards(torch.tensor([10.0, 20.0]), log_ratio_BN, mask_BN, 0.1)
    assert got.tolist() == [pytest.approx([-0.1, 10.2, 0.0]), pytest.approx([-0.05, -0.05, 19.95])]


def test_the_objective_stops_rewarding_a_ratio_out_of_range_but_not_its_way_back():
    mask_BN = torch.ones(1, 4)
    ratio_BN = torch.tensor([[1.5, 1.5, 0.5, 0.5]], requires_grad=True)
    objectives.policy_loss(ratio_BN, torch.tensor([[1.0, -1.0, 1.0, -1.0]]), mask_BN, 0.2).backward()
    assert ratio_BN.grad[0].tolist() == pytest.approx([0.0, 0.25, -0.25, 0.0])


def test_the_value_loss_takes_the_larger_of_plain_and_clipped_error():
    values_BN, old_BN, returns_BN = torch.tensor([[1.0]]), torch.tensor([[0.0]]), torch.tensor([[1.0]])
    got = objectives.value_loss(values_BN, old_BN, returns_BN, torch.ones(1, 1), 0.2)
    assert float(got) == pytest.approx(0.5 * 0.8**2)


def test_whitening_ignores_padding():
    mask_BN = torch.tensor([[1.0, 1.0, 0.0]])
    got = objectives.whitened(torch.tensor([[1.0, 3.0, 1000.0]]), mask_BN)
    assert got[0].tolist() == pytest.approx([-1.0, 1.0, 0.0])


def test_values_that_foresee_the_returns_explain_all_variance():
    returns_BN, mask_BN = torch.tensor([[1.0, 2.0, 3.0]]), torch.ones(1, 3)
    assert objectives.explained_variance(returns_BN, returns_BN, mask_BN) == pytest.approx(1.0)
    assert objectives.explained_variance(torch.zeros(1, 3), returns_BN, mask_BN) == pytest.approx(0.0, abs=1e-6)
    assert objectives.explained_variance(-returns_BN, returns_BN, mask_BN) < 0


@pytest.mark.parametrize(
    ("kl", "factor"),
    [(6.0, 1.0), (6.6, 1.01), (60.0, 1.02), (5.4, 0.99), (0.0, 0.98)],
)
def test_the_weight_of_the_penalty_follows_the_divergence_by_a_tenth_of_its_error_and_no_more_than_a_fiftieth(
    kl, factor
):
    got = objectives.steered(0.05, kl, target=6.0, responses=64, horizon=640)
    assert got == pytest.approx(0.05 * factor)


@pytest.mark.parametrize(
    ("length", "limit", "found"),
    [
        (50, 0.3, 0.0),
        (57.5, 0.3, 0.0),
        (42.5, 0.3, 0.0),
        (65, 0.3, 1.0),
        (35, 0.3, 1.0),
        (20, 0.3, 3.0),
        (5, None, 0.0),
    ],
)
def test_a_length_is_let_go_up_to_half_of_its_limit_and_counts_one_at_the_limit(length, limit, found):
    assert objectives.beyond_half(length, 50, limit) == pytest.approx(found, abs=1e-9)

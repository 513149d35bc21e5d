from pipelines.core.learning import compute
from pipelines.core.learning.compute import PASSES


def test_a_token_costs_two_operations_a_weight_forward_and_six_trained():
    assert compute.READING.flops(parameters=10, tokens=3) == 2 * 10 * 3
    assert compute.TRAINING.flops(parameters=10, tokens=3) == 6 * 10 * 3


def test_every_epoch_of_ppo_trains_policy_and_value_model():
    assert compute.ppo(2).flops(10, 3) - compute.ppo(1).flops(10, 3) == 2 * compute.TRAINING.flops(10, 3)


def test_of_one_budget_the_methods_that_sample_and_train_get_fewer_tokens():
    cost = {method: passes.flops(1, 1) for method, passes in PASSES.items()}
    assert cost == {"dpo": 8, "grpo": 12, "rloo": 14, "best-of-n": 4}

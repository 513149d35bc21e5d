from pipelines.core.learning.compute import PASSES, Passes


def test_a_token_costs_two_operations_a_weight_forward_and_six_trained():
    assert Passes(read=1, trained=0).flops(parameters=10, tokens=3) == 2 * 10 * 3
    assert Passes(read=0, trained=1).flops(parameters=10, tokens=3) == 6 * 10 * 3


def test_of_one_budget_the_methods_that_sample_and_train_get_fewer_tokens():
    cost = {method: passes.flops(1, 1) for method, passes in PASSES.items()}
    assert cost == {"dpo": 8, "grpo": 12, "rloo": 14, "best-of-n": 4}

"""Budgets: arithmetic with known answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.judging import budgets


def test_the_parameters_of_a_llama_are_those_that_transformers_counts() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    for tied in (True, False):
        config = LlamaConfig(
            vocab_size=300,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            intermediate_size=88,
            tie_word_embeddings=tied,
        )
        counted = LlamaForCausalLM(config).num_parameters()
        assert counted == budgets.llama_parameters(
            vocab_size=300, hidden_size=32, num_layers=2, intermediate_size=88, tie_embeddings=tied
        )


def test_chinchilla_itself_is_six_n_d() -> None:
    flops = budgets.training_flops(70e9, 1.4e12)
    assert flops == pytest.approx(5.88e23)
    assert budgets.petaflop_s_days(flops) == pytest.approx(6805.6, rel=1e-4)
    assert budgets.tokens_per_parameter(1.4e12, 70e9) == budgets.CHINCHILLA


def test_training_is_three_forward_passes() -> None:
    assert budgets.training_flops(10, 7) == 3 * budgets.forward_flops(10, 7)


@given(st.integers(1, 10**9), st.integers(1, 10**9), st.integers(0, 9))
def test_more_of_anything_needs_more_disk(parameters: int, tokens: int, candidates: int) -> None:
    one = budgets.disk(parameters=parameters, tokens=tokens, vocab_size=2048, candidates=candidates)
    more = budgets.disk(parameters=parameters + 1, tokens=tokens, vocab_size=70_000, candidates=candidates + 1)
    assert one.total == one.weights + one.checkpoints + one.data
    assert more.weights > one.weights
    assert more.data > one.data

"""Budgets: arithmetic with known answers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.judging import budgets
from pipelines.errors import ParamsError


def test_the_parameters_of_a_llama_are_those_that_transformers_counts() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    for tied, biased in ((True, False), (False, True)):
        config = LlamaConfig(
            vocab_size=300,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            intermediate_size=88,
            tie_word_embeddings=tied,
            attention_bias=biased,
        )
        counted = LlamaForCausalLM(config).num_parameters()
        assert counted == budgets.llama_parameters(
            vocab_size=300,
            hidden_size=32,
            num_layers=2,
            intermediate_size=88,
            tie_embeddings=tied,
            attention_bias=biased,
        )


def test_chinchilla_itself_is_six_n_d() -> None:
    flops = budgets.training_flops(70e9, 1.4e12)
    assert flops == pytest.approx(5.88e23)
    assert budgets.petaflop_s_days(flops) == pytest.approx(6805.6, rel=1e-4)
    assert budgets.tokens_per_parameter(1.4e12, 70e9) == budgets.CHINCHILLA


@given(st.integers(1, 10**9), st.integers(1, 10**9), st.integers(0, 9))
def test_more_of_anything_needs_more_disk(parameters: int, tokens: int, candidates: int) -> None:
    same: Any = {"models": 7, "checkpoints": 3, "pinned": 2}
    one = budgets.disk(parameters=parameters, tokens=tokens, token_bytes=2, candidates=candidates, **same)
    more = budgets.disk(parameters=parameters + 1, tokens=tokens, token_bytes=4, candidates=candidates + 1, **same)
    assert one.data is not None
    assert more.data is not None
    assert one.total == one.weights + one.checkpoints + one.data
    assert more.weights > one.weights
    assert more.checkpoints > one.checkpoints
    assert more.data > one.data


def test_the_models_of_stages_are_on_the_disk_twice_and_compressed_ones_once() -> None:
    need = budgets.disk(parameters=10, tokens=100, token_bytes=2, models=7, candidates=8, checkpoints=3, pinned=5)
    assert (need.weights, need.data) == ((2 * 7 + 8) * 40, 2 * (200 + 800))


def test_the_checkpoints_are_those_that_the_stage_with_the_largest_asks_room_for() -> None:
    size: Any = {"parameters": 10, "tokens": None, "token_bytes": 2, "models": 7, "candidates": 8, "checkpoints": 3}
    whole, base = budgets.disk(pinned=5, **size), budgets.disk(pinned=None, **size)
    assert (whole.checkpoints, base.checkpoints) == ((3 * 7 + 5) * 40, 3 * 4 * 40)
    assert whole.data is None
    assert whole.total == whole.weights + whole.checkpoints


def tokens(budget: str | None, parameters: int = 1000) -> int:
    return budgets.pretraining_tokens(budget, max_tokens=77, parameters=parameters, step_tokens=64)


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (None, 77),
        ("20 tokens/parameter", 20_000),
        ("1.2e8 FLOPs", 20_000),
        ("2 minutes at 0.001 GFLOP/s", 20_000),
    ],
)
def test_a_budget_pays_for_tokens_of_the_model_as_it_is(budget: str | None, expected: int) -> None:
    assert tokens(budget) == expected


@given(st.floats(1e9, 1e18), st.integers(1000, 10**7))
def test_what_a_compute_pays_for_costs_no_more_than_it(flops: float, parameters: int) -> None:
    text = f"{flops:.6g} FLOPs"
    if budgets.affordable(float(f"{flops:.6g}"), parameters) < 64:
        with pytest.raises(ParamsError, match="pays for"):
            tokens(text, parameters)
    else:
        seen = tokens(text, parameters)
        spent = budgets.training_flops(parameters, seen)
        assert spent <= float(f"{flops:.6g}") * (1 + 1e-12) < budgets.training_flops(parameters, seen + 1) * (1 + 1e-9)


def test_a_time_without_a_speed_is_refused_with_the_command_that_measures_it() -> None:
    with pytest.raises(ParamsError, match=r'"10 minutes at 100 GFLOP/s"') as caught:
        tokens("10 minutes")
    assert "`moteur plan --apply tokens` measures" in str(caught.value)


def test_fewer_tokens_than_those_of_one_step_are_refused() -> None:
    with pytest.raises(ParamsError, match=r"pretraining\.max_tokens is 63, but one step takes 64 .*: raise the first"):
        budgets.pretraining_tokens(None, max_tokens=63, parameters=1000, step_tokens=64)
    assert budgets.pretraining_tokens(None, max_tokens=64, parameters=1000, step_tokens=64) == 64


@pytest.mark.parametrize("unit", ["FLOPs", "seconds at 1 kFLOP/s", "tokens/parameter"])
def test_a_budget_too_small_for_one_step_is_refused_and_what_is_advised_suffices(unit: str) -> None:
    with pytest.raises(
        ParamsError, match=r"one step takes 64 \(pretraining\.batch_size x pretraining\.context\)"
    ) as caught:
        tokens(f"0.05 {unit}")
    times = float(str(caught.value).split("at least ")[1].split(" times")[0].replace(",", ""))
    assert tokens(f"{0.05 * times:.9g} {unit}") >= 64

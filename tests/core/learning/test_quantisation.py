"""Eight-bit weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pipelines.core.learning import quantisation
from tests.fixtures import corpus_records, tiny_model, tiny_tokenizer


@given(st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_no_weight_moves_by_more_than_half_a_step_of_its_row(rows):
    weight_OI = torch.tensor(rows)
    q_OI, scale_O1 = quantisation.quantise(weight_OI)
    moved_OI = (quantisation.dequantise(q_OI, scale_O1).double() - weight_OI.double()).abs()
    assert bool((moved_OI <= 0.5 * scale_O1.double() * (1 + 1e-4)).all())
    assert int(q_OI.abs().max()) <= 127


def test_the_largest_weight_of_each_row_is_kept_and_zeros_stay_zero():
    weight_OI = torch.tensor([[0.0, -2.54, 1.27], [0.0, 0.0, 0.0], [1e-3, 0.0, 0.0]])
    q_OI, scale_O1 = quantisation.quantise(weight_OI)
    assert q_OI.tolist() == [[0, -127, 64], [0, 0, 0], [127, 0, 0]]
    restored_OI = quantisation.dequantise(q_OI, scale_O1)
    assert torch.allclose(restored_OI.abs().amax(1), weight_OI.abs().amax(1))


def test_a_second_rounding_changes_nothing():
    weight_OI = torch.randn(16, 40, generator=torch.Generator().manual_seed(0))
    once_OI = quantisation.dequantise(*quantisation.quantise(weight_OI))
    twice_OI = quantisation.dequantise(*quantisation.quantise(once_OI))
    assert torch.allclose(once_OI, twice_OI, rtol=1e-6, atol=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_refused_by_name(bad):
    weights = {"body.weight": torch.tensor([[1.0, bad]])}
    with pytest.raises(ValueError, match=r"body\.weight: a weight is not a finite number"):
        quantisation.quantised_state(weights, ["body.weight"])


def test_tied_embeddings_are_stored_once_and_an_output_layer_that_shares_them_counts_as_embeddings():
    model = tiny_model(tiny_tokenizer([record["text"] for record in corpus_records(20)]))
    every, linear = quantisation.matrices(model), quantisation.matrices(model, embeddings=False)
    assert set(every) - set(linear) == {"model.embed_tokens.weight"}
    assert len(linear) == 7 * model.config.num_hidden_layers


def test_an_output_layer_of_its_own_is_a_linear_layer():
    model = nn.ModuleDict({"embed": nn.Embedding(5, 4), "head": nn.Linear(4, 5)})
    assert quantisation.matrices(model, embeddings=False) == ["head.weight"]
    assert quantisation.matrices(model) == ["embed.weight", "head.weight"]


def test_states_go_to_eight_bits_and_back_with_vectors_untouched():
    draw = torch.Generator().manual_seed(1)
    weights = {
        "a.weight": torch.randn(4, 8, generator=draw),
        "b.weight": torch.randn(4, 8, generator=draw),
        "norm.weight": torch.randn(8, generator=draw),
    }
    state = quantisation.quantised_state(weights, ["a.weight"], torch.bfloat16)
    assert {name: tensor.dtype for name, tensor in state.items()} == {
        "a.weight": torch.int8,
        "a.weight_scale": torch.float32,
        "b.weight": torch.bfloat16,
        "norm.weight": torch.float32,
    }
    back = quantisation.dequantised_state(state)
    assert set(back) == set(weights)
    assert torch.equal(back["norm.weight"], weights["norm.weight"])
    assert torch.equal(back["b.weight"], weights["b.weight"].bfloat16().float())
    assert 0 < float((back["a.weight"] - weights["a.weight"]).abs().max()) < 0.02


def test_an_int8_weight_without_its_scale_is_named():
    q_OI, scale_O1 = quantisation.quantise(torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"a\.weight is int8 but a\.weight_scale is missing"):
        quantisation.dequantised_state({"a.weight": q_OI})
    with pytest.raises(ValueError, match=r"a\.weight_scale is \(1, 1\)"):
        quantisation.dequantised_state({"a.weight": q_OI, "a.weight_scale": scale_O1[:1]})

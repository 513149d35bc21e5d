"""Pruning by magnitude and by Wanda."""

import math

import pytest
import torch

from pipelines.core.learning import pruning
from pipelines.core.learning.training import weights_of
from tests.fixtures import corpus_records, tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer([record["text"] for record in corpus_records(20)])


@pytest.fixture
def model(tokenizer):
    return tiny_model(tokenizer)


def ids(model, rows=3, length=16, seed=0):
    return torch.randint(0, model.config.vocab_size, (rows, length), generator=torch.Generator().manual_seed(seed))


def test_embeddings_and_the_output_layer_stay_whole(model):
    before = model.get_input_embeddings().weight.clone()
    pruning.prune_by_magnitude(model, 0.9)
    assert torch.equal(model.get_input_embeddings().weight, before)
    assert "lm_head" not in pruning.prunable(model)
    assert len(pruning.prunable(model)) == 7 * model.config.num_hidden_layers


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 1.0])
def test_magnitude_zeroes_the_smallest_weights_of_each_layer(model, sparsity):
    before = {name: layer.weight.detach().clone() for name, layer in pruning.prunable(model).items()}
    pruning.prune_by_magnitude(model, sparsity)
    for name, layer in pruning.prunable(model).items():
        gone = layer.weight == 0
        assert int(gone.sum()) == round(sparsity * gone.numel())
        assert torch.equal(layer.weight[~gone], before[name][~gone])
        if 0 < sparsity < 1:
            assert before[name][gone].abs().max() <= before[name][~gone].abs().min()


def test_wanda_zeroes_in_each_row_what_weighs_least_times_the_norm_of_its_input(model):
    norms = pruning.input_norms(model, [ids(model)])
    before = {name: layer.weight.detach().clone() for name, layer in pruning.prunable(model).items()}
    pruning.prune_by_wanda(model, 0.5, norms)
    for name, layer in pruning.prunable(model).items():
        gone_OI = layer.weight == 0
        assert set(gone_OI.sum(1).tolist()) == {round(0.5 * gone_OI.shape[1])}
        importance_OI = before[name].abs() * norms[name]
        for row, gone_I in zip(importance_OI, gone_OI, strict=True):
            assert row[gone_I].max() <= row[~gone_I].min()


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=60, n_positions=32, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    return GPT2LMHeadModel(config).eval()


def test_the_layers_of_a_gpt2_are_pruned_whose_weights_lie_the_other_way_round():
    by_magnitude, by_wanda = gpt2(), gpt2()
    before = {name: pruning.weight_by_outputs(layer).clone() for name, layer in pruning.prunable(by_wanda).items()}
    assert len(before) == 4 * by_wanda.config.n_layer
    pruning.prune_by_magnitude(by_magnitude, 0.5)
    norms = pruning.input_norms(by_wanda, [ids(by_wanda)])
    pruning.prune_by_wanda(by_wanda, 0.5, norms)
    for name, weight_OI in before.items():
        assert int((by_magnitude.get_submodule(name).weight == 0).sum()) == weight_OI.numel() // 2
        gone_OI = (by_wanda.get_submodule(name).weight == 0).T
        assert set(gone_OI.sum(1).tolist()) == {weight_OI.shape[1] // 2}
        importance_OI = weight_OI.abs() * norms[name]
        for row, gone_I in zip(importance_OI, gone_OI, strict=True):
            assert row[gone_I].max() <= row[~gone_I].min()


def test_wanda_by_hand():
    class One(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 2, bias=False)

        def get_output_embeddings(self):
            return None

    one = One()
    one.layer.weight.data = torch.tensor([[4.0, 3.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    pruning.prune_by_wanda(one, 0.5, {"layer": torch.tensor([1.0, 0.1, 10.0, 2.0])})
    assert one.layer.weight.tolist() == [[4.0, 0.0, 2.0, 0.0], [0.0, 0.0, 1.0, 1.0]]


def test_input_norms_are_those_of_the_inputs_and_do_not_depend_on_the_batches(model):
    together = ids(model)
    name, seen = "model.layers.1.mlp.down_proj", []
    hook = model.get_submodule(name).register_forward_hook(lambda _layer, inputs, _output: seen.append(inputs[0]))
    whole = pruning.input_norms(model, [together])
    hook.remove()
    apart = pruning.input_norms(model, together.split(1))
    assert torch.allclose(whole[name], seen[0].flatten(0, 1).norm(dim=0), rtol=1e-4)
    assert all(torch.allclose(whole[key], apart[key], rtol=1e-4) for key in whole)
    assert set(whole) == set(pruning.prunable(model))


def test_wanda_keeps_the_function_better_than_magnitude_where_inputs_differ_in_size(tokenizer):
    def after(prune):
        model = tiny_model(tokenizer)
        for layer in model.model.layers:
            layer.input_layernorm.weight.data[::4] *= 20
        norms = pruning.input_norms(model, [ids(model)])
        text = ids(model, seed=1)
        with torch.no_grad():
            whole = model(text).logits
            prune(model, norms)
            return float((model(text).logits - whole).norm() / whole.norm())

    by_wanda = after(lambda model, norms: pruning.prune_by_wanda(model, 0.5, norms))
    by_magnitude = after(lambda model, _norms: pruning.prune_by_magnitude(model, 0.5))
    assert by_wanda < by_magnitude


def test_pruning_is_the_same_every_time_even_with_ties(tokenizer):
    pruned = []
    for _ in range(2):
        model = tiny_model(tokenizer)
        for layer in pruning.prunable(model).values():
            layer.weight.data = layer.weight.data.sign()
        pruning.prune_by_magnitude(model, 0.3)
        pruned.append(weights_of(model))
    assert all(torch.equal(pruned[0][name], pruned[1][name]) for name in pruned[0])


def test_a_mask_with_values_is_counted_only_where_it_is_smaller():
    half = torch.tensor([1.0, 0.0] * 8)
    full = torch.ones(16)
    assert pruning.sparse_bytes({"half": half}) == 2 + 8 * 2
    assert pruning.sparse_bytes({"full": full}) == 16 * 2
    assert math.isclose(pruning.nonzero_share({"half": half, "full": full}), 0.75)

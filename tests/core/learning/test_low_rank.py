"""Adapters: they change nothing at first, can be switched off, hold no second copy, and merge into a plain model."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from pipelines.core.learning import low_rank, training
from pipelines.params import Lora
from tests.core.learning.architectures import CAUSAL, causal

SETTINGS = Lora(rank=4, alpha=8, dropout=0.0)
IDS = torch.randint(2, 60, (2, 9), generator=torch.Generator().manual_seed(0))


def logits(model):
    with torch.inference_mode():
        return model(input_ids=IDS).logits


def moved(model):
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("kind", CAUSAL)
def test_an_adapter_changes_nothing_until_it_learns_and_switched_off_gives_the_model_back(kind):
    model = causal(kind)
    before = logits(model)
    adapted = low_rank.adapt(model, SETTINGS)
    reference = low_rank.AdapterOff(adapted)
    assert torch.equal(logits(model), before)
    moved(model)
    assert (logits(model) - before).abs().max() > 1e-3
    assert torch.equal(logits(reference), before)
    assert (logits(model) - before).abs().max() > 1e-3  # it is on again


@pytest.mark.parametrize("kind", CAUSAL)
def test_merged_it_is_a_plain_model_that_says_the_same(kind, tmp_path):
    model = causal(kind)
    names = set(model.state_dict())
    adapted = low_rank.adapt(model, SETTINGS)
    moved(model)
    expected = logits(model)
    merged = adapted.merge_and_unload()
    assert set(merged.state_dict()) == names
    merged.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "generation_config.json", "model.safetensors"}
    assert torch.allclose(logits(AutoModelForCausalLM.from_pretrained(tmp_path).eval()), expected, atol=1e-5)


@pytest.mark.parametrize("kind", CAUSAL)
def test_all_linear_layers_of_the_body_have_one_and_nothing_else_is_trained(kind):
    model = causal(kind)
    plain = {name for name, _ in model.named_parameters()}
    low_rank.adapt(model, SETTINGS)
    trained = training.trained_weights(model)
    assert trained
    assert all(".lora_" in name for name in trained)
    assert not any(name in trained for name in plain)
    layers = model.base_model.config.num_hidden_layers
    assert len(trained) % (2 * layers) == 0
    assert not [name for name in trained if "lm_head" in name or "embed" in name or "wte" in name]


def test_policy_and_reference_share_every_weight_but_the_adapter():
    model = causal("llama")
    places = {weight.data_ptr() for weight in model.parameters()}
    total = sum(weight.numel() for weight in model.parameters())
    adapted = low_rank.adapt(model, SETTINGS)
    reference = low_rank.AdapterOff(adapted)
    held = {weight.data_ptr(): weight.numel() for weight in [*model.parameters(), *adapted.parameters()]}
    assert places <= set(held)
    adapter = sum(tensor.numel() for tensor in training.trained_weights(model).values())
    assert sum(held.values()) == total + adapter
    assert reference.config is model.config

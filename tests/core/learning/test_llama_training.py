from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import gradcheck

from pipelines.core.learning import attention, llama_training, low_rank, training
from pipelines.core.learning.batches import Packed
from pipelines.core.learning.llama_training import Norm, TurnedHeads
from pipelines.params import Lora
from tests.core.learning import architectures

CPU = torch.device("cpu")
CONTEXT = 24


def llama(**more):
    made = architectures.causal("llama", initializer_range=0.2, **more).train()
    for name, weight in made.named_parameters():
        if weight.ndim == 1:
            nn.init.normal_(weight, 1.0 if "norm" in name else 0.0, 0.3)
    attention.use_fastest(made, device=CPU, context=CONTEXT)
    return made


def batch(separator=None):
    return Packed(np.random.default_rng(1).integers(2, 50, 500), CONTEXT, 3, 0, separator)(0)


def learnt(made, data, precision=torch.float32):
    """The loss and its gradients."""
    loss = training.next_token_loss(made, data, device=CPU, precision=precision)
    return loss.detach(), torch.autograd.grad(loss, list(made.parameters()))


def by_modules(monkeypatch):
    monkeypatch.setattr(llama_training, "fits", lambda _body: False)


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5), requires_grad=True)


KINDS = {
    "shared keys": {},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "scaled positions": {
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 100.0,
            "factor": 4.0,
            "original_max_position_embeddings": 64,
        }
    },
}


@pytest.mark.parametrize("separator", [None, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_are_those_of_transformers_modules(kind, separator, monkeypatch):
    made, data = llama(**KINDS[kind]), batch(separator)
    assert llama_training.fits(made.base_model)
    found = learnt(made, data)
    by_modules(monkeypatch)
    torch.testing.assert_close(found, learnt(made, data), rtol=1e-4, atol=1e-6)


def test_in_bfloat16_gradients_err_no_more_than_those_of_the_modules(monkeypatch):
    made, data = llama(), batch(5)
    _, found = learnt(made, data, torch.bfloat16)
    by_modules(monkeypatch)
    (_, exact), (_, peers) = learnt(made, data), learnt(made, data, torch.bfloat16)

    def error(gradients):
        return sum(float((mine - true).square().sum()) for mine, true in zip(gradients, exact, strict=True))

    assert error(found) < 1.2 * error(peers)


def test_it_does_the_same_twice_to_the_bit():
    made, data = llama(), batch(5)
    first, second = (learnt(made, data, torch.bfloat16) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(one, other) for one, other in zip(first[1], second[1], strict=True))


def test_the_norms_gradients_agree_with_finite_differences():
    assert gradcheck(lambda x, weight: Norm.apply(x, weight, 1e-2, torch.float64), (random(2, 3, 5), random(5)))


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_the_gradients_of_turned_heads_agree_with_finite_differences(kv_heads):
    turns = random(2, 1, 3, 4).detach(), random(2, 1, 3, 4).detach()
    sine = torch.cat([-turns[1][..., :2], turns[1][..., :2]], dim=-1)
    assert gradcheck(lambda x: TurnedHeads.apply(x, turns[0], sine, kv_heads), random(2, 3, 2 + 2 * kv_heads, 4))


def test_a_quarter_turn_moves_one_number_of_a_pair_to_the_other():
    sine = torch.tensor([-1.0, -1.0, 1.0, 1.0]).expand(1, 1, 1, 4)
    query, _, value = TurnedHeads.apply(torch.tensor([1.0, 2, 3, 4]).expand(1, 1, 3, 4), torch.zeros(4), sine, 1)
    assert query.flatten().tolist() == [-3, -4, 1, 2]
    assert value.flatten().tolist() == [1, 2, 3, 4]


class Other(nn.Linear):
    """Something that a layer may be replaced by."""


CHANGES = {
    "another attention": lambda made: made.set_attn_implementation("sdpa"),
    "dropout": lambda made: setattr(made.config, "attention_dropout", 0.1),
    "checkpointing": lambda made: made.activation_checkpointing_enable(),
    "a hook": lambda made: made.model.layers[1].mlp.register_forward_hook(lambda *_: None),
    "another layer": lambda made: setattr(made.model.layers[0].mlp, "up_proj", Other(32, 64, bias=False)),
    "adapters": partial(low_rank.adapt, settings=Lora(rank=2, alpha=4, dropout=0.0)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_that_is_changed_in_any_way_is_left_to_its_modules(change):
    made = llama()
    CHANGES[change](made)
    assert not llama_training.fits(made.base_model)


@pytest.mark.parametrize("kind", sorted(attention.PLAIN - {"llama"}))
def test_other_types_are_left_to_their_modules(kind):
    made = architectures.causal(kind)
    attention.use_fastest(made, device=CPU, context=CONTEXT)
    assert not llama_training.fits(made.base_model)

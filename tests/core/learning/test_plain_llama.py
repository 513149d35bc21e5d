import pytest

from pipelines.core.learning import plain_llama
from tests.core.learning.test_llama_decoding import random_llama


def replace_a_layer(model):
    from torch import nn

    class Other(nn.Linear):
        pass

    model.model.layers[1].mlp.up_proj = Other(32, 48, bias=False)


def patch_a_pass(model):
    attention = model.model.layers[0].self_attn
    attention.forward = attention.forward


CHANGES = {
    "a hook": lambda model: model.model.norm.register_forward_hook(lambda *_: None),
    "a hook on the gradient": lambda model: model.lm_head.register_full_backward_hook(lambda *_: None),
    "another layer": replace_a_layer,
    "another forward pass": patch_a_pass,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_llama_in_which_anything_was_changed_is_not_plain(change):
    model = random_llama()
    assert plain_llama.is_plain(model)
    change(model)
    assert not plain_llama.is_plain(model)


def test_positions_turn_heads_as_transformers_turns_them():
    import torch
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    rotary = random_llama().model.rotary_emb
    query_BHTD, key_BKTD = torch.randn(2, 4, 6, 8), torch.randn(2, 2, 6, 8)
    positions_BT = torch.tensor([[0, 1, 2, 0, 1, 2], [3, 4, 5, 6, 7, 8]])
    cosine, sine = plain_llama.turns(rotary, query_BHTD, positions_BT)
    wanted = apply_rotary_pos_emb(query_BHTD, key_BKTD, *rotary(query_BHTD, positions_BT))
    for heads, turned in zip((query_BHTD, key_BKTD), wanted, strict=True):
        torch.testing.assert_close(plain_llama.turned(heads, cosine[:, None], sine[:, None]), turned)

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from pipelines.core.learning import attention, batches
from tests.core.learning import architectures


def model(kv_heads=4):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        max_position_embeddings=64,
    )
    return LlamaForCausalLM(config)


def gradients(made, ids, **inputs):
    made.zero_grad()
    made(input_ids=ids, labels=ids, use_cache=False, **inputs).loss.backward()
    return [weight.grad.clone() for weight in made.parameters()]


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_it_gives_the_logits_and_gradients_of_the_fused_attention(kv_heads):
    made = model(kv_heads)
    ids = torch.randint(0, 50, (3, 20))
    wanted_logits, wanted = made(input_ids=ids).logits, gradients(made, ids)
    attention.use_fastest(made, device=torch.device("cpu"), context=20)
    assert made.config._attn_implementation == attention.NAME
    torch.testing.assert_close(made(input_ids=ids).logits, wanted_logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradients(made, ids), wanted, rtol=1e-4, atol=1e-5)


def test_padding_on_the_right_changes_nothing_before_it():
    made = model()
    attention.use_fastest(made, device=torch.device("cpu"), context=20)
    ids = torch.randint(0, 50, (1, 12))
    longer = torch.cat([ids, torch.zeros((1, 4), dtype=torch.long)], dim=1)
    mask = torch.tensor([[1] * 12 + [0] * 4])
    alone, padded = made(input_ids=ids).logits, made(input_ids=longer, attention_mask=mask).logits[:, :12]
    torch.testing.assert_close(alone, padded, rtol=1e-4, atol=1e-5)


def test_padding_on_the_left_is_refused_and_not_silently_wrong():
    made = model()
    attention.use_fastest(made, device=torch.device("cpu"), context=20)
    mask = torch.tensor([[0, 0, 1, 1]])
    with pytest.raises(ValueError, match="set the attention to sdpa before decoding"):
        made(input_ids=torch.ones((1, 4), dtype=torch.long), attention_mask=mask)


def test_cached_decoding_is_refused():
    made = model()
    attention.use_fastest(made, device=torch.device("cpu"), context=20)
    with pytest.raises(ValueError, match="before decoding"):
        made.generate(torch.ones((1, 4), dtype=torch.long), max_new_tokens=3, do_sample=False)


def test_long_sequences_use_the_fused_attention():
    made = model()
    attention.use_fastest(made, device=torch.device("cpu"), context=attention.LONGEST + 1)
    assert made.config._attn_implementation == "sdpa"


def test_the_choice_is_not_saved_with_the_model(tmp_path):
    made = model()
    attention.use_fastest(made, device=torch.device("cpu"), context=20)
    made.save_pretrained(tmp_path)
    assert LlamaForCausalLM.from_pretrained(tmp_path).config._attn_implementation == "sdpa"


def test_packed_documents_do_not_see_each_other_in_either_attention():
    made = model()
    ids = torch.randint(2, 50, (2, 20))
    ids[0, 7] = ids[1, 3] = ids[1, 12] = 1
    places = batches.positions(ids, 1)
    alone = made(input_ids=ids[:1, 7:]).logits
    assert not torch.allclose(made(input_ids=ids).logits[:1, 7:], alone, atol=1e-3)
    fused = made(input_ids=ids, position_ids=places, use_cache=False).logits
    torch.testing.assert_close(fused[:1, 7:], alone, rtol=1e-4, atol=1e-5)
    attention.use_fastest(made, device=torch.device("cpu"), context=20)
    torch.testing.assert_close(
        made(input_ids=ids, position_ids=places, use_cache=False).logits, fused, rtol=1e-4, atol=1e-5
    )


def uneven(count=19, longest=30):
    """Ids (B, T), padded on the right with chance, and the length of each row."""
    generator = torch.Generator().manual_seed(4)
    lengths_B = torch.randint(1, longest + 1, (count,), generator=generator)
    return torch.randint(0, 50, (count, longest), generator=generator), lengths_B


def test_side_by_side_no_token_is_lost_and_rows_of_a_rectangle_are_of_near_length():
    ids_BT, lengths_B = uneven()
    laid = attention.side_by_side(ids_BT, lengths_B)
    assert laid.ids_1P.shape[1] == sum(rows * length for rows, length in laid.shapes) < ids_BT.numel()
    assert sum(rows for rows, _ in laid.shapes) == len(ids_BT)
    for ids_T, length, offset in zip(ids_BT, lengths_B, laid.offsets_B, strict=True):
        where = slice(int(offset), int(offset + length))
        assert torch.equal(laid.ids_1P[0, where], ids_T[:length])
        assert torch.equal(laid.positions_1P[0, where], torch.arange(length))


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_side_by_side_every_sequence_is_read_as_if_alone(kv_heads):
    made = model(kv_heads)
    ids_BT, lengths_B = uneven()
    alone = [made(input_ids=ids_T[None, :length]).logits[0] for ids_T, length in zip(ids_BT, lengths_B, strict=True)]
    torch.cat(alone).square().sum().backward()
    wanted = [weight.grad.clone() for weight in made.parameters()]
    made.zero_grad()
    attention.use_fastest(made, device=torch.device("cpu"), context=30)
    laid = attention.side_by_side(ids_BT, lengths_B)
    logits_PV = made(**laid.inputs, use_cache=False).logits[0]
    said = [logits_PV[offset : offset + length] for offset, length in zip(laid.offsets_B, lengths_B, strict=True)]
    torch.testing.assert_close(torch.cat(said), torch.cat(alone), rtol=1e-4, atol=1e-5)
    torch.cat(said).square().sum().backward()
    torch.testing.assert_close([weight.grad for weight in made.parameters()], wanted, rtol=1e-3, atol=1e-4)


SLIDING = {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}
"""The second layer looks back over six tokens."""
PLAIN: dict[str, dict[str, Any]] = {
    "gpt2": {"scale_attn_by_inverse_layer_idx": True},
    "llama": {"attention_bias": True},
    "mistral": {"sliding_window": 6},
    "qwen2": SLIDING,
    "qwen3": SLIDING,
}


def test_every_type_that_is_plain_is_tried():
    assert set(PLAIN) == attention.PLAIN


@pytest.mark.parametrize("name", PLAIN)
def test_every_plain_type_reads_sequences_side_by_side_as_if_alone_also_past_its_window(name):
    made = architectures.causal(name, initializer_range=0.3, **PLAIN[name])
    ids_BT, lengths_B = uneven(11)
    with torch.inference_mode():
        alone = [made(input_ids=ids[None, :length]).logits[0] for ids, length in zip(ids_BT, lengths_B, strict=True)]
        attention.use_fastest(made, device=torch.device("cpu"), context=6)
        assert attention.is_fastest(made)
        laid = attention.side_by_side(ids_BT, lengths_B)
        logits_PV = made(**laid.inputs, use_cache=False).logits[0]
        padded_BTV = made(input_ids=ids_BT, use_cache=False).logits
    for wanted_TV, row_TV, offset, length in zip(alone, padded_BTV, laid.offsets_B, lengths_B, strict=True):
        torch.testing.assert_close(logits_PV[offset : offset + length], wanted_TV, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(row_TV[:length], wanted_TV, rtol=1e-3, atol=1e-4)

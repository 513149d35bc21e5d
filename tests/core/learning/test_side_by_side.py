"""Sequences in one row: nothing is lost, and each is read as if it were alone, with its gradients."""

from typing import Any

import pytest
import torch

from pipelines.core.learning import attention, low_rank, rewards, side_by_side
from pipelines.params import Lora
from tests.core.learning import architectures

CPU = torch.device("cpu")


def uneven(count=19, longest=30):
    """Ids (B, T), padded on the right with chance, and the length of each row."""
    generator = torch.Generator().manual_seed(4)
    lengths_B = torch.randint(1, longest + 1, (count,), generator=generator)
    return torch.randint(0, 50, (count, longest), generator=generator), lengths_B


def test_no_token_is_lost_and_rows_of_a_rectangle_are_of_near_length():
    ids_BT, lengths_B = uneven()
    laid = side_by_side.laid_out(ids_BT, lengths_B)
    assert laid.ids_1P.shape[1] == sum(rows * length for rows, length in laid.shapes) < ids_BT.numel()
    assert sum(rows for rows, _ in laid.shapes) == len(ids_BT)
    for ids_T, length, offset in zip(ids_BT, lengths_B, laid.offsets_B, strict=True):
        where = slice(int(offset), int(offset + length))
        assert torch.equal(laid.ids_1P[0, where], ids_T[:length])
        assert torch.equal(laid.positions_1P[0, where], torch.arange(length))


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_every_sequence_is_read_as_if_alone(kv_heads):
    made = architectures.causal("llama", num_key_value_heads=kv_heads)
    ids_BT, lengths_B = uneven()
    alone = [made(input_ids=ids_T[None, :length]).logits[0] for ids_T, length in zip(ids_BT, lengths_B, strict=True)]
    torch.cat(alone).square().sum().backward()
    wanted = [weight.grad.clone() for weight in made.parameters()]
    made.zero_grad()
    attention.use_fastest(made, device=torch.device("cpu"), context=30)
    laid = side_by_side.laid_out(ids_BT, lengths_B)
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
        laid = side_by_side.laid_out(ids_BT, lengths_B)
        logits_PV = made(**laid.inputs, use_cache=False).logits[0]
        padded_BTV = made(input_ids=ids_BT, use_cache=False).logits
    for wanted_TV, row_TV, offset, length in zip(alone, padded_BTV, laid.offsets_B, lengths_B, strict=True):
        torch.testing.assert_close(logits_PV[offset : offset + length], wanted_TV, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(row_TV[:length], wanted_TV, rtol=1e-3, atol=1e-4)


def some_places(lengths_B):
    """Rows and columns of every third token, and of the last of each row."""
    pairs = [(row, column) for row, length in enumerate(lengths_B.tolist()) for column in range(int(length))]
    chosen = [pair for number, pair in enumerate(pairs) if number % 3 == 0 or pair[1] == int(lengths_B[pair[0]]) - 1]
    rows_K, columns_K = torch.tensor(chosen).T
    return rows_K, columns_K


def with_adapters(made):
    low_rank.adapt(made, Lora(rank=2, alpha=4, dropout=0.0))


@pytest.mark.parametrize("change", [None, with_adapters], ids=["plain", "with adapters"])
@pytest.mark.parametrize("name", PLAIN)
def test_states_at_some_places_and_their_gradients_are_those_of_each_sequence_alone(name, change):
    made = architectures.causal(name, initializer_range=0.2, **PLAIN[name])
    if change:
        change(made)
    ids_BT, lengths_B = uneven(11)
    rows_K, columns_K = some_places(lengths_B)
    weights = [weight for weight in made.base_model.parameters() if weight.requires_grad]
    alone = [
        made.base_model(input_ids=ids[None, :length]).last_hidden_state[0]
        for ids, length in zip(ids_BT, lengths_B, strict=True)
    ]
    wanted_KC = torch.stack([alone[row][column] for row, column in zip(rows_K, columns_K, strict=True)])
    wanted = torch.autograd.grad(wanted_KC.square().sum(), weights, allow_unused=True)
    attention.use_fastest(made, device=CPU, context=6)
    laid = side_by_side.laid_out(ids_BT, lengths_B)
    found_KC = side_by_side.hidden(made, laid, laid.places(rows_K, columns_K))
    torch.testing.assert_close(found_KC, wanted_KC, rtol=1e-3, atol=1e-4)
    found = torch.autograd.grad(found_KC.square().sum(), weights, allow_unused=True)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


def test_in_autocast_states_have_its_precision_and_the_gradients_that_of_the_weights():
    made = architectures.causal("llama")
    attention.use_fastest(made, device=CPU, context=30)
    ids_BT, lengths_B = uneven()
    laid = side_by_side.laid_out(ids_BT, lengths_B)
    with torch.autocast("cpu", torch.bfloat16):
        found_KC = side_by_side.hidden(made, laid, laid.places(*some_places(lengths_B)))
    assert found_KC.dtype == torch.bfloat16
    found_KC.float().square().sum().backward()
    assert {weight.grad.dtype for weight in made.base_model.parameters()} == {torch.float32}


@pytest.mark.parametrize("end", [59, 0], ids=["an end token of its own", "the end token pads"])
def test_a_reward_is_read_where_transformers_reads_it(end):
    judge = architectures.classifier("llama", vocab_size=60, pad=0)
    ids_BT, lengths_B = uneven()
    ids_BT.clamp_(min=1)
    mask_BT = (torch.arange(ids_BT.shape[1]) < lengths_B[:, None]).long()
    ids_BT[torch.arange(len(ids_BT)), lengths_B - 1] = end
    ids_BT.masked_fill_(mask_BT == 0, 0)
    with torch.inference_mode():
        wanted_B = judge(input_ids=ids_BT, attention_mask=mask_BT).logits[:, 0]
        attention.use_fastest(judge, device=CPU, context=30)
        found_B = rewards.rewards_of(judge, ids_BT, mask_BT)
    assert wanted_B.unique().numel() > 10
    torch.testing.assert_close(found_B, wanted_B, rtol=1e-3, atol=1e-4)

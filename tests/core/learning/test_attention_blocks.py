import math

import pytest
import torch

from pipelines.core.learning import attention_blocks
from pipelines.core.learning.attention_blocks import BlockAttention


def heads(sequences, several, length, width=8):
    generator = torch.Generator().manual_seed(3)
    return [
        torch.randn(sequences * several, length, width, generator=generator, dtype=torch.float64, requires_grad=True)
        for _ in range(3)
    ]


def causal(length):
    return torch.full((length, length), -math.inf, dtype=torch.float64).triu(1)


def documents(sequences, length):
    """Where a position looks neither ahead nor into another document; each sequence has borders of its own."""
    places = torch.arange(length)
    borders = [places // (2 + number) for number in range(sequences)]
    return torch.stack([causal(length).masked_fill(kind[:, None] != kind[None], -math.inf) for kind in borders])


def plainly(query, key, value, bias, scaling):
    """Softmax attention as it is written."""
    scores = query @ key.mT * scaling + (bias if bias.ndim == 2 else bias.repeat_interleave(len(query) // len(bias), 0))
    return scores.softmax(-1) @ value


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Blocks and parts so small that a few positions need several."""
    monkeypatch.setattr(attention_blocks, "BLOCK", 4)
    monkeypatch.setattr(attention_blocks, "SCORES", 100)


@pytest.mark.parametrize("kept", [0, 256])
@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 11])
@pytest.mark.parametrize("own_bias", [False, True])
def test_output_and_gradients_are_those_of_attention_as_it_is_written(length, own_bias, kept, monkeypatch):
    monkeypatch.setattr(attention_blocks, "KEPT", kept)
    sequences, several = 5, 3
    given = heads(sequences, several, length)
    bias = documents(sequences, length) if own_bias else causal(length)
    wanted, found = plainly(*given, bias, 0.3), BlockAttention.apply(*given, bias, 0.3)
    torch.testing.assert_close(found, wanted)
    upstream = torch.randn_like(wanted)
    torch.testing.assert_close(
        torch.autograd.grad(found, given, upstream), torch.autograd.grad(wanted, given, upstream)
    )


def test_gradients_agree_with_finite_differences():
    given = heads(2, 2, 6, width=3)
    assert torch.autograd.gradcheck(lambda *parts: BlockAttention.apply(*parts, documents(2, 6), 0.5), given)


def test_in_bfloat16_blocks_err_no_more_than_all_scores_at_once():
    exact = [part.detach() for part in heads(2, 2, 40)]
    half, wanted = [part.bfloat16() for part in exact], plainly(*exact, causal(40), 0.4)
    at_once = plainly(*half, causal(40).bfloat16(), 0.4)
    in_blocks = BlockAttention.apply(*half, causal(40).bfloat16(), 0.4)
    assert (in_blocks - wanted).square().mean() < 1.2 * (at_once - wanted).square().mean()


def test_weights_of_short_sequences_are_kept_for_the_gradient_and_those_of_long_ones_are_not():
    def held(length):
        output = BlockAttention.apply(*heads(1, 1, length), causal(length), 1.0)
        return sum(part.numel() for part in output.grad_fn.saved_tensors[4:])

    seen = [sum(4 * end for end in range(4, length + 1, 4)) for length in (8, 256)]  # blocks of 4, all before their end
    assert [held(length) for length in (8, 256)] == seen
    assert held(257) == 0

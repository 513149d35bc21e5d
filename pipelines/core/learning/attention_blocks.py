"""Softmax attention whose scores never leave the cache of a CPU.

Scores of all heads at once, (B, H, T, T), go through the memory several times, which takes longer than the products. So
a few heads are taken at a time, and of them a block of positions, which looks at nothing after itself: most of what
causal attention hides is never computed. What each position looks at is kept for the gradient where sequences are
short; of long ones, of which it would fill the memory, it is computed again, as in FlashAttention (Dao et al. 2022,
arXiv:2205.14135).

Shapes: N = B x H sequences and heads, T positions, D width of a head, G heads of a part, Q positions of a block, K
positions that it sees.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

BLOCK = 128
"""Positions of a block at most."""
SCORES = 2**21
"""Scores computed at once, about: 4 MiB in bfloat16."""
KEPT = 256
"""Positions of the longest sequence of which weights are kept: less memory than the layer's other activations take."""


class BlockAttention(torch.autograd.Function):
    """`apply(query, key, value, bias, scaling)` for (N, T, D) each; the result is (N, T, D).

    `bias` is added to the scores, -inf where a position must not be seen, as it must not be anywhere after the own one;
    (T, T) for all, or (B, T, T).
    """

    @staticmethod
    def forward(
        context: Any, query_NTD: Tensor, key_NTD: Tensor, value_NTD: Tensor, bias: Tensor, scaling: float
    ) -> Tensor:
        """Softmax of the products, over what is seen, times the values."""
        output_NTD, query_NTD, kept = torch.empty_like(query_NTD), query_NTD * scaling, []
        keeping = query_NTD.shape[1] <= KEPT and any(context.needs_input_grad)
        for heads, asked, seen in _parts(query_NTD, bias):
            weights_GQK = _weights(query_NTD, key_NTD, bias, (heads, asked, seen))
            output_NTD[heads, asked] = weights_GQK @ value_NTD[heads, seen]
            if keeping:
                kept.append(weights_GQK)
        context.save_for_backward(query_NTD, key_NTD, value_NTD, bias, *kept)
        context.scaling = scaling
        return output_NTD

    @staticmethod
    def backward(context: Any, gradient_NTD: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """Gradients of query, key and value."""
        query_NTD, key_NTD, value_NTD, bias, *kept = context.saved_tensors
        of_query_NTD, of_key_NTD, of_value_NTD = (torch.empty_like(item) for item in (query_NTD, key_NTD, value_NTD))
        for number, (heads, asked, seen) in enumerate(_parts(query_NTD, bias)):
            weights_GQK = kept[number] if kept else _weights(query_NTD, key_NTD, bias, (heads, asked, seen))
            gradient_GQD, beta = gradient_NTD[heads, asked], int(asked.stop < query_NTD.shape[1])
            of_value_GKD, of_key_GKD = of_value_NTD[heads, seen], of_key_NTD[heads, seen]
            torch.baddbmm(of_value_GKD, weights_GQK.mT, gradient_GQD, beta=beta, out=of_value_GKD)
            of_weights_GQK = gradient_GQD @ value_NTD[heads, seen].mT
            of_scores_GQK = torch._softmax_backward_data(of_weights_GQK, weights_GQK, -1, weights_GQK.dtype)  # noqa: SLF001
            of_query_NTD[heads, asked] = of_scores_GQK @ key_NTD[heads, seen]
            torch.baddbmm(of_key_GKD, of_scores_GQK.mT, query_NTD[heads, asked], beta=beta, out=of_key_GKD)
        return of_query_NTD.mul_(context.scaling), of_key_NTD, of_value_NTD, None, None


def _parts(query_NTD: Tensor, bias: Tensor) -> Iterator[tuple[slice, slice, slice]]:
    """Which heads, which of their positions, and what these can see; of some heads the last first, which see all."""
    N, T, _ = query_NTD.shape
    block = -(-T // -(-T // BLOCK))
    several = N // len(bias) if bias.ndim == 3 else 1  # heads of one sequence, which share a bias
    together = several * max(1, SCORES // (several * block * T))
    for head in range(0, N, together):
        for start in reversed(range(0, T, block)):
            end = min(T, start + block)
            yield slice(head, min(N, head + together)), slice(start, end), slice(0, end)


def _weights(query_NTD: Tensor, key_NTD: Tensor, bias: Tensor, part: tuple[slice, slice, slice]) -> Tensor:
    """How much each position asked looks at each that it sees, (G, Q, K); the queries are scaled already."""
    heads, asked, seen = part
    scores_GQK = query_NTD[heads, asked] @ key_NTD[heads, seen].mT
    if bias.ndim == 3:
        several = len(query_NTD) // len(bias)
        sequences = slice(heads.start // several, heads.stop // several)
        scores_GQK.view(-1, several, *scores_GQK.shape[1:]).add_(bias[sequences, None, asked, seen])
    else:
        scores_GQK.add_(bias[asked, seen])
    return scores_GQK.softmax(-1)

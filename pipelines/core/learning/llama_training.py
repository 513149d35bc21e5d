"""The body of a Llama where it learns on a CPU: what its modules compute, in fewer passes over the memory.

At a few million parameters half of a step is what stands between the matrix products: transformers' modules read and
write each activation some thirty times a layer, and autograd as often again. Here a norm is one step, and so is the way
from the product of queries, keys and values to the heads; each has its gradient by formula. The mask of packed
documents is made once for all layers.

Shapes: B sequences, T positions, C width of the model, I width of the feed-forward, X width of several layers, H heads,
K heads of keys and values, E = H + 2 K, D width of a head.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.core.learning import attention, plain_llama


def fits(body: Any) -> bool:
    """Whether `hidden` computes what the body of a model would, with and without gradients."""
    return (
        plain_llama.is_plain(body)
        and attention.is_fastest(body)
        and not (body.config.attention_dropout or body.gradient_checkpointing)
    )


def hidden(
    body: Any,
    embedded_BTC: Tensor,
    positions_BT: Tensor | None,
    *,
    precision: torch.dtype,
    rectangles: Sequence[tuple[int, int]] | None = None,
    places_K: Tensor | None = None,
) -> Tensor:
    """The last hidden states (B, T, C), in the precision asked for, to which weights are cast.

    Args:
        body: A `LlamaModel`.
        embedded_BTC: Embeddings of the tokens. What the layers add up is kept in their precision.
        positions_BT: Of each token in its document; where one is not the next, another document begins.
        precision: Of all that a layer computes.
        rectangles: Sequences and positions of each, where the only row holds rectangles (`side_by_side`).
        places_K: Which positions' states are wanted, (B, K, C) then; all without it.
    """
    x_BTC = embedded_BTC
    if positions_BT is None:
        positions_BT = torch.arange(x_BTC.shape[1], device=x_BTC.device)[None]
    like = x_BTC.new_empty(0, dtype=precision)
    cosine_BTD, sine_BTD = plain_llama.turns(body.rotary_emb, like, positions_BT)
    turns = cosine_BTD[:, None], sine_BTD[:, None]
    mask_B1TT = None if rectangles else attention.packed_mask(positions_BT, precision)
    for layer in body.layers:
        normed_BTC = _normed(layer.input_layernorm, x_BTC, precision)
        seen_BTC = _attention(layer.self_attn, normed_BTC, turns, mask_B1TT, rectangles)
        if places_K is not None and layer is body.layers[-1]:  # nobody looks at the others any more
            x_BTC, seen_BTC = x_BTC[:, places_K], seen_BTC[:, places_K]
        x_BTC = x_BTC + _linear(seen_BTC, layer.self_attn.o_proj)
        x_BTC = x_BTC + _feed_forward(layer.mlp, _normed(layer.post_attention_layernorm, x_BTC, precision))
    return _normed(body.norm, x_BTC, precision)


def _attention(
    module: Any,
    x_BTC: Tensor,
    turns: tuple[Tensor, Tensor],
    mask_B1TT: Tensor | None,
    rectangles: Sequence[tuple[int, int]] | None,
) -> Tensor:
    """What each position sees of those up to itself, all heads side by side."""
    all_BTX = _linear(x_BTC, module.q_proj, module.k_proj, module.v_proj)
    all_BTED, kv_heads = torch.unflatten(all_BTX, -1, (-1, module.head_dim)), module.config.num_key_value_heads
    query_BHTD, key_BKTD, value_BKTD = TurnedHeads.apply(all_BTED, *turns, kv_heads)  # type: ignore[no-untyped-call]
    seen_BTHD, _ = attention.causal_attention(
        module, query_BHTD, key_BKTD, value_BKTD, mask_B1TT, module.scaling, rectangles=rectangles
    )
    return seen_BTHD.flatten(2)


def _feed_forward(module: Any, x_BTC: Tensor) -> Tensor:
    gate_BTI, up_BTI = _linear(x_BTC, module.gate_proj), _linear(x_BTC, module.up_proj)
    return _linear(functional.silu(gate_BTI) * up_BTI, module.down_proj)


def _linear(x_BTC: Tensor, *layers: nn.Linear) -> Tensor:
    """One product for layers that read the same."""
    y_BTX = x_BTC @ torch.cat([layer.weight.to(x_BTC.dtype) for layer in layers]).mT
    biases = [layer.bias.to(x_BTC.dtype) for layer in layers if layer.bias is not None]
    return y_BTX.add_(torch.cat(biases)) if biases else y_BTX


def _normed(norm: Any, x_BTC: Tensor, precision: torch.dtype) -> Tensor:
    normed_BTC: Tensor = Norm.apply(x_BTC, norm.weight, norm.variance_epsilon, precision)  # type: ignore[no-untyped-call]
    return normed_BTC


class Norm(torch.autograd.Function):
    """`apply(x, weight, epsilon, precision)`: root mean square norm of the rows of x.

    Source: Zhang and Sennrich 2019, arXiv:1910.07467.
    y = u w with u = x r and r = (mean(x^2) + epsilon)^-1/2, so dx = r (g - u mean(g u)) with g = w dy. Computed in
    float32 at least, and rounded once.
    """

    @staticmethod
    def forward(context: Any, x_BTC: Tensor, weight_C: Tensor, epsilon: float, precision: torch.dtype) -> Tensor:
        """y, in this precision."""
        wide_BTC = _wide(x_BTC)
        scale_BT1 = wide_BTC.square().mean(-1, keepdim=True).add_(epsilon).rsqrt_()
        context.save_for_backward(x_BTC, weight_C, scale_BT1)
        return wide_BTC.mul_(scale_BT1).mul_(weight_C).to(precision)

    @staticmethod
    def backward(context: Any, gradient_BTC: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Gradients of x and weight."""
        x_BTC, weight_C, scale_BT1 = context.saved_tensors
        unit_BTC, wide_BTC = _wide(x_BTC).mul_(scale_BT1), _wide(gradient_BTC)
        of_weight_C = (unit_BTC * wide_BTC).flatten(0, -2).sum(0)
        wide_BTC.mul_(weight_C)
        mean_BT1 = (unit_BTC * wide_BTC).mean(-1, keepdim=True)
        of_x_BTC = wide_BTC.addcmul_(unit_BTC, mean_BT1, value=-1).mul_(scale_BT1)
        return of_x_BTC.to(x_BTC.dtype), of_weight_C, None, None


def _wide(x: Tensor) -> Tensor:
    """A copy in float32, or in what is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32), copy=True)


class TurnedHeads(torch.autograd.Function):
    """`apply(all, cosine, sine, kv_heads)`: queries (B, H, T, D), keys and values (B, K, T, D) of all (B, T, E, D).

    Queries and keys are turned by their positions (Su et al. 2021, arXiv:2104.09864), so the gradient is turned back.
    """

    @staticmethod
    def forward(context: Any, all_BTED: Tensor, *turns: Any) -> tuple[Tensor, ...]:
        """All in the order in which attention reads them."""
        cosine_B1TD, sine_B1TD, kv_heads = turns
        context.save_for_backward(cosine_B1TD, sine_B1TD)
        query, key, value = (part.transpose(1, 2).contiguous() for part in _parts(all_BTED, kv_heads))
        return plain_llama.turned(query, cosine_B1TD, sine_B1TD), plain_llama.turned(key, cosine_B1TD, sine_B1TD), value

    @staticmethod
    def backward(context: Any, *of_parts: Tensor) -> tuple[Tensor, None, None, None]:
        """The gradient of all."""
        cosine_B1TD, sine_B1TD = context.saved_tensors
        (query_BHTD, key_BKTD, value_BKTD), (B, H, T, D) = of_parts, of_parts[0].shape
        back = [plain_llama.turned(part, cosine_B1TD, -sine_B1TD) for part in (query_BHTD, key_BKTD)]
        K = key_BKTD.shape[1]
        of_all_BTED = query_BHTD.new_empty(B, T, H + 2 * K, D)
        for place, part in zip(_parts(of_all_BTED, K), [*back, value_BKTD], strict=True):
            place.copy_(part.transpose(1, 2))
        return of_all_BTED, None, None, None


def _parts(all_BTED: Tensor, kv_heads: int) -> Sequence[Tensor]:
    return torch.split(all_BTED, [all_BTED.shape[2] - 2 * kv_heads, kv_heads, kv_heads], dim=2)

"""Causal attention by plain matrix products, for training on CPUs.

On a CPU torch's fused attention takes 18 ms forward and backward for 8 sequences of 256 in bfloat16 (4 heads of 32,
one thread); two batched products with a softmax take 6 ms. The fused one wins where scores would not fit the cache.

Shapes: B sequences, H heads, K heads of keys and values, T positions, D width of a head, N = B x H.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NAME = "causal_matmul"
LONGEST = 512
"""Beyond so many positions the fused attention is used."""


def use_fastest(model: Any, *, device: "torch.device", context: int) -> None:
    """Choose the attention of a model whose every position sees all before it, for training without left padding.

    Set it back with `model.set_attn_implementation("sdpa")` before decoding.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, causal_attention)
    AttentionMaskInterface.register(NAME, _padding)
    model.set_attn_implementation(NAME if device.type == "cpu" and context <= LONGEST else "sdpa")


def causal_attention(
    _module: "torch.nn.Module",
    query_BHTD: "Tensor",
    key_BKTD: "Tensor",
    value_BKTD: "Tensor",
    mask_BT: "Tensor | None",
    scaling: float,
    **_options: Any,
) -> "tuple[Tensor, None]":
    """Softmax attention over all positions up to the own one; the result is (B, T, H, D).

    Padding on the right is never seen by what stands before it, so the mask is not needed.

    Raises:
        ValueError: for padding on the left or cached keys, which would be silently wrong.
    """
    import torch

    B, H, T, D = query_BHTD.shape
    if key_BKTD.shape[2] != T or (mask_BT is not None and not bool(mask_BT[:, 0].all())):
        raise ValueError(f"{NAME} is for training without left padding: set the attention to sdpa before decoding")
    groups = H // key_BKTD.shape[1]
    if groups > 1:
        key_BKTD, value_BKTD = (kept.repeat_interleave(groups, dim=1) for kept in (key_BKTD, value_BKTD))
    query_NTD, key_NTD, value_NTD = (part.reshape(B * H, T, D) for part in (query_BHTD, key_BKTD, value_BKTD))
    scores_NTT = torch.baddbmm(_causal_bias(T, query_NTD.dtype), query_NTD, key_NTD.transpose(1, 2), alpha=scaling)
    output_NTD = torch.bmm(scores_NTT.softmax(-1), value_NTD)
    return output_NTD.view(B, H, T, D).transpose(1, 2).contiguous(), None


def _padding(*, attention_mask: "Tensor | None" = None, **_facts: Any) -> "Tensor | None":
    return attention_mask


def _causal_bias(length: int, dtype: "torch.dtype") -> "Tensor":
    import torch

    return torch.full((length, length), float("-inf"), dtype=dtype).triu(1)

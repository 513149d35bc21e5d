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
PLAIN = frozenset({"gpt2", "llama", "mistral", "qwen2", "qwen3"})
"""Types of model whose attention is causal softmax over scaled products and nothing besides: no bias by distance (as
ALiBi), no cap on the scores, no sinks, no looking ahead."""


def use_fastest(model: Any, *, device: "torch.device", context: int) -> None:
    """Choose the attention of a model whose every position sees all before it, for training without left padding.

    Models that are not `PLAIN`, or look back over a window shorter than `context`, keep the one they have.
    Set it back with `model.set_attn_implementation("sdpa")` before decoding.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    window = getattr(model.config, "sliding_window", None)
    if model.config.model_type not in PLAIN or (window is not None and window < context):
        return

    AttentionInterface.register(NAME, causal_attention)
    AttentionMaskInterface.register(NAME, _mask)
    model.set_attn_implementation(NAME if device.type == "cpu" and context <= LONGEST else "sdpa")


def causal_attention(
    _module: "torch.nn.Module",
    query_BHTD: "Tensor",
    key_BKTD: "Tensor",
    value_BKTD: "Tensor",
    mask: "Tensor | None",
    scaling: float,
    **_options: Any,
) -> "tuple[Tensor, None]":
    """Softmax attention over all positions up to the own one; the result is (B, T, H, D).

    `mask` is (B, T), 0 where padded: padding on the right is never seen by what stands before it, so it is not needed.
    Or it is (B, 1, T, T), what is added to the scores of the position (third) for another (last): packed documents.

    Raises:
        ValueError: for padding on the left or cached keys, which would be silently wrong.
    """
    import torch

    B, H, T, D = query_BHTD.shape
    padded = mask is not None and mask.ndim == 2 and not bool(mask[:, 0].all())
    if key_BKTD.shape[2] != T or padded:
        raise ValueError(f"{NAME} is for training without left padding: set the attention to sdpa before decoding")
    groups = H // key_BKTD.shape[1]
    if groups > 1:
        key_BKTD, value_BKTD = (kept.repeat_interleave(groups, dim=1) for kept in (key_BKTD, value_BKTD))
    query_NTD, key_NTD, value_NTD = (part.reshape(B * H, T, D) for part in (query_BHTD, key_BKTD, value_BKTD))
    bias = _causal_bias(T, query_NTD.dtype)
    if mask is not None and mask.ndim == 4:
        bias = mask.to(query_NTD.dtype).expand(B, H, T, T).flatten(0, 1)
    scores_NTT = torch.baddbmm(bias, query_NTD, key_NTD.transpose(1, 2), alpha=scaling)
    output_NTD = torch.bmm(scores_NTT.softmax(-1), value_NTD)
    return output_NTD.view(B, H, T, D).transpose(1, 2).contiguous(), None


def _mask(
    *, attention_mask: "Tensor | None" = None, allow_is_causal_skip: bool = True, **facts: Any
) -> "Tensor | None":
    """The mask that `causal_attention` takes; transformers finds packed documents by positions that begin anew."""
    import torch
    from transformers.masking_utils import sdpa_mask

    if allow_is_causal_skip or attention_mask is not None:
        return attention_mask
    seen_B1TT = sdpa_mask(attention_mask=None, allow_is_causal_skip=False, **facts)
    return torch.zeros(seen_B1TT.shape).masked_fill_(~seen_B1TT, float("-inf"))


def _causal_bias(length: int, dtype: "torch.dtype") -> "Tensor":
    import torch

    return torch.full((length, length), float("-inf"), dtype=dtype).triu(1)

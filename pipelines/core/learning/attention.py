"""Causal attention by plain matrix products, for training on CPUs.

On two cores with bfloat16 torch's fused attention takes 88 ms forward and backward for 32 sequences of 256 (10 heads of
32), plain products and a softmax of all scores at once 86 ms, and products block by block (`attention_blocks`) 37 ms.

It also reads sequences that stand side by side in one row (`side_by_side`).

Shapes: B sequences, H heads, K heads of keys and values, T positions, D width of a head, N = B x H, P positions of all
rectangles.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NAME = "causal_matmul"
LONGEST = 1024
"""Beyond this many positions the fused attention, which is as fast there in float32, is used."""
PLAIN = frozenset({"gpt2", "llama", "mistral", "qwen2", "qwen3"})
"""Types of model whose attention is causal softmax over scaled products and nothing besides: no bias by distance (as
ALiBi), no cap on the scores, no sinks, no looking ahead; whose logits are a linear layer of the last hidden state."""


def is_fastest(model: Any) -> bool:
    """Whether a model has the attention of this module, and hence reads what is laid out `side_by_side`."""
    return bool(model.config._attn_implementation == NAME)  # noqa: SLF001  there is no public reader


def use_fastest(model: Any, *, device: "torch.device", context: int) -> None:
    """Choose the attention of a model whose every position sees all before it, for training without left padding.

    Models that are not `PLAIN`, or look back over a window shorter than `context`, keep the one they have. What is
    longer than `context` after all is read as rightly, only not as fast.
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
    *,
    rectangles: Sequence[tuple[int, int]] | None = None,
    sliding_window: int | None = None,
    **_options: Any,
) -> "tuple[Tensor, None]":
    """Softmax attention over all positions up to and including its own; the result is (B, T, H, D).

    With `rectangles` the only row holds that many sequences of that many positions each, one after the other. Of a
    `sliding_window` only this many positions are seen, its own included.

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
    heads = [part_BHTD.to(value_BKTD.dtype) for part_BHTD in (query_BHTD, key_BKTD, value_BKTD)]
    if rectangles:
        sizes = [rows * length for rows, length in rectangles]
        query, key, value = (torch.split(part_1HPD, sizes, dim=2) for part_1HPD in heads)
        blocks = []
        for (rows, length), *parts in zip(rectangles, query, key, value, strict=True):
            bias = _causal_bias(length, sliding_window, value_BKTD.dtype)
            output_NTD = _attend([part.reshape(H * rows, length, D) for part in parts], bias, scaling)
            blocks.append(output_NTD.view(H, rows * length, D).transpose(0, 1))
        return torch.cat(blocks)[None], None
    bias = _causal_bias(T, sliding_window, value_BKTD.dtype)
    if mask is not None and mask.ndim == 4:
        bias = mask[:, 0].to(value_BKTD.dtype)
    output_NTD = _attend([part.reshape(B * H, T, D) for part in heads], bias, scaling)
    return output_NTD.view(B, H, T, D).transpose(1, 2).contiguous(), None


def _attend(heads_NTD: "Sequence[Tensor]", bias: "Tensor", scaling: float) -> "Tensor":
    import torch

    from pipelines.core.learning.attention_blocks import BlockAttention

    if torch.compiler.is_compiling():  # which fuses what is between the products
        query_NTD, key_NTD, value_NTD = heads_NTD
        bias = bias if bias.ndim == 2 else bias.repeat_interleave(len(query_NTD) // len(bias), dim=0)
        return torch.baddbmm(bias, query_NTD, key_NTD.mT, alpha=scaling).softmax(-1) @ value_NTD
    output_NTD: Tensor = BlockAttention.apply(*heads_NTD, bias, scaling)  # type: ignore[no-untyped-call]
    return output_NTD


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


def packed_mask(positions_BT: "Tensor", dtype: "torch.dtype") -> "Tensor | None":
    """The mask (B, 1, T, T) of documents one after the other, which begin where a position is not the next.

    None where each row is one document.
    """
    import torch

    borders_BT = positions_BT.diff(dim=-1) != 1
    if not borders_BT.any():
        return None
    document_BT = torch.nn.functional.pad(borders_BT, (1, 0)).cumsum(-1, dtype=torch.int32)
    other_BTT = document_BT[:, :, None] != document_BT[:, None, :]
    return _causal_bias(positions_BT.shape[1], None, dtype).masked_fill(other_BTT, float("-inf"))[:, None]


def _causal_bias(length: int, window: int | None, dtype: "torch.dtype") -> "Tensor":
    import torch

    hidden_TT = torch.full((length, length), float("-inf"), dtype=dtype)
    if window is None or window >= length:
        return hidden_TT.triu(1)
    return hidden_TT.triu(1) + hidden_TT.tril(-window)

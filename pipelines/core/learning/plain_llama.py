"""A Llama as transformers has it, for those who compute it without its modules: whether it is one, and its positions.

Shapes: B sequences, T positions, D width of a head.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.models.llama import modeling_llama as llama

if TYPE_CHECKING:
    from torch import Tensor

PARTS = frozenset(
    {
        nn.Embedding,
        nn.Linear,
        nn.ModuleList,
        nn.SiLU,
        type(ACT2FN["silu"]),
        llama.LlamaForCausalLM,
        llama.LlamaModel,
        llama.LlamaDecoderLayer,
        llama.LlamaAttention,
        llama.LlamaMLP,
        llama.LlamaRMSNorm,
        llama.LlamaRotaryEmbedding,
    }
)
"""All that a Llama consists of."""
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def is_plain(model: Any) -> bool:
    """Whether a model is a Llama, or the body of one, in which nothing was replaced, added, hooked or patched."""
    return type(model) in (llama.LlamaForCausalLM, llama.LlamaModel) and all(
        type(part) in PARTS and "forward" not in vars(part) and not any(getattr(part, hooks) for hooks in HOOKS)
        for part in model.modules()
    )


def turns(rotary: nn.Module, like: "Tensor", positions_BT: "Tensor") -> "tuple[Tensor, Tensor]":
    """Cosines and sines (B, T, D) as `turned` takes them, from a model's rotary module, in the precision of `like`."""
    cosine_BTD, sine_BTD = rotary(like, positions_BT)
    first, second = sine_BTD.chunk(2, dim=-1)
    return cosine_BTD, torch.cat([-first, second], dim=-1)


def turned(heads: "Tensor", cosine: "Tensor", sine: "Tensor") -> "Tensor":
    """Heads, whose last dimension is D, turned by their positions (Su et al. 2021, arXiv:2104.09864).

    Numbers f and f + D / 2 of a head are a pair (a, b), which becomes (a cos - b sin, b cos + a sin); the minus is in
    the sines.
    """
    return (heads * cosine).addcmul_(heads.roll(heads.shape[-1] // 2, dims=-1), sine)

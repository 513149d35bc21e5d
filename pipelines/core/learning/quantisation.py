"""Round weights to eight bits, one scale a row.

Shapes: O rows (outputs of a linear layer, entries of an embedding), I columns.

Only the weights are stored in eight bits; products are computed in floating point from `q_OI * scale_O1`. Symmetric,
round to nearest, as in LLM.int8 without its outlier part (Dettmers et al. 2022, arXiv:2208.07339). Names and layout are
those of the format `int-quantized` of compressed-tensors: `x.weight` (int8) beside `x.weight_scale` (float32, O x 1).
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

SCALE = "_scale"
"""What the name of a scale has more than the name of its weight."""

LARGEST = 127
"""Of the symmetric range; -128 is not used."""


def quantise(weight_OI: "Tensor") -> "tuple[Tensor, Tensor]":
    """The int8 weight (O, I) and its float32 scale (O, 1): no entry moves by more than half a scale.

    Raises:
        ValueError: when a weight is not a finite number.
    """
    import torch

    weight_OI = weight_OI.detach().float()
    scale_O1 = weight_OI.abs().amax(dim=1, keepdim=True) / LARGEST
    if not bool(torch.isfinite(scale_O1).all()):
        raise ValueError("a weight is not a finite number")
    scale_O1 = torch.where(scale_O1 == 0, 1.0, scale_O1)
    return torch.round(weight_OI / scale_O1).clamp(-LARGEST, LARGEST).to(torch.int8), scale_O1


def dequantise(q_OI: "Tensor", scale_O1: "Tensor") -> "Tensor":
    """The float32 weight (O, I) that is computed with."""
    return q_OI.float() * scale_O1.float()


def matrices(model: "nn.Module", *, embeddings: bool = True) -> list[str]:
    """Names of the weights of all linear layers, and of the embeddings if asked; shared ones under their first name.

    An output layer that shares the embeddings' weight counts as embeddings.
    """
    from torch import nn

    kinds = (nn.Linear, nn.Embedding) if embeddings else (nn.Linear,)
    shared = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    seen: set[int] = set()
    names = []
    for name, module in model.named_modules():
        if not isinstance(module, kinds) or id(module.weight) in seen:
            continue
        if isinstance(module, nn.Linear) and id(module.weight) in shared and not embeddings:
            continue
        seen.add(id(module.weight))
        names.append(f"{name}.weight")
    return names


def left_whole(model: "nn.Module") -> list[str]:
    """Names of the weights that are products of a layer and still not in `matrices`: those of GPT-2's `Conv1D`.

    They lie the other way round, and nothing that reads the format `int-quantized` looks for a scale beside them.
    """
    from transformers.pytorch_utils import Conv1D

    return [f"{name}.weight" for name, module in model.named_modules() if isinstance(module, Conv1D)]


def quantised_state(
    weights: "Mapping[str, Tensor]", names: Iterable[str], rest: "torch.dtype | None" = None
) -> "dict[str, Tensor]":
    """The tensors to store: `names` in eight bits with their scales, other matrices in `rest`, vectors as they are.

    Raises:
        ValueError: when a weight is not a finite number; it is named.
    """
    chosen = frozenset(names)
    state: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if name in chosen:
            try:
                state[name], state[name + SCALE] = quantise(tensor)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        else:
            state[name] = tensor.to(rest).contiguous() if rest is not None and tensor.ndim >= 2 else tensor.contiguous()
    return state


def dequantised_state(state: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Plain float32 weights out of what `quantised_state` made.

    Raises:
        ValueError: when an int8 tensor has no scale of its shape.
    """
    import torch

    weights: dict[str, Any] = {}
    for name, tensor in state.items():
        if name.endswith(SCALE) and name.removesuffix(SCALE) in state:
            continue
        if tensor.dtype != torch.int8:
            weights[name] = tensor.float() if tensor.is_floating_point() else tensor
            continue
        scale = state.get(name + SCALE)
        if scale is None or scale.shape != (tensor.shape[0], 1):
            raise ValueError(
                f"{name} is int8 but {name + SCALE} is {'missing' if scale is None else tuple(scale.shape)}"
            )
        weights[name] = dequantise(tensor, scale)
    return weights

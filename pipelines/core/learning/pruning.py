"""Set the least important weights of the linear layers to zero: by magnitude, or by Wanda.

Shapes: O outputs of a linear layer, I inputs, N calibration tokens.

Magnitude (Han et al. 2015, arXiv:1506.02626): the smallest |W| of each layer go. Wanda (Sun et al. 2023,
arXiv:2306.11695): within each output row the smallest |W_oi| * ||X_i||_2 go, X (N, I) being the layer's inputs on
calibration text. Embeddings and the output layer stay whole, as in both papers. GPT-2's `Conv1D` is a linear layer that
keeps its weight the other way round, (I, O).
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


def prunable(model: Any) -> "dict[str, nn.Module]":
    """The linear layers by name, all but the output layer."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    head, kinds = model.get_output_embeddings(), (nn.Linear, Conv1D)
    return {name: part for name, part in model.named_modules() if isinstance(part, kinds) and part is not head}


def weight_by_outputs(layer: Any) -> "Tensor":
    """The weight (O, I) of a prunable layer, however it keeps it; to write into it changes the layer."""
    from torch import nn

    weight: Tensor = layer.weight.data
    return weight if isinstance(layer, nn.Linear) else weight.T


def input_norms(model: Any, batches: "Iterable[Tensor]") -> "dict[str, Tensor]":
    """For each prunable layer the norm of each input over all tokens, (I,), float64 accumulated.

    Args:
        model: Any causal language model; not changed.
        batches: Token ids (B, T) of calibration text, without padding.
    """
    import torch

    layers = prunable(model)
    squares: dict[str, Tensor] = {}

    def watch(name: str) -> Any:
        def add(_layer: Any, inputs: tuple[Any, ...], _output: Any) -> None:
            square_I = inputs[0].detach().flatten(0, -2).double().square().sum(0)
            squares[name] = squares[name] + square_I if name in squares else square_I

        return add

    hooks = [layer.register_forward_hook(watch(name)) for name, layer in layers.items()]
    try:
        with torch.inference_mode():
            for ids_BT in batches:
                model(input_ids=ids_BT.to(model.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: square_I.sqrt().float() for name, square_I in squares.items()}


def prune_by_magnitude(model: Any, sparsity: float) -> None:
    """Set the share `sparsity` of each prunable layer to zero, in place."""
    for layer in prunable(model).values():
        weight: Any = layer.weight
        _zero_smallest(weight.data.view(1, -1), weight.detach().abs().view(1, -1), sparsity)


def prune_by_wanda(model: Any, sparsity: float, norms: "Mapping[str, Tensor]") -> None:
    """Set the share `sparsity` of each row of each prunable layer to zero, in place; `norms` from `input_norms`."""
    for name, layer in prunable(model).items():
        weight = weight_by_outputs(layer)
        _zero_smallest(weight, weight.abs() * norms[name].to(weight), sparsity)


def _zero_smallest(weight: "Tensor", importance: "Tensor", sparsity: float) -> None:
    """Zero round(sparsity * columns) entries of each row of `weight`, those of least `importance`; ties: the first."""
    count = round(sparsity * weight.shape[1])
    least = importance.float().argsort(dim=1, stable=True)[:, :count]
    weight.scatter_(1, least, 0)


def nonzero_share(weights: "Mapping[str, Tensor]") -> float:
    """Share of all weights that are not zero."""
    total = sum(tensor.numel() for tensor in weights.values())
    return sum(int(tensor.count_nonzero()) for tensor in weights.values()) / max(total, 1)


def sparse_bytes(weights: "Mapping[str, Tensor]", itemsize: int = 2) -> int:
    """Bytes that the weights would need as a bit mask with the non-zero values, where that is less than all values."""
    total = 0
    for tensor in weights.values():
        mask = -(-tensor.numel() // 8)
        total += min(tensor.numel() * itemsize, mask + int(tensor.count_nonzero()) * itemsize)
    return total

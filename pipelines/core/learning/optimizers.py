"""Optimisers by name, over the trainable weights of a model."""

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch
    from torch import nn

Name = Literal["adamw", "muon"]


def build(name: Name, model: "nn.Module", *, weight_decay: float) -> "torch.optim.Optimizer":
    """The optimiser `name`; its learning rate is set by the schedule before each step."""
    return {"adamw": adamw, "muon": muon}[name](model, weight_decay=weight_decay)


def adamw(model: "nn.Module", *, weight_decay: float, betas: tuple[float, float] = (0.9, 0.95)) -> "torch.optim.AdamW":
    """AdamW (arXiv:1711.05101); matrices are decayed, vectors are not."""
    import torch

    weights = [weight for weight in model.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in weights if weight.ndim >= 2], "weight_decay": weight_decay},
        {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=0.0, betas=betas, fused=True)


def muon(model: "nn.Module", *, weight_decay: float) -> "torch.optim.Optimizer":
    """Muon (Jordan et al. 2024) for the matrices between the embeddings, AdamW without decay for everything else.

    Updates are scaled to the root mean square of AdamW's (Liu et al. 2025, arXiv:2502.16982), so that one learning rate
    serves both. Embeddings stay with AdamW, as both papers advise.
    """
    import torch

    embeddings = {id(weight) for weight in _embeddings(model)}
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    matrices = [weight for weight in weights if weight.ndim == 2 and id(weight) not in embeddings]
    chosen = {id(weight) for weight in matrices}
    others = [weight for weight in weights if id(weight) not in chosen]
    return _pair(
        torch.optim.Muon(matrices, lr=0.0, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=0.0, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    )


def _embeddings(model: Any) -> "list[torch.Tensor]":
    layers = [model.get_input_embeddings(), model.get_output_embeddings()]
    return [layer.weight for layer in layers if layer is not None]


def _pair(first: "torch.optim.Optimizer", second: "torch.optim.Optimizer") -> "torch.optim.Optimizer":
    """Two optimisers over different weights as one, with one state that can be saved and put back."""
    import torch

    class Pair(torch.optim.Optimizer):
        def __init__(self) -> None:
            super().__init__([*first.param_groups, *second.param_groups], {})
            self.param_groups = [*first.param_groups, *second.param_groups]

        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            first.step(closure)
            second.step()

        def state_dict(self) -> dict[str, Any]:
            head, tail = first.state_dict(), second.state_dict()
            moved = {index + _count(first): values for index, values in tail["state"].items()}
            return {"state": {**head["state"], **moved}, "param_groups": [*head["param_groups"], *tail["param_groups"]]}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            border = _count(first)
            head = {index: values for index, values in state_dict["state"].items() if index < border}
            tail = {index - border: values for index, values in state_dict["state"].items() if index >= border}
            first.load_state_dict({**first.state_dict(), "state": head})
            second.load_state_dict({**second.state_dict(), "state": tail})
            self.param_groups = [*first.param_groups, *second.param_groups]

    return Pair()


def _count(optimizer: "torch.optim.Optimizer") -> int:
    return sum(len(group["params"]) for group in optimizer.param_groups)

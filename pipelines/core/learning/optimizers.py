"""Optimisers by name, over the trainable weights of a model."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch
    from torch import nn

Name = Literal["adamw", "muon"]


def build(
    name: Name,
    model: "nn.Module",
    *,
    weight_decay: float,
    learning_rate: float = 0.0,
    precision: "torch.dtype | None" = None,
) -> "torch.optim.Optimizer":
    """The optimiser `name`; a schedule may set its learning rate before each step.

    Weights and moments keep the precision of the model; matrix products, which Muon has, are computed in `precision`.
    """
    optimizer = (
        muon(model, weight_decay=weight_decay, precision=precision)
        if name == "muon"
        else adamw(model, weight_decay=weight_decay)
    )
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    return optimizer


def adamw(model: "nn.Module", *, weight_decay: float, betas: tuple[float, float] = (0.9, 0.95)) -> "torch.optim.AdamW":
    """AdamW (arXiv:1711.05101); matrices are decayed, vectors are not."""
    import torch

    weights = [weight for weight in model.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in weights if weight.ndim >= 2], "weight_decay": weight_decay},
        {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=0.0, betas=betas, fused=True)


def muon(model: "nn.Module", *, weight_decay: float, precision: "torch.dtype | None" = None) -> "torch.optim.Optimizer":
    """Muon (Jordan et al. 2024) for the matrices between the embeddings, AdamW without decay for everything else.

    Embeddings stay with AdamW, as its authors advise; one learning rate serves both (see `_muon_class`).
    """
    import torch

    embeddings = {id(weight) for weight in _embeddings(model)}
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    matrices = [weight for weight in weights if weight.ndim == 2 and id(weight) not in embeddings]
    chosen = {id(weight) for weight in matrices}
    others = [weight for weight in weights if id(weight) not in chosen]
    return _pair(
        _muon_class()(matrices, weight_decay=weight_decay, precision=precision),
        torch.optim.AdamW(others, lr=0.0, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    )


def orthogonalised(
    matrices_GMN: "torch.Tensor", steps: int = 5, precision: "torch.dtype | None" = None
) -> "torch.Tensor":
    """The nearest matrices with singular values near 1, by the quintic Newton-Schulz iteration of Jordan et al. 2024.

    G matrices of M x N at once. All singular values end between 0.7 and 1.2 (small ones of the input less). It bears
    being computed in bfloat16, its authors say; without `precision` it is computed in that of the input.
    """
    import torch

    wide = matrices_GMN.shape[1] <= matrices_GMN.shape[2]
    x_GMN: torch.Tensor = matrices_GMN if wide else matrices_GMN.mT
    x_GMN = (x_GMN / x_GMN.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)).to(precision)
    for _ in range(steps):
        gram_GMM = x_GMN @ x_GMN.mT
        factor_GMM = torch.baddbmm(gram_GMM, gram_GMM, gram_GMM, beta=-4.7750, alpha=2.0315)
        x_GMN = torch.baddbmm(x_GMN, factor_GMM, x_GMN, beta=3.4445)
    return x_GMN if wide else x_GMN.mT


def _muon_class() -> "Callable[..., torch.optim.Optimizer]":
    import torch

    class Muon(torch.optim.Optimizer):
        """torch.optim.Muon with matrices of one shape in one product, in the precision that the machine is fast in.

        torch's takes them one by one and always in bfloat16, which a CPU without bfloat16 has to emulate: there a step
        of a small model takes six times as long. Updates are scaled to the root mean square of AdamW's (Liu et al.
        2025, arXiv:2502.16982, equation 4); momentum is Nesterov's.
        """

        def __init__(
            self,
            weights: "Sequence[torch.Tensor]",
            *,
            weight_decay: float,
            momentum: float = 0.95,
            precision: torch.dtype | None = None,
        ) -> None:
            super().__init__(weights, {"lr": 0.0, "weight_decay": weight_decay, "momentum": momentum})
            self.precision = precision

        @torch.no_grad()
        def step(self, closure: Any = None) -> None:  # type: ignore[override]  # the loop needs no loss back
            for group in self.param_groups:
                trained = [weight for weight in group["params"] if weight.grad is not None]
                for shape in sorted({weight.shape for weight in trained}):
                    self._update([weight for weight in trained if weight.shape == shape], group)

        def _update(self, weights: "Sequence[torch.Tensor]", group: dict[str, Any]) -> None:
            moments = [self._moment(weight) for weight in weights]
            gradients = [weight.grad for weight in weights if weight.grad is not None]
            scale = group["lr"] * 0.2 * math.sqrt(max(weights[0].shape))
            ahead = []
            for moment, gradient in zip(moments, gradients, strict=True):
                moment.lerp_(gradient, 1 - group["momentum"])
                ahead.append(gradient.lerp(moment, group["momentum"]))
            updates = orthogonalised(torch.stack(ahead), precision=self.precision)
            for weight, update in zip(weights, updates, strict=True):
                weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-scale)

        def _moment(self, weight: "torch.Tensor") -> "torch.Tensor":
            state = self.state[weight]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(weight)
            moment: torch.Tensor = state["momentum_buffer"]
            return moment

    return Muon


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

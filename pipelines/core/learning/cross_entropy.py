"""Cross-entropy of a linear layer's answers, some rows at a time, so that the answers never fill the memory.

The logits of a vocabulary, in float32 and with their gradient, take many times what the model takes beside them. Here
a few rows are made, held against their targets and turned into gradients while they are in the cache, in the forward
pass already: with them the backward pass has nothing left to compute. In the spirit of Wijmans et al. 2024
(arXiv:2411.09009) and of the linear cross-entropy in Liger Kernel (Hsu et al. 2024, arXiv:2410.10989).

Shapes: N rows, D width of the model, V entries of the vocabulary, R rows at a time.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

LOGITS = {"cpu": 2**18}
"""Logits computed at once, about, by type of device: 1 MiB in float32."""
LOGITS_ELSEWHERE = 2**27
NOT_ASKED = -100


class LinearCrossEntropy(torch.autograd.Function):
    """`apply(hidden, weight, targets, precision, sum_up)`: nats, the mean over the targets asked or their sum.

    Hidden states are (N, D), the layer's weight (V, D), targets (N), `NOT_ASKED` where nothing is asked; products are
    computed in `precision`, the softmax in float32.
    """

    @staticmethod
    def forward(
        context: Any, hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, precision: torch.dtype, sum_up: bool
    ) -> Tensor:
        """The loss; where gradients are wanted, these as well."""
        asked_N = targets_N != NOT_ASKED
        share = 1.0 if sum_up else 1.0 / max(1, int(asked_N.sum()))
        layer_VD, total = weight_VD.to(precision), torch.zeros((), device=hidden_ND.device)
        learning = any(context.needs_input_grad[:2])
        of_hidden_ND, of_weight_VD = torch.zeros_like(hidden_ND), torch.zeros_like(weight_VD)
        several = max(1, LOGITS.get(hidden_ND.device.type, LOGITS_ELSEWHERE) // len(weight_VD))
        for start in range(0, len(hidden_ND), several):
            rows = slice(start, start + several)
            hidden_RD = hidden_ND[rows].to(precision)
            says_RV = functional.log_softmax((hidden_RD @ layer_VD.mT).float(), dim=-1)
            total += functional.nll_loss(says_RV, targets_N[rows], ignore_index=NOT_ASKED, reduction="sum")
            if not learning:
                continue
            of_logits_RV = says_RV.exp_()
            one_R1 = torch.full((len(hidden_RD), 1), -1.0, device=hidden_ND.device)
            of_logits_RV.scatter_add_(1, targets_N[rows].clamp(min=0)[:, None], one_R1)
            of_logits_RV.mul_((asked_N[rows] * share)[:, None])
            of_logits_RV = of_logits_RV.to(precision)
            of_hidden_ND[rows] = of_logits_RV @ layer_VD
            of_weight_VD += of_logits_RV.mT @ hidden_RD
        context.save_for_backward(of_hidden_ND, of_weight_VD)
        return total * share

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        """Gradients of the hidden states and of the weight."""
        of_hidden_ND, of_weight_VD = context.saved_tensors
        return of_hidden_ND * gradient, of_weight_VD * gradient, None, None, None

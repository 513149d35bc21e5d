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

from pipelines.core.learning.padding import IGNORED

LOGITS = {"cpu": 2**19}
"""Logits computed at once, about, by type of device: 2 MiB in float32."""
LOGITS_ELSEWHERE = 2**27
LEAST = 2.0**-126
"""Of a probability that is learnt from: no token costs more than 87 nats."""


class LinearCrossEntropy(torch.autograd.Function):
    """`apply(hidden, weight, targets, precision, sum_up)`: nats, the mean over the targets asked or their sum.

    Hidden states are (N, D), the layer's weight (V, D), targets (N), `IGNORED` where nothing is asked; products are
    computed in `precision`, the softmax in float32.
    """

    @staticmethod
    def forward(
        context: Any, hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, precision: torch.dtype, sum_up: bool
    ) -> Tensor:
        """The loss; where gradients are wanted, these as well."""
        asked_N = targets_N != IGNORED
        share = 1.0 if sum_up else 1.0 / max(1, int(asked_N.sum()))
        layer_VD, total = weight_VD.to(precision), torch.zeros((), device=hidden_ND.device)
        learning = any(context.needs_input_grad[:2])
        of_hidden_ND, of_weight_VD = torch.zeros_like(hidden_ND), torch.zeros_like(weight_VD)
        several = max(1, LOGITS.get(hidden_ND.device.type, LOGITS_ELSEWHERE) // len(weight_VD))
        for start in range(0, len(hidden_ND), several):
            rows = slice(start, start + several)
            hidden_RD = hidden_ND[rows].to(precision)
            logits_RV, targets_R = hidden_RD @ layer_VD.mT, targets_N[rows]
            if not learning:
                logits_RV = logits_RV.float()
                total += functional.cross_entropy(logits_RV, targets_R, ignore_index=IGNORED, reduction="sum")
                continue
            of_logits_RV = logits_RV.softmax(-1, dtype=torch.float32)
            target_R1, asked_R1 = targets_R.clamp(min=0)[:, None], asked_N[rows, None]
            likely_R1 = of_logits_RV.gather(1, target_R1)
            total -= (likely_R1.clamp(min=LEAST).log() * asked_R1).sum()
            of_logits_RV.scatter_(1, target_R1, likely_R1 - 1).mul_(asked_R1 * share)
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

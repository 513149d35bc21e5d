"""Choose the next tokens of many sequences at once, each by its own settings.

Shapes: R rows, V entries of the vocabulary, N alternatives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Scored:
    """A token with its natural log-probability, and the likeliest alternatives (itself among them, or not)."""

    token: int
    logprob: float
    top: list[tuple[int, float]]


def choose(
    logits_RV: "Tensor", temperatures: Sequence[float], top_ps: Sequence[float], draws: Sequence[float]
) -> "Tensor":
    """One token a row: the likeliest at temperature 0, else by nucleus sampling.

    Nucleus sampling: Holtzman et al. 2020, arXiv:1904.09751.

    Args:
        logits_RV: Scores of the next token.
        temperatures: One a row.
        top_ps: Of the softened distribution, the likeliest tokens that hold this much; one a row.
        draws: A uniform number in [0, 1) a row: the row's only source of chance, so that what one request gets does
            not depend on what others ask.

    Returns:
        Token ids (R).
    """
    import torch

    greedy_R = logits_RV.argmax(-1)
    sampled = [row for row, temperature in enumerate(temperatures) if temperature > 0]
    if not sampled:
        return greedy_R
    rows = torch.tensor(sampled, device=logits_RV.device)
    column = [(temperatures[row], top_ps[row], draws[row]) for row in sampled]
    temperature_N1, top_p_N1, draw_N1 = torch.tensor(column, dtype=torch.float64, device=rows.device).T[:, :, None]
    logits_NV = logits_RV[rows]
    logits_NV = logits_NV - logits_NV.amax(-1, keepdim=True)  # a low temperature must not overflow
    chances_NV = (logits_NV.double() / temperature_N1).softmax(-1)
    sorted_NV, order_NV = chances_NV.sort(dim=-1, descending=True, stable=True)
    below_NV = sorted_NV.cumsum(-1)
    sorted_NV = sorted_NV.masked_fill(below_NV - sorted_NV >= top_p_N1, 0.0)
    below_NV = sorted_NV.cumsum(-1)
    last_N1 = (sorted_NV > 0).sum(-1, keepdim=True) - 1
    drawn_N1 = torch.searchsorted(below_NV, draw_N1 * below_NV[:, -1:], right=True)
    chosen_N1 = order_NV.gather(1, torch.minimum(drawn_N1, last_N1))
    return greedy_R.index_copy(0, rows, chosen_N1[:, 0])


def scored(logits_RV: "Tensor", tokens: "Tensor", tops: Sequence[int]) -> list[Scored]:
    """The log-probabilities of `tokens` (R) before temperature, with the `tops[r]` likeliest alternatives."""
    logprobs_RV = logits_RV.log_softmax(-1)
    chosen_R = logprobs_RV.gather(1, tokens[:, None])[:, 0].tolist()
    if not any(tops):
        return [Scored(token, logprob, []) for token, logprob in zip(tokens.tolist(), chosen_R, strict=True)]
    values_RN, ids_RN = logprobs_RV.topk(min(max(tops), logprobs_RV.shape[1]), dim=-1)
    likeliest = zip(ids_RN.tolist(), values_RN.tolist(), strict=True)
    return [
        Scored(token, logprob, list(zip(ids, values, strict=True))[:top])
        for token, logprob, (ids, values), top in zip(tokens.tolist(), chosen_R, likeliest, tops, strict=True)
    ]

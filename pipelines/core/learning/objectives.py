"""The terms of proximal policy optimisation, as `policy_optimisation` puts them together.

Shapes: B responses in a batch, N tokens of the longest response; `mask_BN` is 1 where a token counts.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def masked_mean(x_BN: "Tensor", mask_BN: "Tensor") -> "Tensor":
    """Mean over the tokens that count."""
    return (x_BN * mask_BN).sum() / mask_BN.sum()


def whitened(x_BN: "Tensor", mask_BN: "Tensor") -> "Tensor":
    """Mean 0 and deviation 1 over the tokens that count; 0 elsewhere."""
    mean = masked_mean(x_BN, mask_BN)
    variance = masked_mean((x_BN - mean) ** 2, mask_BN)
    return (x_BN - mean) * (variance + 1e-8).rsqrt() * mask_BN


def shaped_rewards(scores_B: "Tensor", log_ratio_BN: "Tensor", mask_BN: "Tensor", kl_coefficient: float) -> "Tensor":
    """Reward of each token: the KL penalty everywhere, the score at the last one."""
    rewards_BN = -kl_coefficient * log_ratio_BN * mask_BN
    last_B1 = mask_BN.sum(dim=1, keepdim=True).long() - 1
    return rewards_BN.scatter_add(1, last_B1, scores_B[:, None])


def steered(coefficient: float, kl: float, *, target: float, responses: int, horizon: int) -> float:
    """The weight of the KL penalty after a rollout of responses, moved so that their divergence nears a target.

    e = clip((kl - target) / target, -0.2, 0.2), and the weight becomes weight (1 + e responses / horizon).
    Source: Ziegler et al. 2019, arXiv:1909.08593, section 2.2, where responses / horizon is K = 0.1.
    """
    error = min(max((kl - target) / target, -0.2), 0.2)
    return coefficient * (1 + error * responses / horizon)


def beyond_half(length: float, first: float, limit: float | None) -> float:
    """How far a length has gone from the first one beyond half of the share it may: 0 up to there, 1 at the limit.

    It grows on past the limit; without one it is 0.
    """
    return 0.0 if limit is None else max(0.0, 2 * abs(length / first - 1) / limit - 1)


def advantages(
    rewards_BN: "Tensor", values_BN: "Tensor", mask_BN: "Tensor", *, discount: float, gae_lambda: float
) -> "Tensor":
    """Generalised advantage estimates, (B, N): from the last token backwards, A_n = delta_n + gamma lambda A_{n+1}."""
    import torch

    estimates_BN = torch.zeros_like(rewards_BN)
    next_advantage_B = next_value_B = torch.zeros_like(rewards_BN[:, 0])
    for n in reversed(range(rewards_BN.shape[1])):
        delta_B = rewards_BN[:, n] + discount * next_value_B - values_BN[:, n]
        estimates_BN[:, n] = next_advantage_B = (delta_B + discount * gae_lambda * next_advantage_B) * mask_BN[:, n]
        next_value_B = values_BN[:, n] * mask_BN[:, n]
    return estimates_BN


def policy_loss(ratio_BN: "Tensor", advantages_BN: "Tensor", mask_BN: "Tensor", clip: float) -> "Tensor":
    """The clipped objective as a loss: no gain from moving the ratio further than `clip` away from 1."""
    import torch

    clipped_BN = ratio_BN.clamp(1 - clip, 1 + clip)
    return masked_mean(torch.max(-advantages_BN * ratio_BN, -advantages_BN * clipped_BN), mask_BN)


def value_loss(
    values_BN: "Tensor", old_values_BN: "Tensor", returns_BN: "Tensor", mask_BN: "Tensor", clip: float
) -> "Tensor":
    """Half the squared error; the larger of the plain and the clipped one, so that a step is never too bold."""
    import torch

    clipped_BN = torch.clamp(values_BN, old_values_BN - clip, old_values_BN + clip)
    return 0.5 * masked_mean(torch.max((values_BN - returns_BN) ** 2, (clipped_BN - returns_BN) ** 2), mask_BN)


def explained_variance(values_BN: "Tensor", returns_BN: "Tensor", mask_BN: "Tensor") -> float:
    """1: the values foresee the returns; 0: no better than their mean; below: worse."""
    error_BN = returns_BN - values_BN
    spread = masked_mean((returns_BN - masked_mean(returns_BN, mask_BN)) ** 2, mask_BN)
    left = masked_mean((error_BN - masked_mean(error_BN, mask_BN)) ** 2, mask_BN)
    return float(1 - left / (spread + 1e-8))

"""Floating-point operations of a training.

A token costs 2 N operations in a forward pass of a model of N parameters, 4 N in a backward pass (Kaplan et al. 2020,
arXiv:2001.08361, section 2.1). Methods of alignment can so be given the same budget: all models of one alignment have
about the same N. Padding is not counted.
"""

from typing import Literal, NamedTuple

FORWARD, BACKWARD = 2, 4

Method = Literal["dpo", "grpo", "rloo", "best-of-n"]


class Passes(NamedTuple):
    """How often a method reads each token."""

    read: int
    """Forward only: by sampling, reference, reward model, or the policy before its update."""
    trained: int
    """Forward and backward."""

    def flops(self, parameters: float, tokens: float) -> float:
        """Operations that this many tokens cost."""
        per_token = FORWARD * self.read + (FORWARD + BACKWARD) * self.trained
        return float(per_token) * parameters * tokens


TRAINING = Passes(read=0, trained=1)
"""6 N operations a token."""
READING = Passes(read=1, trained=0)
"""2 N operations a token."""


def ppo(epochs: int) -> Passes:
    """Sampling, reference, reward model, and policy and value model before the update; both are trained in it."""
    return Passes(read=5, trained=2 * epochs)


PASSES: dict[Method, Passes] = {
    "dpo": Passes(read=1, trained=1),
    "grpo": Passes(read=3, trained=1),
    "rloo": Passes(read=4, trained=1),
    "best-of-n": Passes(read=2, trained=0),
}
"""DPO: the reference. GRPO: sampling, reference, reward. RLOO: those, and the policy once more, for the KL penalty in
its reward. Best-of-n: sampling, reward."""

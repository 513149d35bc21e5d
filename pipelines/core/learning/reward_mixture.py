"""The reward model and functions of the user's, weighted and added: the reward that a policy is optimised for.

Shapes: B responses.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipelines.core.learning.rollouts import Score
from pipelines.errors import TrainingError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class RewardFunction:
    """A function of the user's."""

    name: str
    """Where it is named in params.yaml and what it is, for errors."""
    weight: float
    call: Callable[[list[str], list[str]], Any]
    """Of prompts and responses; what it returns is not to be trusted."""

    def rewards(self, prompts: Sequence[str], responses: Sequence[str]) -> "NDArray[np.float64]":
        """What it gives to each response, before weighting.

        Raises:
            TrainingError: when it fails, or does not return one finite number for each.
        """
        try:
            values = list(self.call(list(prompts), list(responses)))
        except (Exception, SystemExit) as error:
            raise TrainingError(
                f"{self.name} failed with {type(error).__name__}: {error}. Correct it, or take it out of params.yaml."
            ) from error
        if len(values) != len(responses):
            raise TrainingError(
                f"{self.name} returned {len(values)} rewards for {len(responses)} responses: correct it."
            )
        for value, response in zip(values, responses, strict=True):
            if not isinstance(value, Real) or not _is_finite(value):
                raise TrainingError(f"{self.name} returned {value!r} for {response[:80]!r}: make it a finite number.")
        return np.array(values, dtype=np.float64)


def _is_finite(value: Real) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


class Parts(NamedTuple):
    """The rewards of some responses and what they are made of."""

    model_B: "NDArray[np.float64]"
    """By the reward model, before weighting."""
    functions_B: "NDArray[np.float64]"
    """By the functions, weighted and added."""
    total_B: "NDArray[np.float64]"


@dataclass(frozen=True, kw_only=True)
class RewardMixture:
    """The weighted sum; called with prompts and responses it gives the rewards, and `parts` tells them apart."""

    model: Score
    model_weight: float = 1.0
    functions: Sequence[RewardFunction] = ()

    def __call__(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
        """Rewards of responses to prompts."""
        rewards: list[float] = self.parts(prompts, responses).total_B.tolist()
        return rewards

    def parts(self, prompts: Sequence[str], responses: Sequence[str]) -> Parts:
        """The same, told apart."""
        model_B = np.array(self.model(prompts, responses), dtype=np.float64)
        functions_B = np.zeros(len(responses))
        for function in self.functions:
            with np.errstate(over="ignore"):
                weighted_B = function.weight * function.rewards(prompts, responses)
            if not np.isfinite(weighted_B).all():
                raise TrainingError(f"{function.name} times its weight, {function.weight}, is no number: lower either.")
            functions_B += weighted_B
        return Parts(model_B, functions_B, self.model_weight * model_B + functions_B)

"""The models that policy optimisation works with, from an instruction model and a reward model of any kind.

Full weights: policy, reference and value model are three models. LoRA: policy and reference are one, told apart by the
adapter; the value model has adapters of its own and a head that is trained whole.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.core.learning import decoding, low_rank, rewards

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipelines.params import Ppo


@dataclass(frozen=True, kw_only=True)
class Actors:
    """Who acts, who is kept near, who foresees."""

    policy: "PreTrainedModel"
    reference: Any
    """What it began as, to be called like a model."""
    value_model: "PreTrainedModel"
    value_scale: tuple[float, float] | None
    """Mean and deviation by which its values are whitened; None: those of the reward model's first rewards."""
    new_head: str | None
    """Why the value model did not start as the reward model; None: it did."""
    merged: "Callable[[], PreTrainedModel]"
    """The policy as a plain model, to be saved: adapters are merged into its weights, and it cannot learn any more."""


def actors(
    policy: "PreTrainedModel",
    reward_model: "PreTrainedModel",
    *,
    tokenizer: "PreTrainedTokenizerBase",
    reward_tokenizer: "PreTrainedTokenizerBase",
    settings: "Ppo",
) -> Actors:
    """Policy (in place), reference and value model, ready for a `Learner`."""
    reason = unfit(reward_model, policy, same_tokenizer=reward_tokenizer.get_vocab() == tokenizer.get_vocab())
    value_model = copy.deepcopy(reward_model) if reason is None else with_value_head(policy)
    scale = None if reason is None else (0.0, 1.0)
    if settings.method == "full":
        return Actors(
            policy=policy,
            reference=copy.deepcopy(policy),
            value_model=value_model,
            value_scale=scale,
            new_head=reason,
            merged=lambda: policy,
        )
    adapted = low_rank.adapt(policy, settings.lora)
    low_rank.adapt(value_model, settings.lora)
    value_model.score.requires_grad_(True)
    return Actors(
        policy=policy,
        reference=low_rank.AdapterOff(adapted),
        value_model=value_model,
        value_scale=scale,
        new_head=reason,
        merged=adapted.merge_and_unload,
    )


def unfit(reward_model: "PreTrainedModel", policy: "PreTrainedModel", *, same_tokenizer: bool) -> str | None:
    """Why no value model can start as this reward model; None: it can."""
    if not same_tokenizer:
        return "the reward model has another tokenizer"
    if not hasattr(reward_model, "score"):
        return "the reward model has no linear head that reads every token"
    if decoding.longest(reward_model) < decoding.longest(policy):
        return "the reward model reads shorter texts than the policy"
    if rewards.looks_ahead(reward_model):
        return "the reward model's tokens see those after them"
    return None


def with_value_head(policy: "PreTrainedModel") -> "PreTrainedModel":
    """A copy of the body of a language model with a head of one output, 0 everywhere at first."""
    from torch import nn

    body = copy.deepcopy(policy.base_model)
    weight = next(body.parameters())
    head = nn.Linear(body.config.hidden_size, 1, bias=False, device=weight.device, dtype=weight.dtype)
    nn.init.zeros_(head.weight)
    body.score = head
    return body

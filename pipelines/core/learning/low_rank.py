"""Low-rank adapters in a model whose own weights stay as they are: one copy serves as the policy and as its reference.

W x + (alpha / r) B A x for each linear layer of the body, B = 0 at first, so that nothing has changed before the first
update. Source: Hu et al. 2021, arXiv:2106.09685.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

    from pipelines.params import Lora


def adapt(model: "PreTrainedModel", settings: "Lora") -> "PeftModel":
    """Put adapters into every linear layer of the body of `model`, in place, and freeze its own weights.

    `model` stays what it was to its callers; what is returned switches the adapters off and merges them.
    """
    from peft import LoraConfig, get_peft_model
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear | Conv1D)}
    heads = (model.get_output_embeddings(), getattr(model, "score", None))
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=[name for name, layer in layers.items() if all(layer is not head for head in heads)],
        fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in layers.values()),
    )
    return get_peft_model(model, config)


class AdapterOff:
    """A model without its adapters, which shares all weights with it: as much of a model as a reference must be."""

    def __init__(self, adapted: "PeftModel") -> None:
        self._adapted = adapted
        self._model = adapted.get_base_model()

    def __call__(self, **inputs: Any) -> Any:
        """What the model says with its adapters switched off."""
        with self._adapted.disable_adapter():
            return self._model(**inputs)

    @property
    def config(self) -> Any:
        """Of the model."""
        return self._model.config

    @property
    def device(self) -> "torch.device":
        """Where the weights are."""
        where: torch.device = self._model.device
        return where

    def set_attn_implementation(self, name: str) -> None:
        """Of the model, hence with its adapters, too."""
        self._model.set_attn_implementation(name)

    def eval(self) -> "AdapterOff":
        """It has nothing that behaves otherwise in training."""
        return self

"""How well a language model predicts held-out text: the same measure in every stage."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.core.learning import batches as packing

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """Log-likelihood of a text under a model."""

    nats: float
    """Sum of the negative log-probabilities."""
    tokens: int
    """Tokens of the text, each predicted once."""
    num_bytes: int
    """UTF-8 bytes of the text."""

    @property
    def perplexity(self) -> float:
        """Per token, so only comparable where the tokenizer is the same."""
        return math.exp(self.nats / max(self.tokens, 1))

    @property
    def bits_per_byte(self) -> float:
        """Comparable between tokenizers."""
        return self.nats / math.log(2) / max(self.num_bytes, 1)


def likelihood(
    model: "PreTrainedModel",
    tokens: packing.Row,
    num_bytes: int,
    context: int,
    batch: int = 32,
    *,
    precision: "torch.dtype | None" = None,
    limit: int | None = None,
) -> Likelihood:
    """Log-likelihood of a row of tokens, read in windows of `context`.

    Args:
        model: Any causal language model.
        tokens: Ids in the order of the text.
        num_bytes: UTF-8 bytes of the text behind `tokens`.
        context: Tokens a window; what came before it is not seen. At most the model's longest sequence.
        batch: Windows a forward pass.
        precision: Of the matrix products; None: float32.
        limit: Measure only the first this many tokens (and their share of the bytes).
    """
    import torch

    from pipelines.core.learning import attention, training

    context = min(context, model.config.max_position_embeddings)
    windows = packing.windows(
        tokens, context=context, batch_size=batch, start_token=model.config.eos_token_id, limit=limit
    )
    before = model.config._attn_implementation  # noqa: SLF001  no public way
    attention.use_fastest(model, device=model.device, context=context)
    try:
        nats, count = training.nats(model, windows, device=model.device, precision=precision or torch.float32)
    finally:
        model.set_attn_implementation(before)
    return Likelihood(nats=nats, tokens=count, num_bytes=round(num_bytes * count / max(len(tokens), 1)))


def bits_per_byte(
    model: "PreTrainedModel",
    tokens: packing.Row,
    num_bytes: int,
    context: int,
    batch: int = 32,
    *,
    precision: "torch.dtype | None" = None,
) -> float:
    """Bits per byte of a row of tokens; arguments as in `likelihood`."""
    return likelihood(model, tokens, num_bytes, context, batch, precision=precision).bits_per_byte

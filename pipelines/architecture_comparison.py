"""Measure a base model of any objective and architecture on held-out text: a row of `moteur compare architectures`."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines import stage
from pipelines.adapters import device as machine
from pipelines.adapters import models
from pipelines.adapters.tokens import Tokens, TokenStore
from pipelines.adapters.tracking import Tracker
from pipelines.artifacts import Artifact, State
from pipelines.core.learning import denoising
from pipelines.core.learning.batches import rows_read, windows
from pipelines.core.learning.training import next_token_logits
from pipelines.params import Params

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel


@dataclass(frozen=True, kw_only=True)
class ArchitectureReport:
    """Figures on the split test: of each token from those before it (causal), or of hidden tokens."""

    objective: str
    architecture: str
    bits_per_byte: float | None
    """None where tokens are hidden and not foretold."""
    loss: float
    """Nats per token asked."""
    accuracy: float
    """Share of the tokens asked that were the likeliest."""
    num_asked: int
    num_parameters: int
    """Embeddings included, tied ones once."""


def main(params: Params, tracker: Tracker) -> ArchitectureReport:
    """Ask for every token of the split, or for every hidden one; nothing is trained."""
    settings, device = params.pretraining, machine.prepare(params.seed, params.threads)
    tokens, precision = TokenStore.open(Artifact.TOKENS.path), machine.precision(settings.precision)
    model, row = _loaded().to(device), tokens.split("test")
    batch = rows_read(context=settings.context, entries=model.config.vocab_size)
    if settings.objective == "causal":
        said = _foretold(model, row, settings.context, batch, precision)
    else:
        corrupt = denoising.corrupting(settings.objective, vocab_size=tokens.vocab_size, separator=tokens.eos)
        questions = denoising.held_out(row, corrupt, context=settings.context, batch_size=batch)
        said = denoising.answers(model, questions, device=device, precision=precision)
    found = denoising.filled(model, tracker.track(said, "asking", unit="batches"), vocab_size=tokens.vocab_size)
    return ArchitectureReport(
        objective=settings.objective,
        architecture=params.model.architecture,
        bits_per_byte=found.nats / math.log(2) / row.num_bytes if settings.objective == "causal" else None,
        loss=found.loss,
        accuracy=found.accuracy,
        num_asked=found.tokens,
        num_parameters=model.num_parameters(),
    )


def _loaded() -> "PreTrainedModel":
    from transformers import AutoModelForMaskedLM, AutoModelForSeq2SeqLM

    from pipelines.core.learning.baselines import Baseline

    others = {"bert": AutoModelForMaskedLM, "t5": AutoModelForSeq2SeqLM, "moteur_baseline": Baseline}
    folder = Artifact.BASE.path
    found = models.kind(folder)
    return models.load_as(others[found], folder) if found in others else models.load_causal(folder)


def _foretold(
    model: "PreTrainedModel", row: Tokens, context: int, batch_size: int, precision: "torch.dtype"
) -> "Iterator[tuple[Tensor, Tensor]]":
    """What a causal model says, and what comes next."""
    for batch in windows(row, context=context, batch_size=batch_size, start_token=model.config.eos_token_id):
        yield next_token_logits(model, batch, device=model.device, precision=precision), batch.targets_BT


if __name__ == "__main__":
    stage.run("architecture_comparison", main, report=State.MEASURED)

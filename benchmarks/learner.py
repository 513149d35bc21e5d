"""Our pretraining as the stage runs it, on a row of tokens in memory."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from pipelines.adapters import device, quiet
from pipelines.core.learning import attention, optimizers, training
from pipelines.core.learning.architecture import llama
from pipelines.core.learning.batches import Packed, Row
from pipelines.params import Params

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def settle() -> None:
    """Set what a stage sets in its environment; before torch is imported."""
    quiet.settle()


def steps(
    params: Params,
    row: Row,
    *,
    vocab_size: int,
    end: int,
    pad: int,
    schedule: Callable[[int], float],
    count: int,
    packed: bool = True,
) -> "tuple[PreTrainedModel, Iterator[training.Step]]":
    """The model from scratch, and the steps of its training: model, batches, loss and optimiser of `pretraining`.

    Args:
        params: All of them; the sections `model` and `pretraining` count.
        row: Training text as ids, `end` after each document.
        vocab_size: Entries.
        end: The end token.
        pad: The padding token.
        schedule: Learning rate by step.
        count: Steps at most.
        packed: Keep the documents of a row apart, as the stage does.
    """
    import torch

    settings = params.pretraining
    where, precision = device.prepare(params.seed, params.threads), device.precision(settings.precision)
    model = llama(params.model, vocab_size=vocab_size, eos=end, pad=pad).to(where)
    attention.use_fastest(model, device=where, context=settings.context)
    forward = torch.compile(model) if settings.compile else model
    batches = Packed(row, settings.context, settings.batch_size, params.seed, end if packed else None)
    return model, training.train(
        partial(training.next_token_loss, forward, device=where, precision=precision),
        batches,
        optimizers.build(settings.optimizer, model, weight_decay=settings.weight_decay, precision=precision),
        schedule=schedule,
        steps=count,
        gradient_clip=settings.gradient_clip,
    )

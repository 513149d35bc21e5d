"""A student of half the depth learns from its teacher.

Shapes: B sequences in a batch, T positions, V entries of the vocabulary.

Hinton et al. 2015 (arXiv:1503.02531): the loss is `WEIGHT * t^2 * KL(teacher || student)` of the distributions softened
by the temperature t, plus `(1 - WEIGHT) *` cross-entropy of the next token. The student starts as every second layer of
the teacher (Sanh et al. 2019, arXiv:1910.01108).
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.core.learning.batches import Batch, Packed, Row, positions
from pipelines.core.learning.optimizers import adamw
from pipelines.core.learning.schedules import warmup_cosine
from pipelines.core.learning.training import Step, train

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

WEIGHT = 0.5
"""Of the softened distributions beside the next token."""

BATCH_SIZE = 8
"""Sequences a step, half of them conversations."""


def kept_layers(depth: int) -> list[int]:
    """The layers of a teacher of `depth` layers that its student keeps: every second one, from the first."""
    return list(range(0, depth, 2))


def student_of(teacher: "PreTrainedModel") -> "PreTrainedModel":
    """A model of half the teacher's depth (rounded up) with the weights of every second layer and all else.

    Raises:
        ValueError: when the teacher has one layer, or its layers are not in one list.
    """
    depth = teacher.config.num_hidden_layers
    kept = kept_layers(depth)
    if len(kept) == depth:
        raise ValueError("a model of one layer has no student of half its depth")
    prefix = _layers_of(teacher, depth)
    config = copy.deepcopy(teacher.config)
    config.num_hidden_layers = len(kept)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[layer] for layer in kept]
    state = {}
    for name, tensor in teacher.state_dict().items():
        if name.startswith(prefix):
            number, rest = name.removeprefix(prefix).split(".", 1)
            if int(number) in kept:
                state[f"{prefix}{kept.index(int(number))}.{rest}"] = tensor.clone()
        else:
            state[name] = tensor.clone()
    student: PreTrainedModel = type(teacher).from_pretrained(None, config=config, state_dict=state, dtype=teacher.dtype)
    return student.to(teacher.device).eval()


def _layers_of(model: "PreTrainedModel", depth: int) -> str:
    from torch import nn

    found = [name for name, part in model.named_modules() if isinstance(part, nn.ModuleList) and len(part) == depth]
    if len(found) != 1:
        raise ValueError(f"{type(model).__name__} has no single list of {depth} layers: {found}")
    return f"{found[0]}."


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """Batches of packed text and packed conversations, half and half; a pure function of the step."""

    text: Packed
    conversations: Packed | None

    @property
    def tokens_per_step(self) -> int:
        """Tokens of a batch."""
        return BATCH_SIZE * self.text.context

    def __call__(self, step: int) -> Batch:
        """The batch of the step `step` (from 0), all tensors (B, T)."""
        import torch

        parts = [self.text(step)] + ([self.conversations(step)] if self.conversations else [])
        places = [positions(part.inputs_BT, None) if part.positions_BT is None else part.positions_BT for part in parts]
        return Batch(
            torch.cat([part.inputs_BT for part in parts]),
            torch.cat([part.targets_BT for part in parts]),
            torch.cat(places),
        )


def mixed(text: Row, conversations: Row, *, context: int, seed: int, separator: int | None = None) -> Mixed:
    """Half of each batch from `conversations`, unless they are too few for it; the rest from `text`.

    `separator` parts the documents of `text`.

    Raises:
        ValueError: when `text` is too short for a batch.
    """
    chat = Packed(conversations, context, BATCH_SIZE // 2, seed)
    with_chat = chat.steps_per_epoch > 0
    packed = Packed(text, context, BATCH_SIZE // 2 if with_chat else BATCH_SIZE, seed, separator)
    if packed.steps_per_epoch < 1:
        raise ValueError(f"{len(text):,} tokens do not fill one batch, which needs {packed.smallest_row:,}")
    return Mixed(text=packed, conversations=chat if with_chat else None)


def distillation_loss(
    student_BTV: "Tensor", teacher_BTV: "Tensor", targets_BT: "Tensor", temperature: float
) -> "Tensor":
    """The loss of the module's docstring in nats a token; the gradient reaches the student only."""
    from torch.nn import functional

    student = student_BTV.flatten(0, 1).float()
    teacher = teacher_BTV.detach().flatten(0, 1).float()
    divergence = functional.kl_div(
        functional.log_softmax(student / temperature, dim=-1),
        functional.log_softmax(teacher / temperature, dim=-1),
        reduction="batchmean",
        log_target=True,
    )
    next_token = functional.cross_entropy(student, targets_BT.flatten())
    return WEIGHT * temperature**2 * divergence + (1 - WEIGHT) * next_token


def distil(
    student: "PreTrainedModel",
    teacher: "PreTrainedModel",
    batches: Mixed,
    *,
    max_tokens: int,
    learning_rate: float,
    temperature: float,
    precision: "torch.dtype",
) -> Iterator[Step]:
    """Train `student` in place on at most `max_tokens` tokens, yielding after each step.

    Raises:
        TrainingError: when the loss is not a finite number.
    """
    import torch

    device = student.device
    steps = max(1, max_tokens // batches.tokens_per_step)

    def logits(model: Any, batch: Batch) -> Any:
        places_BT = None if batch.positions_BT is None else batch.positions_BT.to(device)
        with torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
            return model(input_ids=batch.inputs_BT.to(device), position_ids=places_BT, use_cache=False).logits

    def loss(batch: Batch) -> "Tensor":
        with torch.no_grad():
            teacher_BTV = logits(teacher, batch)
        return distillation_loss(logits(student, batch), teacher_BTV, batch.targets_BT.to(device), temperature)

    student.train()
    yield from train(
        loss,
        batches,
        adamw(student, weight_decay=0.1),
        schedule=lambda step: warmup_cosine(step, steps, peak=learning_rate, warmup_share=0.05, final_share=0.1),
        steps=steps,
        gradient_clip=1.0,
        name="compression.student",
    )
    student.eval()


def packed_row(documents: list[list[int]]) -> "np.ndarray[Any, Any]":
    """Token ids of many documents as one row."""
    return (
        np.concatenate([np.asarray(ids, dtype=np.uint32) for ids in documents]) if documents else np.empty(0, np.uint32)
    )

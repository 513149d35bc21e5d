"""Learning to fill gaps: batches of corrupted text by step, their loss, and how well held-out gaps are filled.

Rows are read as one text even where they hold several documents, as in RoBERTa (Liu et al. 2019, arXiv:1907.11692,
FULL-SENTENCES) and T5. Shapes: B sequences, T tokens of text, N tokens read, M tokens asked, V entries.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from pipelines.core.learning import corruption
from pipelines.core.learning.batches import Packed, Row
from pipelines.core.learning.corruption import Gaps, Ids
from pipelines.core.learning.padding import IGNORED

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Objective = Literal["masked", "span_corruption"]
Corrupt = Callable[[Ids, np.random.Generator], Gaps]

TRAINING, HELD_OUT = 1, 2
"""Streams of random numbers: no draw of one is a draw of the other."""


class Questions(NamedTuple):
    """A batch of texts with gaps."""

    inputs_BN: "Tensor"
    targets_BM: "Tensor"
    """`IGNORED` where nothing is asked."""

    @property
    def num_rows(self) -> int:
        """B."""
        return len(self.inputs_BN)

    @property
    def num_targets(self) -> int:
        """How many are asked."""
        return int((self.targets_BM != IGNORED).sum())

    def rows(self, span: slice) -> "Questions":
        """Some of the texts."""
        return Questions(self.inputs_BN[span], self.targets_BM[span])


def extra_entries(objective: str, context: int) -> int:
    """Entries that a model has above the vocabulary: none (causal), the mask, or the sentinels of a row."""
    return {"causal": 0, "masked": 1, "span_corruption": corruption.num_sentinels(context)}[objective]


def corrupting(objective: Objective, *, vocab_size: int, separator: int) -> Corrupt:
    """What hides tokens; its own tokens come right above the vocabulary."""
    if objective == "masked":
        return partial(corruption.masked, mask=vocab_size, vocab_size=vocab_size, separator=separator)
    return partial(corruption.spans_corrupted, first_sentinel=vocab_size)


@dataclass(frozen=True)
class Corrupted:
    """Packed text with gaps by step: `corrupted(step)` is a pure function of seed and step, so resuming is exact."""

    packed: Packed
    corrupt: Corrupt

    def __call__(self, step: int) -> Questions:
        """The batch of the step `step` (from 0): the text that causal models learn from at this step, with gaps."""
        draw = np.random.default_rng([self.packed.seed, step, TRAINING])
        return _batch(self.corrupt(ids_T, draw) for ids_T in self.packed(step).inputs_BT.numpy())


def held_out(
    row: Row, corrupt: Corrupt, *, context: int, batch_size: int, limit: int | None = None
) -> Iterator[Questions]:
    """All of a row, or its first `limit` tokens, in windows of `context` with gaps: the same ones for every model.

    The last window is shorter and comes in a batch of its own; a single token is left out.
    """
    length = len(row) if limit is None else min(limit, len(row))
    whole = range(0, length - length % context, context)
    groups = [whole[first : first + batch_size] for first in range(0, len(whole), batch_size)]
    if length - whole.stop > 1:
        groups.append(range(whole.stop, length, context))

    def gaps(start: int) -> Gaps:
        ids_T = row[start : min(start + context, length)].astype(np.int64)
        return corrupt(ids_T, np.random.default_rng([start, context, HELD_OUT]))

    for group in groups:
        yield _batch(map(gaps, group))


def _batch(gaps: "Iterator[Gaps]") -> Questions:
    import torch

    inputs, targets = zip(*gaps, strict=True)
    return Questions(torch.from_numpy(np.stack(inputs)), torch.from_numpy(np.stack(targets)))


def logits(model: Any, batch: Questions, *, device: "torch.device", precision: "torch.dtype") -> "Tensor":
    """What the model says where the targets stand, (B, M, V); a decoder reads the targets before each of them."""
    import torch

    decoder = {}
    if model.config.is_encoder_decoder:
        read_BM = batch.targets_BM.roll(1, dims=1)
        read_BM[:, 0] = model.config.decoder_start_token_id
        decoder["decoder_input_ids"] = read_BM.to(device)
    with torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
        logits_BMV: Tensor = model(input_ids=batch.inputs_BN.to(device), use_cache=False, **decoder).logits
    return logits_BMV


def loss(model: Any, batch: Questions, *, device: "torch.device", precision: "torch.dtype") -> "Tensor":
    """Mean cross-entropy of what is asked, in nats; sentinels of the targets count."""
    from torch.nn import functional

    logits_BMV = logits(model, batch, device=device, precision=precision)
    return functional.cross_entropy(logits_BMV.flatten(0, 1).float(), batch.targets_BM.to(device).flatten())


@dataclass(frozen=True, kw_only=True)
class Filled:
    """How well tokens were said."""

    nats: float
    """Sum of the negative log-probabilities of the tokens asked."""
    right: int
    """Tokens asked that were the likeliest."""
    tokens: int
    """Tokens asked."""

    @property
    def loss(self) -> float:
        """Nats a token asked."""
        return self.nats / max(self.tokens, 1)

    @property
    def accuracy(self) -> float:
        """Share of the tokens asked that were the likeliest."""
        return self.right / max(self.tokens, 1)

    @property
    def perplexity(self) -> float:
        """Per token asked."""
        return math.exp(self.loss)


Answers = Iterable[tuple["Tensor", "Tensor"]]
"""Logits (B, M, V) and the targets (B, M) they are held against, `IGNORED` where nothing is asked."""


def answers(
    model: Any, batches: Iterable[Questions], *, device: "torch.device", precision: "torch.dtype"
) -> "Iterator[tuple[Tensor, Tensor]]":
    """What the model says to each batch. A decoder is told the true tokens before the one it is asked."""
    for batch in batches:
        yield logits(model, batch, device=device, precision=precision), batch.targets_BM


def filled(model: Any, said: Answers, *, vocab_size: int) -> Filled:
    """Hold answers, computed while they are read, against the targets below `vocab_size`: sentinels are not counted."""
    import torch
    from torch.nn import functional

    was_training = model.training
    model.eval()
    nats, right, tokens = 0.0, 0, 0
    with torch.inference_mode():
        for logits_BMV, targets_BM in said:
            asked_BM = (targets_BM >= 0) & (targets_BM < vocab_size)
            logits_KV, targets_K = logits_BMV.float()[asked_BM.to(logits_BMV.device)], targets_BM[asked_BM]
            targets_K = targets_K.to(logits_BMV.device)
            nats += float(functional.cross_entropy(logits_KV, targets_K, reduction="sum"))
            right += int((logits_KV.argmax(-1) == targets_K).sum())
            tokens += len(targets_K)
    model.train(was_training)
    return Filled(nats=nats, right=right, tokens=tokens)

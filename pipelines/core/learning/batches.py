"""Packed batches out of one long row of tokens, and windows over all of it.

Shapes: B sequences in a batch, T positions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


class Row(Protocol):
    """A long row of token ids that need not lie in memory."""

    def __len__(self) -> int:
        """How many."""

    def __getitem__(self, span: slice) -> NDArray[np.unsignedinteger]:
        """A copy of `span` (step 1)."""


class Batch(NamedTuple):
    """What is read and what is to be said next."""

    inputs_BT: "torch.Tensor"
    targets_BT: "torch.Tensor"
    """-100 where nothing is asked."""


@dataclass(frozen=True)
class Packed:
    """Batches of blocks in an order drawn anew for each epoch, by step: `packed(step)` is a pure function.

    An epoch starts at an offset of its own, so that blocks do not always begin at the same words. The last few
    blocks of an epoch that fill no batch are left out; the next epoch draws again.
    """

    row: Row
    context: int
    batch_size: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one pass; 0 when the row is shorter than one batch."""
        return max(0, (len(self.row) - self.context) // self.context) // self.batch_size

    @property
    def smallest_row(self) -> int:
        """Tokens that one batch needs."""
        return self.context * (self.batch_size + 1)

    def __call__(self, step: int) -> Batch:
        """The batch of the step `step` (from 0), both tensors (B, T)."""
        import torch

        epoch, within = divmod(step, self.steps_per_epoch)
        offset, order = _order(len(self.row), self.context, self.seed, epoch)
        starts = (
            offset + order[within * self.batch_size : (within + 1) * self.batch_size].astype(np.int64) * self.context
        )
        blocks = np.stack([self.row[start : start + self.context + 1] for start in starts.tolist()])
        ids = torch.from_numpy(blocks.astype(np.int64))
        return Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())


@lru_cache(maxsize=2)
def _order(length: int, context: int, seed: int, epoch: int) -> tuple[int, NDArray[np.uint32]]:
    draw = np.random.default_rng([seed, epoch])
    blocks = (length - context) // context
    return int(draw.integers(context)), draw.permutation(np.arange(blocks, dtype=np.uint32))


def windows(row: Row, *, context: int, batch_size: int, start_token: int, limit: int | None = None) -> Iterator[Batch]:
    """Batches in which each of the first `limit` tokens is asked exactly once, in order.

    The row is cut into windows of `context`; the very first token is asked after `start_token`. The last window
    is filled up with `start_token` and -100.
    """
    import torch

    length = len(row) if limit is None else min(limit, len(row))
    for first in range(0, length, context * batch_size):
        last = min(length, first + context * batch_size)
        rows = -(-(last - first) // context)
        ids = row[max(0, first - 1) : last].astype(np.int64)
        before = ids[:-1] if first else np.concatenate(([start_token], ids[:-1]))
        asked = ids[1:] if first else ids
        inputs = np.full(rows * context, start_token, dtype=np.int64)
        targets = np.full(rows * context, -100, dtype=np.int64)
        inputs[: len(before)], targets[: len(asked)] = before, asked
        yield Batch(torch.from_numpy(inputs.reshape(rows, context)), torch.from_numpy(targets.reshape(rows, context)))

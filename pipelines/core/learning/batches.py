"""Packed batches out of one long row of tokens, and windows over all of it.

Shapes: B sequences in a batch, T positions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.core.learning.padding import IGNORED

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
    """`IGNORED` where nothing is asked."""
    positions_BT: "torch.Tensor | None" = None
    """Position in its document of each token read; where they begin anew attention does not look back. None: one text a
    row."""

    @property
    def num_rows(self) -> int:
        """B."""
        return len(self.inputs_BT)

    @property
    def num_targets(self) -> int:
        """How many are asked."""
        return int((self.targets_BT != IGNORED).sum())

    def rows(self, span: slice) -> "Batch":
        """Some of the sequences."""
        places_BT = None if self.positions_BT is None else self.positions_BT[span]
        return Batch(self.inputs_BT[span], self.targets_BT[span], places_BT)


def positions(ids_BT: "torch.Tensor", separator: int | None) -> "torch.Tensor":
    """Places (B, T) counted from the last `separator`, which is the first token of the document that it opens."""
    import torch

    places_BT = torch.arange(ids_BT.shape[1]).expand_as(ids_BT)
    if separator is None:
        return places_BT
    return places_BT - torch.where(ids_BT == separator, places_BT, 0).cummax(dim=1).values


@dataclass(frozen=True)
class Packed:
    """Batches of blocks in an order drawn anew for each epoch, by step: `packed(step)` is a pure function.

    An epoch starts at an offset of its own, so that blocks do not always begin at the same words. The last few
    blocks of an epoch that fill no batch are left out; the next epoch draws again. With a `separator` blocks that move
    to the next document leave a few tokens to another epoch, and read a few twice.
    """

    row: Row
    context: int
    batch_size: int
    seed: int
    separator: int | None = None
    """The token that opens each document: with it a row begins with the first document that opens in its block, where
    there is one, and no token sees another document."""

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one pass; 0 when the row is shorter than one batch."""
        return max(0, (len(self.row) - self.context) // self.context) // self.batch_size

    @property
    def smallest_row(self) -> int:
        """Tokens that one batch needs."""
        return self.context * (self.batch_size + 1)

    def __call__(self, step: int) -> Batch:
        """The batch of the step `step` (from 0), all tensors (B, T)."""
        import torch

        epoch, within = divmod(step, self.steps_per_epoch)
        offset, order = _order(len(self.row), self.context, self.seed, epoch)
        starts = (
            offset + order[within * self.batch_size : (within + 1) * self.batch_size].astype(np.int64) * self.context
        )
        ids = torch.from_numpy(np.stack([self._block(start) for start in starts.tolist()]).astype(np.int64))
        inputs_BT = ids[:, :-1].contiguous()
        places_BT = None if self.separator is None else positions(inputs_BT, self.separator)
        return Batch(inputs_BT, ids[:, 1:].contiguous(), places_BT)

    def _block(self, start: int) -> NDArray[np.unsignedinteger]:
        if self.separator is None:
            return self.row[start : start + self.context + 1]
        two = self.row[start : start + 2 * self.context]
        opens = np.flatnonzero(two[: len(two) - self.context] == self.separator)
        first = int(opens[0]) if len(opens) else 0
        return two[first : first + self.context + 1]


@lru_cache(maxsize=2)
def _order(length: int, context: int, seed: int, epoch: int) -> tuple[int, NDArray[np.uint32]]:
    draw = np.random.default_rng([seed, epoch])
    blocks = (length - context) // context
    return int(draw.integers(context)), draw.permutation(np.arange(blocks, dtype=np.uint32))


READ_TOKENS, READ_LOGITS = 16_384, 2**27
"""At most so many at once where nothing is learnt; in float32 these logits take half a GiB."""


def rows_read(*, context: int, entries: int) -> int:
    """Windows of `context` that are read at once by a model with a vocabulary of `entries`, where nothing is learnt."""
    return max(1, min(READ_TOKENS, READ_LOGITS // entries) // context)


def windows(row: Row, *, context: int, batch_size: int, start_token: int, limit: int | None = None) -> Iterator[Batch]:
    """Batches in which each of the first `limit` tokens is asked exactly once, in order.

    The row is cut into windows of `context`; the very first token is asked after `start_token`. The last window
    is filled up with `start_token` and `IGNORED`. `start_token` parts the documents: none sees another.
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
        targets = np.full(rows * context, IGNORED, dtype=np.int64)
        inputs[: len(before)], targets[: len(asked)] = before, asked
        read_BT = torch.from_numpy(inputs.reshape(rows, context))
        yield Batch(read_BT, torch.from_numpy(targets.reshape(rows, context)), positions(read_BT, start_token))

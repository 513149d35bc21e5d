"""The gradient of one batch from parts of it: microbatches one after the other, processes side by side.

A part weighs as many targets as it asks, so the sum is the gradient of the mean over all targets of the batch, however
it is cut: the same but for rounding.

Shapes: B sequences in a batch, T positions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from torch import Tensor


class Data(Protocol):
    """A batch that can be cut: of text to go on with, or of text with gaps."""

    @property
    def num_rows(self) -> int:
        """B."""

    @property
    def num_targets(self) -> int:
        """Over how many the mean loss of the batch is."""

    def rows(self, span: slice) -> Self:
        """Some of the sequences."""


class Group(Protocol):
    """The processes that train one model, seen from one of them."""

    rank: int
    """Which one this is, from 0."""
    size: int

    def add_up(self, values: "Tensor") -> None:
        """Put the sum over all processes into `values`, the same bits in each."""


def share(length: int, rank: int, size: int) -> slice:
    """The rows of a batch of `length` that are those of process `rank` of `size`; shares differ by one row at most."""
    return slice(length * rank // size, length * (rank + 1) // size)


@dataclass(frozen=True, kw_only=True)
class InParts:
    """Leaves the gradient of a batch in `weights` and returns its loss; for `training.train`."""

    weights: "Sequence[Tensor]"
    group: Group
    microbatch_size: int | None = None
    """Sequences whose gradient is computed at once; None: all of this process."""

    def __call__(self, loss: "Callable[[Data], Tensor]", batch: Data) -> "Tensor":
        """Every process has the same `batch`, takes its rows, and ends with the gradient of all rows."""
        import torch

        asked = batch.num_targets
        mine = batch.rows(share(batch.num_rows, self.group.rank, self.group.size))
        rows = mine.num_rows
        size = self.microbatch_size or max(1, rows)
        value = torch.zeros((), device=self.weights[0].device)
        for first in range(0, rows, size):
            part = mine.rows(slice(first, first + size))
            if count := part.num_targets:  # the mean over no targets is not a number
                weighted = loss(part) * (count / asked)
                weighted.backward()  # type: ignore[no-untyped-call]
                value += weighted.detach()
        return value if self.group.size == 1 else self._added_up(value)

    def _added_up(self, value: "Tensor") -> "Tensor":
        """Sum the loss and the gradients over the processes, in one message.

        A weight that has a gradient in no process keeps none, or the optimiser would decay it.
        """
        import torch

        held = [weight.grad is not None for weight in self.weights]
        gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in self.weights]
        flat = torch.cat([value.view(1), value.new_tensor(held), *(gradient.flatten() for gradient in gradients)])
        self.group.add_up(flat)
        sizes = [1, len(held), *(weight.numel() for weight in self.weights)]
        total, anywhere, *parts = torch.split(flat, sizes)
        for weight, found, part in zip(self.weights, anywhere.tolist(), parts, strict=True):
            weight.grad = part.view_as(weight) if found else None
        return total.squeeze()

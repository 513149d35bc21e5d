"""Sequences of different lengths in one tensor, and the target that no loss counts.

Shapes: B sequences, T tokens of the longest.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

IGNORED = -100
"""Where nothing is asked; torch's cross-entropy has it so."""
MULTIPLE = 16
"""Lengths of batches in training are rounded up to it: oneDNN compiles a kernel for each new shape of a product, and
keeps a thousand. With any length fine-tuning took half as long again on a CPU with AMX."""


def rounded(length: int) -> int:
    """Up to a multiple of `MULTIPLE`."""
    return -(-length // MULTIPLE) * MULTIPLE


def left_padded(sequences: Sequence[Sequence[int]], pad: int) -> "tuple[torch.Tensor, torch.Tensor]":
    """Ids and attention mask, both (B, T), padded on the left."""
    width = max(map(len, sequences))
    return _padded(sequences, pad, [width - len(sequence) for sequence in sequences])


def right_padded(sequences: Sequence[Sequence[int]], pad: int) -> "tuple[torch.Tensor, torch.Tensor]":
    """Ids and attention mask, both (B, T), padded on the right."""
    return _padded(sequences, pad, [0] * len(sequences))


def _padded(sequences: Sequence[Sequence[int]], pad: int, starts: Sequence[int]) -> "tuple[torch.Tensor, torch.Tensor]":
    import torch

    ids_BT = torch.full((len(sequences), max(map(len, sequences))), pad, dtype=torch.long)
    mask_BT = torch.zeros_like(ids_BT)
    for row, (sequence, start) in enumerate(zip(sequences, starts, strict=True)):
        ids_BT[row, start : start + len(sequence)] = torch.tensor(sequence, dtype=torch.long)
        mask_BT[row, start : start + len(sequence)] = 1
    return ids_BT, mask_BT


def by_length(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Indices into `lengths` in batches of `size`, the shortest first: what is read together is hardly padded."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    for start in range(0, len(order), size):
        yield order[start : start + size]

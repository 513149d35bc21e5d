"""Beam search over rows that somebody else runs: candidates in, surviving rows and tokens out.

Ends and scores as `generate(num_beams=B)` of transformers does: a finished text scores its summed log-probability
divided by its tokens to the power of the length penalty; search ends when no running beam can still do better.

Shapes: B beams, V entries of the vocabulary.
"""

import heapq
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(order=True, frozen=True)
class Finished:
    """A whole text and its score."""

    score: float
    tokens: list[int] = field(compare=False)
    ended: bool = field(compare=False)
    """With an end token, rather than at the limit."""


class Beams:
    """The state of one search.

    Args:
        width: B.
        limit: Most tokens of a text.
        ends: End tokens.
        length_penalty: Above 0 longer texts gain.
    """

    def __init__(self, width: int, limit: int, ends: Collection[int], length_penalty: float = 1.0) -> None:
        self.width, self._limit, self._ends, self._penalty = width, limit, frozenset(ends), length_penalty
        self.tokens: list[list[int]] = [[]]
        self._sums = [0.0]
        self._finished: list[Finished] = []
        self.done = False

    def step(self, logits_BV: "Tensor") -> tuple[list[int], list[int]]:
        """Take the logits after each running beam (one at first); return the rows to go on with, and their tokens."""
        import torch

        sums_B1 = torch.tensor(self._sums, device=logits_BV.device)[:, None]
        totals_BV = logits_BV.log_softmax(-1) + sums_B1
        vocabulary = totals_BV.shape[1]
        wanted = max(2, 1 + len(self._ends)) * self.width
        values, places = totals_BV.flatten().topk(min(wanted, totals_BV.numel()))
        rows: list[int] = []
        tokens: list[int] = []
        sums: list[float] = []
        for rank, (total, place) in enumerate(zip(values.tolist(), places.tolist(), strict=True)):
            row, token = divmod(place, vocabulary)
            length = len(self.tokens[row]) + 1
            if token in self._ends or length >= self._limit:
                if rank < self.width:
                    self._finish(
                        Finished(total / length**self._penalty, [*self.tokens[row], token], token in self._ends)
                    )
            elif len(rows) < self.width:
                rows, tokens, sums = [*rows, row], [*tokens, token], [*sums, total]
        self.tokens = [[*self.tokens[row], token] for row, token in zip(rows, tokens, strict=True)]
        self._sums = sums
        self.done = not rows or self._settled(max(sums), len(self.tokens[0]))
        return rows, tokens

    def _finish(self, text: Finished) -> None:
        heapq.heappush(self._finished, text)
        if len(self._finished) > self.width:
            heapq.heappop(self._finished)

    def _settled(self, best: float, length: int) -> bool:
        return len(self._finished) == self.width and best / length**self._penalty <= self._finished[0].score

    def best(self, count: int) -> list[Finished]:
        """The best texts, best first."""
        return heapq.nlargest(count, self._finished)

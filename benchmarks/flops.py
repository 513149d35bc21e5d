"""Floating-point operations of a training step, and the matrix products that they go into.

Counted are the matrix products of a decoder: of every weight matrix with every token, forward (2 operations a weight
and token) and backward (4), and of queries with keys and of scores with values over the whole square of positions, as
Chowdhery et al. 2022 (PaLM, arXiv:2204.02311, appendix B) count them. The lookup of embeddings, norms, softmax and
the optimiser are left out: work that is no matrix product makes a side slower, not its figure larger.

Shapes: B sequences, T positions, C width, I inner width of the feed-forward, V entries of the vocabulary.
"""

from dataclasses import dataclass

BFLOAT16_PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}
"""Dense bfloat16 operations a second by NVIDIA's data sheets (SXM versions), by a part of the card's name."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What decides the operations of a decoder."""

    width: int
    layers: int
    inner: int
    """Width of the feed-forward."""
    vocab: int
    gated: bool = True
    """Three matrices in the feed-forward (Llama), not two (GPT-2)."""

    @property
    def matrices(self) -> list[tuple[int, int, int]]:
        """Rows, columns and how many there are of the weight matrices (out x in)."""
        layers, width = self.layers, self.width
        return [
            (width, width, 4 * layers),
            (self.inner, width, (2 if self.gated else 1) * layers),
            (width, self.inner, layers),
            (self.vocab, width, 1),
        ]

    @property
    def matrix_weights(self) -> int:
        """Weights that every token is multiplied with; tied embeddings count once, as the output matrix."""
        return sum(rows * columns * count for rows, columns, count in self.matrices)

    def per_token(self, context: int) -> int:
        """Operations of training for each token of rows of `context`: 6 N + 12 L C T."""
        return 6 * self.matrix_weights + 12 * self.layers * self.width * context


def published_peak(card: str) -> float | None:
    """Operations a second that the maker of a card promises, where it is a known one."""
    return next((peak for name, peak in BFLOAT16_PEAKS.items() if name in card), None)

"""Models of another size in the proportions of a given one."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipelines.core.judging import budgets

if TYPE_CHECKING:
    from pipelines.params import Model

GRAIN = 4
"""The least width, and what small widths are multiples of."""


def parameters(shape: "Model", vocab_size: int) -> int:
    """Parameters of a model of this shape, embeddings included."""
    return budgets.llama_parameters(
        vocab_size=vocab_size,
        hidden_size=shape.hidden_size,
        num_layers=shape.num_layers,
        intermediate_size=shape.intermediate_size,
        tie_embeddings=shape.tie_embeddings,
        attention_bias=shape.attention_bias,
    )


def resized(shape: "Model", wanted: float, vocab_size: int) -> "Model":
    """`shape` made larger or smaller so that it has about `wanted` parameters.

    Depth, feed-forward width and number of heads go with the width as they do in `shape`; of all widths that one is
    taken whose number of parameters is nearest, as a ratio. The embeddings set a least size.
    """
    return min(_series(shape, wanted, vocab_size), key=lambda one: abs(math.log(parameters(one, vocab_size) / wanted)))


def _series(shape: "Model", wanted: float, vocab_size: int) -> "Iterator[Model]":
    """Shapes of growing width, up to the first with more than `wanted` parameters."""
    width = 0
    while True:
        width += _grain(width)
        one = _of_width(shape, width)
        yield one
        if parameters(one, vocab_size) > wanted:
            return


def _grain(width: int) -> int:
    """A sixteenth of the power of two at or below the width: as fine at every size, and round for large ones."""
    return max(GRAIN, (1 << max(1, width).bit_length() - 1) // 16)


def _of_width(shape: "Model", width: int) -> "Model":
    ratio, grain = width / shape.hidden_size, _grain(width)
    most = max(1, round(shape.num_heads * ratio))
    heads = next(number for number in range(most, 0, -1) if width % (2 * number) == 0)
    return shape.model_copy(
        update={
            "hidden_size": width,
            "num_layers": max(1, round(shape.num_layers * ratio)),
            "num_heads": heads,
            "intermediate_size": max(grain, grain * round(shape.intermediate_size * ratio / grain)),
            "look_back": shape.look_back[:heads],
        }
    )

"""Sequences of many lengths, read without padding them to the longest.

Those of near length are padded to a rectangle, the rectangles stand one after the other in a single row, and only
attention takes them apart again. A model with the attention of `attention` reads them so.

Shapes: B sequences, T tokens of the longest, P positions of all rectangles, K places in them, C width of the model.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from pipelines.core.learning.padding import MULTIPLE

if TYPE_CHECKING:
    from torch import Tensor

ROWS = 8
"""Sequences of a rectangle. Fewer are padded less and keep two cores less busy."""
FEW_SHAPES = 4 * MULTIPLE
"""How many places are asked for is rounded up to it."""


class Rectangles(NamedTuple):
    """Sequences side by side in one row."""

    ids_1P: "Tensor"
    positions_1P: "Tensor"
    shapes: list[tuple[int, int]]
    """Sequences and positions of each rectangle."""
    offsets_B: "Tensor"
    """Where each sequence begins in the row."""

    @property
    def inputs(self) -> dict[str, Any]:
        """What the model is called with. The mask is of ones: without one transformers would make a dense one."""
        import torch

        return {
            "input_ids": self.ids_1P,
            "position_ids": self.positions_1P,
            "attention_mask": torch.ones_like(self.ids_1P),
            "rectangles": self.shapes,
        }

    def places(self, rows_K: "Tensor", columns_K: "Tensor") -> "Tensor":
        """Where tokens of the sequences stand in the row, (K)."""
        return self.offsets_B[rows_K] + columns_K


def laid_out(ids_BT: "Tensor", lengths_B: "Tensor") -> Rectangles:
    """Sequences that are padded on the right, as rectangles."""
    import torch

    order_B = lengths_B.argsort(stable=True)
    groups = torch.split(order_B, ROWS)
    shapes = [(len(rows), int(lengths_B[rows[-1]])) for rows in groups]
    offsets_B, start = torch.empty_like(order_B), 0
    for rows, (count, length) in zip(groups, shapes, strict=True):
        offsets_B[rows] = start + length * torch.arange(count, device=rows.device)
        start += count * length
    ids_1P = torch.cat([ids_BT[rows, :length].flatten() for rows, (_, length) in zip(groups, shapes, strict=True)])
    steps = [torch.arange(length, device=ids_BT.device).repeat(count) for count, length in shapes]
    return Rectangles(ids_1P[None], torch.cat(steps)[None], shapes, offsets_B)


def hidden(model: Any, laid: Rectangles, places_K: "Tensor") -> "Tensor":
    """The last hidden states (K, C) of a model at some places, in the precision of autocast where that is on.

    A plain Llama computes its last layer at these places alone.
    """
    import torch
    from torch.nn import functional

    from pipelines.core.learning import llama_training

    body = model.base_model
    if not llama_training.fits(body):
        states_PC: Tensor = body(**laid.inputs, use_cache=False).last_hidden_state[0]
        return states_PC[places_K]
    embedded_1PC, kind = body.embed_tokens(laid.ids_1P), laid.ids_1P.device.type
    several_K = functional.pad(places_K, (0, -len(places_K) % FEW_SHAPES))
    states_1KC = llama_training.hidden(
        body,
        embedded_1PC,
        laid.positions_1P,
        precision=torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else embedded_1PC.dtype,
        rectangles=laid.shapes,
        places_K=several_K,
    )
    return states_1KC[0, : len(places_K)]

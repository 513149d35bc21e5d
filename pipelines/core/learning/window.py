"""Keys and values of all running sequences, in buffers that are written in place.

The newest token of every sequence stands in the same column, so one forward pass serves sequences of any age: a shorter
one begins further to the right, as left padding does, which every causal model of transformers understands. A sequence
that ends gives its row to the last one; nothing is copied for the others. When the last column is reached, all move to
the left at once.

Shapes: S slots, R rows in use, K key heads, C columns, D width of a head, Q new tokens a row, T visible columns.
"""

import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from pipelines.errors import MoteurError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

Read = Callable[["Tensor", "Tensor", "Tensor", Sequence[CacheLayerMixin]], "Tensor"]
"""New tokens (R, Q), which columns are no padding (R, T), positions (R, Q), layers -> logits after the last (R, V)."""
READABLE = {"full_attention", "sliding_attention"}


def unreadable(model: "PreTrainedModel") -> str | None:
    """Which layers of a model keep something else than a column of keys and values for each token; None: none does."""
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or []) - READABLE
    if kinds:
        return f"layers of kind {', '.join(sorted(kinds))}"
    return "layers" if getattr(model, "_is_stateful", False) else None


class Window:
    """Rows of cached tokens that all end in column `end` and of which the longest begins in `start`.

    Args:
        model: Whose keys and values are kept; attention in every layer.
        slots: Most rows.
        columns: Most tokens of a row; a quarter more is allocated, so that moving to the left is rare.
        read: The model's forward pass, when it is not the model itself that reads.

    Raises:
        MoteurError: when a layer keeps something else than keys and values (a state, as in Mamba).
    """

    def __init__(self, model: "PreTrainedModel", slots: int, columns: int, read: Read | None = None) -> None:
        config = model.config.get_text_config()
        if layers := unreadable(model):
            raise _refusal(config.model_type, layers)
        self.columns = columns + columns // 4 + 1
        self.slots = slots
        self.lengths: list[int] = []
        self.start = self.end = 0
        self._model, self._read = model, read
        self._layers = [_Layer(self) for _ in range(config.num_hidden_layers)]
        self._cache = Cache(layers=self._layers)
        self._seen_SC = torch.zeros(slots, self.columns, dtype=torch.bool, device=model.device)

    @property
    def rows(self) -> int:
        """How many rows are in use."""
        return len(self.lengths)

    def begin(self, lengths: Sequence[int]) -> None:
        """Take empty rows for prompts of this many tokens; `prefill` then gets them padded on the left."""
        self.lengths = [0] * len(lengths)
        self.start = self.end = 0
        longest = max(lengths)
        self._seen_SC.zero_()
        for row, length in enumerate(lengths):
            self._seen_SC[row, longest - length : longest] = True

    def prefill(self, ids_RQ: "Tensor") -> "Tensor":
        """Read the next columns of the padded prompts; return the logits after the last one (R, V)."""
        after = self.end + ids_RQ.shape[1]
        seen_RT = self._seen_SC[: self.rows, :after]
        positions_RT = (seen_RT.cumsum(1) - 1).clamp(min=0)
        logits_RV = self._forward(ids_RQ, seen_RT, positions_RT[:, self.end :])
        self.end = after
        self.lengths = seen_RT.sum(1).tolist()
        return logits_RV

    def decode(self, tokens: Sequence[int]) -> "Tensor":
        """Read one more token of every row; return the logits after it (R, V)."""
        if self.end == self.columns:
            self._move(self.end - self.start)
        rows, device = self.rows, self._seen_SC.device
        self._seen_SC[:rows, self.end] = True
        ids_R1 = torch.tensor(tokens, device=device)[:, None]
        positions_R1 = torch.tensor(self.lengths, device=device)[:, None]
        logits_RV = self._forward(ids_R1, self._seen_SC[:rows, self.start : self.end + 1], positions_R1)
        self.end += 1
        self.lengths = [length + 1 for length in self.lengths]
        return logits_RV

    def _forward(self, ids_RQ: "Tensor", seen_RT: "Tensor", positions_RQ: "Tensor") -> "Tensor":
        if self._read is not None:
            return self._read(ids_RQ, seen_RT, positions_RQ, self._layers).float()
        logits_R1V: Tensor = self._model(
            input_ids=ids_RQ,
            attention_mask=seen_RT,
            position_ids=positions_RQ,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        if not any(layer.is_initialized for layer in self._layers):
            raise _refusal(self._model.config.model_type, "layers")
        return logits_R1V[:, -1].float()

    def append(self, other: "Window", sources: Sequence[int]) -> None:
        """Add copies of the rows `sources` of `other` behind the own rows."""
        if not self.rows:
            self.start = self.end = 0
        lengths = [other.lengths[row] for row in sources]
        if (needed := max(lengths)) > self.end:
            self._move(max(needed, self.end - self.start))
        first, width = self.rows, other.end - other.start
        self._seen_SC[first : first + len(sources)] = False
        taken = torch.tensor(sources, device=self._seen_SC.device)
        kept = min(width, self.end)
        rows, columns = slice(first, first + len(sources)), slice(self.end - kept, self.end)
        self._seen_SC[rows, columns] = other._seen_SC[taken, other.end - kept : other.end]  # noqa: SLF001  of our own kind
        for mine, theirs in zip(self._layers, other._layers, strict=True):  # noqa: SLF001  of our own kind
            mine.write(rows, columns, *theirs.read(taken, slice(other.end - kept, other.end)))
        self.lengths += lengths
        self._find_start()

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with `rows` only, in this order; the order is cheapest where most rows stay where they are."""
        moved = [(place, row) for place, row in enumerate(rows) if place != row]
        self.lengths = [self.lengths[row] for row in rows]
        if moved:
            places, sources = (torch.tensor(part, device=self._seen_SC.device) for part in zip(*moved, strict=True))
            self._seen_SC[places] = self._seen_SC[sources]
            for layer in self._layers:
                layer.copy(places, sources, slice(self.start, self.end))
        self._find_start()

    def clear(self) -> None:
        """Forget everything, stale numbers included (they may be the reason)."""
        self.lengths = []
        self.start = self.end = 0
        for layer in self._layers:
            layer.reset()

    def _find_start(self) -> None:
        self.start = self.end - max(self.lengths, default=0)

    def _move(self, end: int) -> None:
        """Move what is visible so that it ends in column `end`."""
        if not self.rows:
            self.start = self.end = end
            return
        width, rows = self.end - self.start, slice(0, self.rows)
        before, after = slice(self.start, self.end), slice(end - width, end)
        seen_RT = self._seen_SC[rows, before].clone()
        self._seen_SC[rows] = False
        self._seen_SC[rows, after] = seen_RT
        for layer in self._layers:
            layer.write(rows, after, *layer.read(rows, before))
        self.start, self.end = end - width, end


def _refusal(kind: str, layers: str) -> MoteurError:
    return MoteurError(
        f"A model of type {kind} has {layers} which keep no keys and values; it cannot be decoded here. Take one whose"
        " layers all attend."
    )


class _Layer(CacheLayerMixin):  # type: ignore[misc]  # transformers has no types
    """One layer's buffers; where to write and what to show, the window says."""

    is_sliding = False

    def __init__(self, window: Window) -> None:
        super().__init__()
        self._window: Window = weakref.proxy(window)  # no cycle, or buffers waited for the next collection of garbage

    def lazy_initialization(self, key_states: "Tensor", value_states: "Tensor") -> None:
        """Allocate, once the model has shown its shapes."""
        for name, states in (("keys", key_states), ("values", value_states)):
            _, heads, _, width = states.shape
            shape = (self._window.slots, heads, self._window.columns, width)
            setattr(self, name, torch.zeros(shape, dtype=states.dtype, device=states.device))
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True

    def update(
        self, key_states: "Tensor", value_states: "Tensor", *_arguments: Any, **_options: Any
    ) -> "tuple[Tensor, Tensor]":
        """Write Q new columns; return all that is visible: (R, K, T, D) twice."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        window = self._window
        rows, after = slice(0, key_states.shape[0]), window.end + key_states.shape[2]
        self.write(rows, slice(window.end, after), key_states, value_states)
        return self.keys[rows, :, window.start : after], self.values[rows, :, window.start : after]

    def write(self, rows: slice, columns: slice, keys_RKQD: "Tensor", values_RKQD: "Tensor") -> None:
        """Put keys and values into a rectangle of rows and columns."""
        if not self.is_initialized:
            self.lazy_initialization(keys_RKQD, values_RKQD)
        self.keys[rows, :, columns] = keys_RKQD
        self.values[rows, :, columns] = values_RKQD

    def read(self, rows: "slice | Tensor", columns: slice) -> "tuple[Tensor, Tensor]":
        """Copies of a rectangle."""
        return self.keys[rows][:, :, columns].clone(), self.values[rows][:, :, columns].clone()

    def copy(self, places: "Tensor", sources: "Tensor", columns: slice) -> None:
        """Write rows over others."""
        self.keys[places, :, columns] = self.keys[sources, :, columns]
        self.values[places, :, columns] = self.values[sources, :, columns]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Visible columns once the query is written, and that none before them is left out."""
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        """Visible columns."""
        return self._window.end - self._window.start

    def get_max_length(self) -> int:
        """No limit that transformers should know of."""
        return -1

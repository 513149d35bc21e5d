"""The forward pass of a Llama over cached keys and values, without what transformers does around it.

To decode with a small model takes longer between its products than in them: masks, cosines and sines are made anew for
each token, every module and pass goes through decorators, rotary positions are many operations on little. Here it is a
function of the weights. Only a model that is what transformers made of its config is read so (`reader`); adapters,
hooks, quantised layers and all other architectures go through their own forward pass.

Shapes: R rows, Q new tokens a row, T visible columns, P positions, E width of the model, H heads, K heads of keys and
values, D width of a head, O outputs of a product, V vocabulary.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from pipelines.core.learning import plain_llama

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel
    from transformers.cache_utils import CacheLayerMixin

MOVING = ("dynamic", "longrope")
"""Kinds of rotary positions whose angles change with the longest text."""


def reader(model: "PreTrainedModel", positions: int) -> "LlamaReader | None":
    """Of texts up to this many tokens, with the model's present weights; None for a model that must read itself."""
    return LlamaReader(model, positions) if fits(model) else None


def fits(model: "PreTrainedModel") -> bool:
    """Whether a `LlamaReader` computes what `model` would."""
    if not plain_llama.is_plain(model):
        return False
    attention, kind = model.config._attn_implementation, model.model.rotary_emb.rope_type  # noqa: SLF001  no public reader
    drops = model.training and model.config.attention_dropout > 0
    return attention in {"eager", "sdpa"} and kind not in MOVING and not drops


class LlamaReader:
    """Reads new tokens, in inference mode.

    Args:
        model: One that `fits`. Its products of queries, keys and values are copied into one: make a reader anew when
            its weights have changed.
        positions: Tokens of the longest text.
    """

    def __init__(self, model: Any, positions: int) -> None:
        body = model.model
        self._embed, self._norm, self._head = body.embed_tokens, body.norm, model.lm_head
        self._blocks = list(body.layers)[: model.config.num_hidden_layers]
        self._stacked = [_stacked(block.self_attn) for block in self._blocks]
        weight_E = body.norm.weight
        turns = plain_llama.turns(body.rotary_emb, weight_E, torch.arange(positions, device=weight_E.device)[None])
        self._cos_P1D, self._sin_P1D = (part_1PD[0, :, None] for part_1PD in turns)

    def __call__(
        self, ids_RQ: "Tensor", seen_RT: "Tensor", positions_RQ: "Tensor", kept: "Sequence[CacheLayerMixin]"
    ) -> "Tensor":
        """Logits after the last token of each row (R, V).

        Args:
            ids_RQ: New tokens; they stand in the last columns.
            seen_RT: Where a column holds a token and no padding.
            positions_RQ: Of the new tokens in their texts.
            kept: For each layer what takes new keys and values and returns those of all visible columns.
        """
        x_RQE = self._embed(ids_RQ)
        turn = self._cos_P1D[positions_RQ], self._sin_P1D[positions_RQ]
        mask_R1QT = _visible(seen_RT, ids_RQ.shape[1])[:, None]
        for block, stacked, layer in zip(self._blocks, self._stacked, kept, strict=True):
            if block is self._blocks[-1]:  # what it makes of other tokens than the last nobody reads
                mask_R1QT = mask_R1QT[:, :, -1:]
            attended_RQE = _attend(
                block.self_attn, stacked, _norm(block.input_layernorm, x_RQE), turn, mask_R1QT, layer
            )
            x_RQE = x_RQE[:, -attended_RQE.shape[1] :] + attended_RQE
            x_RQE = x_RQE + _mixed(block.mlp, _norm(block.post_attention_layernorm, x_RQE))
        return _product(self._head, _norm(self._norm, x_RQE[:, -1]))


def _stacked(attention: Any) -> "tuple[Tensor, Tensor]":
    """Weight (O, E) and bias (O) that give queries, keys and values at once."""
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    biases = [part.weight.new_zeros(part.out_features) if part.bias is None else part.bias for part in parts]
    return torch.cat([part.weight for part in parts]), torch.cat(biases)


def _visible(seen_RT: "Tensor", count: int) -> "Tensor":
    """What each of the last `count` columns sees (R, Q, T): tokens up to itself, and padding itself, lest it be NaN."""
    if count == 1:
        return seen_RT[:, None]
    columns_T = torch.arange(seen_RT.shape[1], device=seen_RT.device)
    own_Q1 = columns_T[-count:, None]
    return (seen_RT[:, None] & (columns_T < own_Q1)) | (columns_T == own_Q1)


def _attend(
    attention: Any,
    stacked: "tuple[Tensor, Tensor]",
    x_RQE: "Tensor",
    turn: "tuple[Tensor, Tensor]",
    mask_R1AT: "Tensor",
    layer: "CacheLayerMixin",
) -> "Tensor":
    """What the last A tokens find among those that they see (R, A, E)."""
    R, Q, _ = x_RQE.shape
    A, D, group = mask_R1AT.shape[2], attention.head_dim, attention.num_key_value_groups
    all_RQOD = functional.linear(x_RQE, *stacked).view(R, Q, -1, D)
    K = all_RQOD.shape[2] // (group + 2)
    turned_ROQD = plain_llama.turned(all_RQOD[:, :, :-K], *turn).transpose(1, 2)
    key_RKTD, value_RKTD = layer.update(turned_ROQD[:, -K:], all_RQOD[:, :, -K:].transpose(1, 2))
    query_RHAD = turned_ROQD[:, :-K, Q - A :]
    if group > 1:  # heads that share keys are further queries of them: no key is copied
        query_RHAD, mask_R1AT = query_RHAD.reshape(R, K, group * A, D), mask_R1AT.repeat(1, 1, group, 1)
    found = functional.scaled_dot_product_attention(
        query_RHAD, key_RKTD, value_RKTD, attn_mask=mask_R1AT, scale=attention.scaling
    )
    return _product(attention.o_proj, found.reshape(R, -1, A, D).transpose(1, 2).reshape(R, A, -1))


def _mixed(mlp: Any, x_RQE: "Tensor") -> "Tensor":
    gate = functional.silu(_product(mlp.gate_proj, x_RQE), inplace=True)
    return _product(mlp.down_proj, gate.mul_(_product(mlp.up_proj, x_RQE)))


def _norm(norm: Any, x_RQE: "Tensor") -> "Tensor":
    return functional.rms_norm(x_RQE, norm.weight.shape, norm.weight, norm.variance_epsilon)


def _product(layer: nn.Linear, x: "Tensor") -> "Tensor":
    """A module's call without its checks for hooks: 0.7 of 3 microseconds."""
    return functional.linear(x, layer.weight, layer.bias)

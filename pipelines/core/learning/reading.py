"""What a language model makes of documents: token ids, mean hidden state, nats.

Shapes: B documents in a batch, T positions, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.core.learning.padding import IGNORED

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LOGITS = 1 << 25
"""Logits computed at once, 128 MiB."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What was read of N documents."""

    tokens: NDArray[np.uint32]
    """Ids of all documents one after another; of each at most as many as the model reads at once."""
    offsets: NDArray[np.int64]
    """Document i has the tokens from offsets[i] up to offsets[i + 1] (N + 1)."""
    embeddings: NDArray[np.float32]
    """Mean hidden state after the last layer, over the document's tokens (N, D); NaN for an empty document."""
    nats_per_byte: NDArray[np.float32]
    """Negative log-probability for each UTF-8 byte read (N); NaN for an empty document."""
    bytes_per_token: NDArray[np.float32]
    """UTF-8 bytes read for each token (N): falls where the tokenizer has to spell; NaN for an empty document."""


def read(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> Reading:
    """Read each document from its start, alone; a longer one than the model's context is cut there."""
    import torch

    from pipelines.core.learning import attention

    room = int(model.config.max_position_embeddings) - 1
    ids = [tokens[:room] for tokens in tokenizer(list(texts), add_special_tokens=False)["input_ids"]] if texts else []
    sizes_N = np.array([_bytes_read(tokenizer, text, tokens, room) for text, tokens in zip(texts, ids, strict=True)])
    lengths_N = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
    embeddings_ND = np.full((len(ids), model.config.hidden_size), np.nan, dtype=np.float32)
    nats_N = np.full(len(ids), np.nan, dtype=np.float64)
    attention.use_fastest(model, device=model.device, context=room)
    with torch.inference_mode():
        for rows in _batches(lengths_N, model.config.vocab_size):
            embeddings_ND[rows], nats_N[rows] = _forward(model, [ids[row] for row in rows])
    return Reading(
        tokens=np.array([token for document in ids for token in document], dtype=np.uint32),
        offsets=np.concatenate([[0], np.cumsum(lengths_N)]).astype(np.int64),
        embeddings=embeddings_ND,
        nats_per_byte=_ratio(nats_N, sizes_N),
        bytes_per_token=_ratio(sizes_N, lengths_N),
    )


def _ratio(part_N: NDArray[np.generic], whole_N: NDArray[np.generic]) -> NDArray[np.float32]:
    whole = whole_N.astype(np.float64)
    ratios: NDArray[np.float32] = np.divide(part_N, whole, out=np.full(len(whole), np.nan), where=whole > 0).astype(
        np.float32
    )
    return ratios


def _bytes_read(tokenizer: "PreTrainedTokenizerBase", text: str, ids: Sequence[int], room: int) -> int:
    return len(text.encode()) if len(ids) < room else len(str(tokenizer.decode(ids)).encode())


def _batches(lengths_N: NDArray[np.int64], vocab_size: int) -> list[list[int]]:
    """Rows of documents of about equal length, longest first; empty documents are in none."""
    order = [row for row in np.argsort(-lengths_N, kind="stable").tolist() if lengths_N[row]]
    batches: list[list[int]] = []
    while order:
        size = max(1, min(64, LOGITS // (vocab_size * (int(lengths_N[order[0]]) + 1))))
        batches.append(order[:size])
        order = order[size:]
    return batches


def _forward(
    model: "PreTrainedModel", documents: Sequence[Sequence[int]]
) -> tuple["NDArray[np.float32]", "NDArray[np.float64]"]:
    """Mean hidden states (B, D) and nats (B). A document follows the end token, as in training."""
    import torch
    from torch.nn import functional

    ids_BT, mask_BT = _padded(documents, int(model.config.eos_token_id), model.device)
    output = model(input_ids=ids_BT[:, :-1], output_hidden_states=True, use_cache=False)
    targets_BT = ids_BT[:, 1:].masked_fill(~mask_BT, IGNORED)
    losses = functional.cross_entropy(output.logits.float().flatten(0, 1), targets_BT.flatten(), reduction="none")
    nats_B = losses.view_as(targets_BT).double().sum(dim=1)
    states_BTD = output.hidden_states[-1].float()
    inside_BT = mask_BT.to(torch.float32)
    means_BD = (states_BTD * inside_BT[:, :, None]).sum(dim=1) / inside_BT.sum(dim=1, keepdim=True)
    return means_BD.cpu().numpy(), nats_B.cpu().numpy()


def _padded(
    documents: Sequence[Sequence[int]], end: int, device: "torch.device"
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Ids after the end token, filled up on the right (B, T + 1), and which of the T are the document's (B, T)."""
    import torch

    longest = max(map(len, documents))
    ids = torch.full((len(documents), longest + 1), end, dtype=torch.long)
    mask = torch.zeros(len(documents), longest, dtype=torch.bool)
    for row, tokens in enumerate(documents):
        ids[row, 1 : len(tokens) + 1] = torch.tensor(list(tokens), dtype=torch.long)
        mask[row, : len(tokens)] = True
    return ids.to(device), mask.to(device)

"""Batched decoding with cached keys and values and left padding.

Shapes: B prompts in a batch, R of them still running, T tokens of the longest prompt, N new tokens, V vocabulary.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.core.text.prompts import Message, single_turn

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class Response:
    """What a model answered."""

    tokens: list[int]
    """Ids, the end token included when it was reached."""
    text: str
    """Decoded, special tokens left out."""
    finished: bool
    """The end token was reached within the limit."""


def chat_ids(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message]) -> list[int]:
    """Token ids of a conversation whose next turn is the assistant's."""
    ids: list[int] = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=False)
    return ids


def longest(model: "PreTrainedModel") -> int:
    """Tokens of the longest text that a model reads; where its positions have no end, `sys.maxsize`."""
    limit: int | None = getattr(model.config, "max_position_embeddings", None)
    return sys.maxsize if limit is None else limit


def left_padded(prompts: Sequence[Sequence[int]], pad: int) -> tuple[Any, Any]:
    """Ids and attention mask, both (B, T), padded on the left."""
    import torch

    width = max(map(len, prompts))
    ids_BT = torch.full((len(prompts), width), pad, dtype=torch.long)
    mask_BT = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids_BT[row, width - len(prompt) :] = torch.tensor(prompt, dtype=torch.long)
        mask_BT[row, width - len(prompt) :] = 1
    return ids_BT, mask_BT


def respond(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    beams: int = 1,
    batch_size: int = 64,
    seed: int = 0,
    advance: Callable[[int], None] = lambda _count: None,
) -> list[Response]:
    """Answer every prompt (token ids), in the order given.

    Prompts are batched by length, so that little is padded. `temperature` 0 is greedy; with `seed` sampling repeats.
    Text that would pass the model's longest sequence ends there, unfinished.
    """
    import torch

    responses: list[Response | None] = [None] * len(prompts)
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(seed)
        for rows in _batches_by_length(prompts, batch_size):
            ids_BT, mask_BT = left_padded([prompts[row] for row in rows], tokenizer.pad_token_id)
            limit = max(1, min(max_new_tokens, longest(model) - ids_BT.shape[1]))
            inputs = (model, ids_BT.to(model.device), mask_BT.to(model.device), limit)
            if beams > 1:
                answers = _beam_search(*inputs, beams, tokenizer.eos_token_id, tokenizer.pad_token_id)
            else:
                answers = _sample(*inputs, _chooser(temperature, top_p), tokenizer.eos_token_id)
            for row, tokens in zip(rows, answers, strict=True):
                responses[row] = _response(tokenizer, tokens)
            advance(len(rows))
    return [response for response in responses if response is not None]


def answers(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    records: Sequence[Mapping[str, Any]],
    *,
    max_new_tokens: int,
    **options: Any,
) -> list[str]:
    """What the model says to each instruction record, asked alone; `options` as in `respond`."""
    asked = [chat_ids(tokenizer, single_turn(record)[:1]) for record in records]
    return [response.text for response in respond(model, tokenizer, asked, max_new_tokens=max_new_tokens, **options)]


def _batches_by_length(prompts: Sequence[Sequence[int]], size: int) -> Iterator[list[int]]:
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _sample(
    model: "PreTrainedModel",
    ids_BT: "torch.Tensor",
    mask_BT: "torch.Tensor",
    limit: int,
    choose: "Callable[[torch.Tensor], torch.Tensor]",
    end: int,
) -> list[list[int]]:
    """Token by token; rows that have ended are dropped from the batch when at most half of it still runs."""
    import torch
    from transformers import DynamicCache

    texts: list[list[int]] = [[] for _ in range(len(ids_BT))]
    alive_R = torch.arange(len(ids_BT))
    running = set(range(len(ids_BT)))
    mask_RT = torch.nn.functional.pad(mask_BT, (0, limit), value=1)
    positions_RT = (mask_RT.cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    next_ids, start = ids_BT, 0
    for stop in range(ids_BT.shape[1], ids_BT.shape[1] + limit):
        logits_RV = model(
            input_ids=next_ids,
            attention_mask=mask_RT[:, :stop],
            position_ids=positions_RT[:, start:stop],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        chosen_R = choose(logits_RV.float())
        for row, token in zip(alive_R.tolist(), chosen_R.tolist(), strict=True):
            if row in running:
                texts[row].append(token)
                if token == end:
                    running.discard(row)
        if not running:
            break
        if 2 * len(running) <= len(alive_R):
            kept = torch.tensor([place for place, row in enumerate(alive_R.tolist()) if row in running])
            alive_R, kept_here = alive_R[kept], kept.to(ids_BT.device)
            cache.batch_select_indices(kept_here)
            chosen_R, mask_RT, positions_RT = chosen_R[kept_here], mask_RT[kept_here], positions_RT[kept_here]
        next_ids, start = chosen_R[:, None], stop
    return texts


def _chooser(temperature: float, top_p: float) -> "Callable[[torch.Tensor], torch.Tensor]":
    """Greedy at temperature 0, otherwise nucleus sampling (Holtzman et al. 2020, arXiv:1904.09751)."""
    import torch

    def sampled(logits_RV: "torch.Tensor") -> "torch.Tensor":
        chances_RV = (logits_RV / temperature).softmax(-1)
        if top_p < 1:
            sorted_RV, order_RV = chances_RV.sort(dim=-1, descending=True)
            outside_RV = sorted_RV.cumsum(-1) - sorted_RV >= top_p
            chances_RV = torch.zeros_like(chances_RV).scatter(1, order_RV, sorted_RV.masked_fill(outside_RV, 0.0))
        below_RV = chances_RV.cumsum(-1, dtype=torch.float64)  # inverse transform: half the time of torch.multinomial
        drawn_R1 = torch.rand(len(below_RV), 1, dtype=torch.float64, device=below_RV.device) * below_RV[:, -1:]
        return torch.searchsorted(below_RV, drawn_R1, right=True).clamp(max=below_RV.shape[1] - 1)[:, 0]

    return sampled if temperature > 0 else lambda logits_RV: logits_RV.argmax(-1)


def _beam_search(
    model: "PreTrainedModel",
    ids_BT: "torch.Tensor",
    mask_BT: "torch.Tensor",
    limit: int,
    beams: int,
    end: int,
    pad: int,
) -> list[list[int]]:
    output_BN = model.generate(
        input_ids=ids_BT,
        attention_mask=mask_BT,
        max_new_tokens=limit,
        do_sample=False,
        num_beams=beams,
        eos_token_id=end,
        pad_token_id=pad,
    )
    new_tokens: list[list[int]] = output_BN[:, ids_BT.shape[1] :].tolist()
    return new_tokens


def _response(tokenizer: "PreTrainedTokenizerBase", tokens: list[int]) -> Response:
    finished = tokenizer.eos_token_id in tokens
    if finished:
        tokens = tokens[: tokens.index(tokenizer.eos_token_id) + 1]
    text = tokenizer.decode(tokens, skip_special_tokens=True).strip()
    return Response(tokens=tokens, text=text, finished=finished)

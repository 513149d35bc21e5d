"""Batched decoding with cached keys and values and left padding.

Shapes: B prompts in a batch, R of them still running, T tokens of the longest prompt, V vocabulary.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from pipelines.core.learning.padding import by_length, left_padded
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

    Prompts are batched by length, so that little is padded. `temperature` 0 is greedy; with `seed` sampling repeats,
    and every batch has a seed of its own, so that its chance does not depend on how long the answers before it were.
    Text that would pass the model's longest sequence ends there, unfinished.
    """
    import torch

    responses: list[Response | None] = [None] * len(prompts)
    ends = (tokenizer.eos_token_id, tokenizer.pad_token_id)
    seeds = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        for number, rows in enumerate(by_length([*map(len, prompts)], batch_size)):
            torch.manual_seed(int(torch.randint(2**62, (), generator=seeds)) if number else seed)
            asked = [prompts[row] for row in rows]
            rooms = [max(1, min(max_new_tokens, longest(model) - len(prompt))) for prompt in asked]
            if beams > 1:
                answers = _beam_search(model, asked, rooms, beams, *ends)
            else:
                answers = _sample(model, asked, rooms, _chooser(temperature, top_p), *ends)
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


def _sample(
    model: "PreTrainedModel",
    prompts: Sequence[Sequence[int]],
    rooms: Sequence[int],
    choose: "Callable[[torch.Tensor, torch.Tensor], torch.Tensor]",
    end: int,
    pad: int,
) -> list[list[int]]:
    """Token by token; a row that has ended, or has no more room, leaves the batch at once.

    Chance is drawn for every row in every step, also for those that have ended: what a prompt is answered depends on
    the other prompts by rounding only, and two models that are asked the same are compared with the same chance.
    """
    import torch

    from pipelines.core.learning import llama_decoding
    from pipelines.core.learning.window import Window

    ids_BT, _mask_BT = left_padded(prompts, pad)
    texts: list[list[int]] = [[] for _ in prompts]
    longest_text = max(len(prompt) + room for prompt, room in zip(prompts, rooms, strict=True))
    window = Window(model, len(prompts), longest_text, llama_decoding.reader(model, longest_text))
    window.begin([*map(len, prompts)])
    logits_RV = window.prefill(ids_BT.to(model.device))
    running = list(range(len(prompts)))
    while True:
        chance_B = torch.rand(len(prompts), dtype=torch.float64)
        tokens = choose(logits_RV, chance_B[running].to(logits_RV.device)).tolist()
        for row, token in zip(running, tokens, strict=True):
            texts[row].append(token)
        over = [token == end or len(texts[row]) == rooms[row] for row, token in zip(running, tokens, strict=True)]
        kept = _without([place for place, is_over in enumerate(over) if is_over], len(tokens))
        if not kept:
            return texts
        if len(kept) < len(running):
            window.keep(kept)
            running, tokens = ([held[place] for place in kept] for held in (running, tokens))
        logits_RV = window.decode(tokens)


def _without(gone: Sequence[int], count: int) -> list[int]:
    """The places that are left of `count`; those at the end fill the holes, so that few rows are moved."""
    left = count - len(gone)
    fill = iter(sorted(set(range(left, count)) - set(gone)))
    return [next(fill) if place in set(gone) else place for place in range(left)]


def _chooser(temperature: float, top_p: float) -> "Callable[[torch.Tensor, torch.Tensor], torch.Tensor]":
    """Greedy at temperature 0, otherwise nucleus sampling (Holtzman et al. 2020, arXiv:1904.09751).

    Its arguments: logits (R, V), and for each row a number (R), uniform in [0, 1), that decides.
    """
    import torch

    def sampled(logits_RV: "torch.Tensor", chance_R: "torch.Tensor") -> "torch.Tensor":
        chances_RV = (logits_RV if temperature == 1 else logits_RV / temperature).softmax(-1)
        if top_p < 1:
            sorted_RV, order_RV = chances_RV.sort(dim=-1, descending=True)
            outside_RV = sorted_RV.cumsum(-1) - sorted_RV >= top_p
            chances_RV = torch.zeros_like(chances_RV).scatter(1, order_RV, sorted_RV.masked_fill(outside_RV, 0.0))
        below_RV = chances_RV.cumsum(-1, dtype=torch.float64)  # inverse transform: half the time of torch.multinomial
        drawn_R1 = chance_R[:, None] * below_RV[:, -1:]
        return torch.searchsorted(below_RV, drawn_R1, right=True).clamp(max=below_RV.shape[1] - 1)[:, 0]

    return sampled if temperature > 0 else lambda logits_RV, _chance_R: logits_RV.argmax(-1)


def _beam_search(
    model: "PreTrainedModel",
    prompts: Sequence[Sequence[int]],
    rooms: Sequence[int],
    beams: int,
    end: int,
    pad: int,
) -> list[list[int]]:
    """Prompts in the order of their lengths; those with equal room are answered together."""
    texts: list[list[int]] = []
    for room, rows in groupby(range(len(prompts)), key=rooms.__getitem__):
        ids_BT, mask_BT = left_padded([prompts[row] for row in rows], pad)
        output_BN = model.generate(
            input_ids=ids_BT.to(model.device),
            attention_mask=mask_BT.to(model.device),
            max_new_tokens=room,
            do_sample=False,
            num_beams=beams,
            eos_token_id=end,
            pad_token_id=pad,
        )
        texts += output_BN[:, ids_BT.shape[1] :].tolist()
    return texts


def _response(tokenizer: "PreTrainedTokenizerBase", tokens: list[int]) -> Response:
    finished = tokenizer.eos_token_id in tokens
    if finished:
        tokens = tokens[: tokens.index(tokenizer.eos_token_id) + 1]
    text = tokenizer.decode(tokens, skip_special_tokens=True).strip()
    return Response(tokens=tokens, text=text, finished=finished)

"""Asking a model that has not been fine-tuned: examples in the prompt, as plain text or in the chat template.

A comparison with a base model is only honest when the base may be asked in the way that suits it best.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pipelines.core.learning.decoding import chat_ids
from pipelines.core.text.prompts import single_turn, user_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Record = Mapping[str, Any]
Style = Literal["plain", "chat"]
STYLES: tuple[Style, ...] = ("plain", "chat")


def examples(record: Record, pool: Mapping[str, Sequence[Record]], count: int) -> list[Record]:
    """`count` records of the same task about other texts, drawn by the record's id."""
    others = [other for other in pool.get(record["task"], ()) if _text(other) != _text(record)]
    return random.Random(f"shots:{record['id']}").sample(others, min(count, len(others)))


def _text(record: Record) -> str:
    return user_text(record.get("context", ""), record["prompt"])


def prompt_ids(
    tokenizer: "PreTrainedTokenizerBase", record: Record, shots: Sequence[Record], style: Style, room: int
) -> list[int]:
    """Token ids of the prompt; examples are left out from the first on until it has at most `room` tokens."""
    encode = _plain_ids if style == "plain" else _chat_ids
    kept = list(shots)
    ids = encode(tokenizer, record, kept)
    while len(ids) > room and kept:
        kept = kept[1:]
        ids = encode(tokenizer, record, kept)
    return ids


def _chat_ids(tokenizer: "PreTrainedTokenizerBase", record: Record, shots: Sequence[Record]) -> list[int]:
    turns = [message for shot in shots for message in single_turn(shot)]
    return chat_ids(tokenizer, [*turns, *single_turn(record)[:1]])


def _plain_ids(tokenizer: "PreTrainedTokenizerBase", record: Record, shots: Sequence[Record]) -> list[int]:
    answered = [f"{_question(shot)} {shot['completion']}" for shot in shots]
    ids: list[int] = tokenizer("\n\n".join([*answered, _question(record)]), add_special_tokens=False)["input_ids"]
    return ids


def _question(record: Record) -> str:
    asked = f"Question: {record['prompt']} Answer:"
    return f"{record['context']}\n{asked}" if record.get("context") else asked


def cut(text: str, style: Style) -> str:
    """What counts as the answer: of plain text the first line."""
    return text.strip().split("\n")[0].strip() if style == "plain" else text


Ask = Callable[[Sequence[Sequence[int]]], Sequence[str]]
"""From prompts (token ids) to answers."""


def answers(
    tokenizer: "PreTrainedTokenizerBase",
    ask: Ask,
    records: Sequence[Record],
    pool: Mapping[str, Sequence[Record]],
    *,
    shots: int,
    style: Style,
    room: int,
) -> list[str]:
    """Answers to `records`, each asked with `shots` examples drawn from `pool` (task -> records)."""
    asked = [prompt_ids(tokenizer, record, examples(record, pool, shots), style, room) for record in records]
    return [cut(text, style) for text in ask(asked)]

"""The instruction mixture: task weights, batches of like length, replayed pretraining text."""

import hashlib
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from pipelines.core.learning.batches import Row
from pipelines.core.learning.padding import IGNORED
from pipelines.core.text import prompts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Record = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Example:
    """One training sequence of T tokens."""

    input_ids: list[int]
    """Token ids, T of them."""
    labels: list[int]
    """The token id where the token is in the loss, otherwise `IGNORED`."""


def passes(records: Sequence[Record], weights: Mapping[str, float], epochs: float, seed: int) -> Iterator[list[Record]]:
    """Resample `records` by task and give them in passes, each record at most once in a pass.

    An epoch shows a record of a task with weight w this many times; where w is not whole, the fraction is the chance of
    one more, drawn from the record's id, so that it does not depend on the other records. Where `epochs` is not whole,
    the fraction is the chance that a context comes once more, with all its records: a story read for one question costs
    as much as a story read for eight. Records about one context stay together, in a fresh order in every pass, so that
    no task always comes first in a conversation.
    """
    for epoch in range(math.ceil(epochs)):
        wanted = [
            _times(weights.get(record["task"], 1.0), f"{seed}:{epoch}:weight:{record['id']}")
            if epoch < int(epochs) or _times(epochs % 1, f"{seed}:epochs:{record.get('context') or record['id']}")
            else 0
            for record in records
        ]
        for number in range(max(wanted, default=0)):
            kept = [record for record, times in zip(records, wanted, strict=True) if times > number]
            yield [
                record
                for context, group in groupby(kept, key=lambda record: record.get("context", ""))
                for record in _shuffled(list(group), f"{seed}:{epoch}:{number}:{context}")
            ]


def _times(weight: float, key: str) -> int:
    return int(weight) + (_fraction(key) < weight % 1)


def _fraction(key: str) -> float:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") / 2**64


def _shuffled(items: list[Record], key: str) -> list[Record]:
    random.Random(key).shuffle(items)
    return items


def batches_by_length(lengths: Sequence[int], size: int, seed: int, window: int = 50) -> list[list[int]]:
    """Rows of like length in batches of `size`, in random order; the last batch may be smaller.

    Rows are shuffled, then sorted by length within windows of `window` batches: little padding, yet every batch is a
    fresh draw.

    Returns:
        Indices into `lengths`, each exactly once.
    """
    rng = random.Random(f"batches:{seed}")
    order = list(range(len(lengths)))
    rng.shuffle(order)
    planned: list[list[int]] = []
    for start in range(0, len(order), size * window):
        near = sorted(order[start : start + size * window], key=lambda row: lengths[row])
        planned += [near[first : first + size] for first in range(0, len(near), size)]
    rng.shuffle(planned)
    return planned


def with_replay(
    planned: Iterable[Sequence[int]], lengths: Sequence[int], share: float, text: Row, seed: int
) -> tuple[list[list[int]], list[Example]]:
    """Spread pretraining text over the batches until it is `share` of all tokens.

    A replayed row is a run of `text` as long as the longest row of its batch, so that it adds no padding. All of its
    tokens are in the loss.

    Returns:
        The batches, with indices from len(lengths) on for the new rows, and the new rows.
    """
    rng = random.Random(f"replay:{seed}")
    grown: list[list[int]] = []
    rows: list[Example] = []
    debt = 0.0
    for batch in planned:
        indices = list(batch)
        longest = min(max(lengths[row] for row in batch), len(text))
        debt += sum(lengths[row] for row in batch) * share / (1 - share)
        while longest and debt >= longest / 2:
            start = rng.randrange(len(text) - longest + 1)
            ids = text[start : start + longest].tolist()
            indices.append(len(lengths) + len(rows))
            rows.append(Example(input_ids=ids, labels=ids))
            debt -= longest
        grown.append(indices)
    return grown, rows


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """What is trained on, and in which batches."""

    examples: list[Example]
    """Conversations first, then replayed text."""
    batches: list[list[int]]
    """Indices into `examples`, one list a step."""
    num_conversations: int
    num_left_out: int
    """Conversations that were too long."""

    @property
    def num_tokens(self) -> int:
        """Tokens of all examples, padding not counted."""
        return sum(len(example.input_ids) for example in self.examples)

    @property
    def num_loss_tokens(self) -> int:
        """Tokens in the loss."""
        return sum(label != IGNORED for example in self.examples for label in example.labels)

    @property
    def num_replayed_tokens(self) -> int:
        """Tokens of pretraining text."""
        return sum(len(example.input_ids) for example in self.examples[self.num_conversations :])


def build(
    tokenizer: "PreTrainedTokenizerBase",
    records: Sequence[Record],
    *,
    weights: Mapping[str, float],
    epochs: float,
    max_turns: int,
    max_length: int,
    batch_size: int,
    replay_share: float,
    text: Row,
    seed: int,
) -> Mixture:
    """Resample, join into conversations, tokenise, leave out what is too long, batch, and mix in pretraining text.

    Args:
        tokenizer: With a chat template that marks what the assistant says ({% generation %}).
        records: Instruction records; those about one context are consecutive.
        weights: Task -> how often its records are seen an epoch; 1 where it is not named.
        epochs: Passes over the records.
        max_turns: Turns of a conversation.
        max_length: Tokens of the longest conversation.
        batch_size: Conversations a step.
        replay_share: Share of all training tokens that is pretraining text.
        text: Pretraining text as token ids.
        seed: Of every draw.
    """
    joined = [
        conversation
        for resampled in passes(records, weights, epochs, seed)
        for conversation in prompts.conversations(resampled, max_turns)
    ]
    encoded = encode(tokenizer, joined)
    kept = [example for example in encoded if len(example.input_ids) <= max_length]
    lengths = [len(example.input_ids) for example in kept]
    planned, replayed = with_replay(batches_by_length(lengths, batch_size, seed), lengths, replay_share, text, seed)
    return Mixture(
        examples=kept + replayed,
        batches=planned,
        num_conversations=len(kept),
        num_left_out=len(encoded) - len(kept),
    )


def encode(tokenizer: "PreTrainedTokenizerBase", conversations: Sequence[list[prompts.Message]]) -> list[Example]:
    """Token ids, with the loss on what the assistant says and its end token."""
    if not conversations:
        return []
    encoded = tokenizer.apply_chat_template(
        list(conversations), return_assistant_tokens_mask=True, return_dict=True, tokenize=True
    )
    return [
        Example(input_ids=ids, labels=[token if inside else IGNORED for token, inside in zip(ids, mask, strict=True)])
        for ids, mask in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True)
    ]

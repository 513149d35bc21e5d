"""What a model is put through to be compared with others: held-out text and held-out instructions.

Scores are exact match for tasks of short answers; for others the gold score where a record carries gold facts, else
ROUGE-L. Answers are greedy.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from pipelines.core.judging import scores
from pipelines.core.judging.likelihood import bits_per_byte
from pipelines.core.learning import batches, decoding, pruning
from pipelines.core.learning.training import weights_of
from pipelines.core.text import prompts
from pipelines.core.world.gold import gold_score

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Record = Mapping[str, Any]


class Text(batches.Row, Protocol):
    """A row of tokens that knows the size of its text."""

    num_bytes: int
    """UTF-8."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """How a model did."""

    bits_per_byte: float
    task_scores: dict[str, float]
    """Task -> mean score, sorted."""
    answers: list[decoding.Response]
    """In the order of the records."""
    num_parameters: int
    nonzero_share: float
    """Share of the weights that are not zero."""
    sparse_bytes: int
    """As `pruning.sparse_bytes` counts."""
    tokens_per_second: float
    """Of the answers; depends on the machine."""

    @property
    def task_score(self) -> float:
        """Mean over the tasks, each of the same weight."""
        return scores.mean(list(self.task_scores.values()))


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The held-out data of one split, and how a model is measured on them."""

    text: Text
    context: int
    """Tokens a window."""
    precision: "torch.dtype"
    """Of the matrix products over the text."""
    records: list[Record]
    asked: list[list[int]]
    """The prompt of each record as token ids."""
    short: list[str]
    """Tasks of short answers."""
    max_new_tokens: int
    num_left_out: int
    """Records whose prompt leaves no room for an answer."""

    @classmethod
    def of(
        cls,
        records: Sequence[Record],
        text: Text,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        longest: int,
        context: int,
        examples_per_task: int,
        max_new_tokens: int,
        precision: "torch.dtype",
    ) -> Self:
        """Draw at most `examples_per_task` records of each task; `longest` is the model's longest sequence."""
        drawn = [
            record
            for task in sorted({record["task"] for record in records})
            for record in scores.drawn([one for one in records if one["task"] == task], examples_per_task)
        ]
        asked = [decoding.chat_ids(tokenizer, prompts.single_turn(record)[:1]) for record in drawn]
        fitting = [row for row, ids in enumerate(asked) if len(ids) + max_new_tokens <= longest]
        return cls(
            text=text,
            context=context,
            precision=precision,
            records=[drawn[row] for row in fitting],
            asked=[asked[row] for row in fitting],
            short=scores.short_answer_tasks(records),
            max_new_tokens=max_new_tokens,
            num_left_out=len(drawn) - len(fitting),
        )

    def measure(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> Measured:
        """Let the model read the text and answer the records."""
        started = time.monotonic()
        answers = decoding.respond(model, tokenizer, self.asked, max_new_tokens=self.max_new_tokens)
        seconds = time.monotonic() - started
        marks = [self._mark(record, answer.text) for record, answer in zip(self.records, answers, strict=True)]
        weights = weights_of(model)
        return Measured(
            bits_per_byte=bits_per_byte(model, self.text, self.text.num_bytes, self.context, precision=self.precision),
            task_scores=scores.mean_by([record["task"] for record in self.records], marks),
            answers=answers,
            num_parameters=model.num_parameters(),
            nonzero_share=pruning.nonzero_share(weights),
            sparse_bytes=pruning.sparse_bytes(weights),
            tokens_per_second=sum(len(answer.tokens) for answer in answers) / max(seconds, 1e-9),
        )

    def _mark(self, record: Record, answer: str) -> float:
        if record["task"] in self.short:
            return scores.exact_match(answer, scores.references(record))
        if record.get("gold"):
            return gold_score(record["gold"], answer).total
        return scores.rouge_l(answer, scores.references(record))

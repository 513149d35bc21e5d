"""Asking models and scoring what they say: tasks, number of examples, ways of decoding, sampled comparisons."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any

from pipelines.core.judging import few_shot, scores
from pipelines.core.judging.intervals import Interval, cluster_bootstrap
from pipelines.core.learning import decoding
from pipelines.core.text.prompts import single_turn

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Record = Mapping[str, Any]
Answers = Mapping[str, str]
"""Id of a record -> answer."""
Figures = dict[str, Any]
Score = Callable[[str, Sequence[str], Sequence[Sequence[str]]], list[float]]
"""(metric, answers, accepted answers of each) -> a value for each."""


@dataclass(frozen=True, kw_only=True)
class Questions:
    """Held-out records that fit into the models."""

    short: list[Record]
    """Of tasks with short answers, scored by exact match."""
    long: list[Record]
    """Of the other tasks, scored by ROUGE-L and token F1."""
    num_left_out: int
    """Records too long to be asked."""

    @property
    def every(self) -> list[Record]:
        """All of them."""
        return [*self.short, *self.long]

    @property
    def main(self) -> list[Record]:
        """Those on which models are compared: the short ones where there are any."""
        return self.short or self.long

    @property
    def with_context(self) -> list[Record]:
        """The short ones that come with a text, which can be asked without it."""
        return [record for record in self.short if record.get("context")]

    def some(self, per_task: int) -> "Questions":
        """At most `per_task` records a task on average; a smaller draw is part of a larger one."""
        return Questions(short=_some(self.short, per_task), long=_some(self.long, per_task), num_left_out=0)


def _some(records: Sequence[Record], per_task: int) -> list[Record]:
    return scores.drawn(records, per_task * len({record["task"] for record in records}))


def questions(tokenizer: "PreTrainedTokenizerBase", records: Sequence[Record], room: int) -> Questions:
    """Part records into tasks with short and long answers; leave out prompts of more than `room` tokens."""
    short = set(scores.short_answer_tasks(records))
    fit = [record for record in records if len(decoding.chat_ids(tokenizer, single_turn(record)[:1])) <= room]
    return Questions(
        short=[record for record in fit if record["task"] in short],
        long=[record for record in fit if record["task"] not in short],
        num_left_out=len(records) - len(fit),
    )


@dataclass(frozen=True, kw_only=True)
class Examiner:
    """Asks and scores."""

    tokenizer: "PreTrainedTokenizerBase"
    score: Score
    max_new_tokens: int
    seed: int
    advance: Callable[[int], None] = field(default=lambda _count: None)

    def responses(
        self, model: "PreTrainedModel", asked: Sequence[Sequence[int]], **options: Any
    ) -> list[decoding.Response]:
        """Responses to prompts (token ids); options as in `decoding.respond`."""
        options = {"max_new_tokens": self.max_new_tokens, "seed": self.seed, **options}
        return decoding.respond(model, self.tokenizer, asked, advance=self.advance, **options)

    def prompts(self, records: Sequence[Record]) -> list[list[int]]:
        """Token ids of each record asked alone."""
        return [decoding.chat_ids(self.tokenizer, single_turn(record)[:1]) for record in records]

    def answers(self, model: "PreTrainedModel", records: Sequence[Record], **options: Any) -> dict[str, str]:
        """Answers to records, each asked alone in the chat template."""
        responses = self.responses(model, self.prompts(records), **options)
        return {record["id"]: response.text for record, response in zip(records, responses, strict=True)}

    def measured(self, metric: str, records: Sequence[Record], answers: Answers) -> Figures:
        """Mean of the metric with its 95 % interval; records about one text are drawn together."""
        interval = self._interval(metric, records, answers)
        return {
            "mean": interval.mean,
            "low": interval.low,
            "high": interval.high,
            "count": len(records),
        }

    def _interval(self, metric: str, records: Sequence[Record], answers: Answers) -> Interval:
        said = [answers[record["id"]] for record in records]
        values = self.score(metric, said, [scores.references(record) for record in records])
        texts = [record.get("context") or record["id"] for record in records]
        if len(set(texts)) > 1:
            return cluster_bootstrap(values, texts, seed=self.seed)
        return Interval(mean=scores.mean(values), low=min(values), high=max(values))

    def main_score(self, asked: Questions, answers: Answers) -> Figures:
        """Exact match over the short-answer tasks; ROUGE-L where there are none."""
        metric = "exact_match" if asked.short else "rouge_l"
        return {"metric": metric, **self.measured(metric, asked.main, answers)}

    def by_task(self, asked: Questions, answers: Answers) -> dict[str, Figures]:
        """Task -> metric -> mean, low, high, count."""
        rows: dict[str, Figures] = {}
        for records, names in ((asked.short, ("exact_match", "token_f1")), (asked.long, ("rouge_l", "token_f1"))):
            for task in sorted({record["task"] for record in records}):
                own = [record for record in records if record["task"] == task]
                rows[task] = {name: self.measured(name, own, answers) for name in names}
        return rows


def story_removed(examiner: Examiner, model: "PreTrainedModel", asked: Questions) -> Figures | None:
    """Exact match of the short questions that have a context, without it: what can be guessed. None without any."""
    bare = [{**record, "context": ""} for record in asked.with_context]
    if not bare:
        return None
    return examiner.measured("exact_match", bare, examiner.answers(model, bare))


@dataclass(frozen=True, kw_only=True)
class Prompting:
    """The base model, asked in one way."""

    style: few_shot.Style
    shots: int
    figures: Figures
    answers: dict[str, str]


def prompted(
    examiner: Examiner,
    model: "PreTrainedModel",
    asked: Sequence[Record],
    train: Sequence[Record],
    *,
    style: few_shot.Style,
    shots: int,
) -> dict[str, str]:
    """Answers to records asked with `shots` examples from `train` before them."""
    pool: dict[str, list[Record]] = {}
    for record in train:
        pool.setdefault(record["task"], []).append(record)
    longest = max(
        (len(examiner.tokenizer(text)["input_ids"]) for record in asked for text in scores.references(record)),
        default=0,
    )
    limit = min(examiner.max_new_tokens, longest + 8)
    texts = few_shot.answers(
        examiner.tokenizer,
        lambda ids: [response.text for response in examiner.responses(model, ids, max_new_tokens=limit)],
        asked,
        pool,
        shots=shots,
        style=style,
        room=model.config.max_position_embeddings - limit,
    )
    return {record["id"]: text for record, text in zip(asked, texts, strict=True)}


def promptings(
    examiner: Examiner, model: "PreTrainedModel", asked: Questions, train: Sequence[Record], shots: Sequence[int]
) -> list[Prompting]:
    """Ask the base model in every style with every number of examples; the best first."""
    every: list[Prompting] = []
    for style in few_shot.STYLES:
        for count in shots:
            answers = prompted(examiner, model, asked.main, train, style=style, shots=count)
            figures = examiner.main_score(asked, answers)
            every.append(Prompting(style=style, shots=count, figures=figures, answers=answers))
    return sorted(every, key=lambda each: -each.figures["mean"])


def decodings(
    examiner: Examiner,
    model: "PreTrainedModel",
    asked: Questions,
    ways: Sequence[Mapping[str, Any]],
    greedy: Answers,
) -> list[Figures]:
    """Scores of each way to decode: `name`, `temperature`, `top_p`, `beams`. Greedy answers are not asked again."""
    rows = []
    for way in ways:
        options = {name: value for name, value in way.items() if name != "name"}
        is_greedy = options["temperature"] == 0 and options["beams"] == 1
        answers = (
            greedy if is_greedy else examiner.answers(model, asked.every, batch_size=64 // options["beams"], **options)
        )
        said = [answers[record["id"]] for record in asked.every]
        rows.append(
            {
                "name": way["name"],
                "exact_match": _mean(examiner, "exact_match", asked.short, answers),
                "rouge_l": _mean(examiner, "rouge_l", asked.long, answers),
                "token_f1": _mean(examiner, "token_f1", asked.every, answers),
                "mean_words": scores.mean([len(text.split()) for text in said]),
                "distinct_answers": len(set(said)) / max(1, len(said)),
            }
        )
    return rows


def _mean(examiner: Examiner, metric: str, records: Sequence[Record], answers: Answers) -> float | None:
    return examiner.measured(metric, records, answers)["mean"] if records else None


def diverse(records: Sequence[Record], count: int) -> list[Record]:
    """Records of every task in turn."""
    tasks = sorted({record["task"] for record in records})
    queues = [[record for record in records if record["task"] == task] for task in tasks]
    return [record for record in chain.from_iterable(zip_longest(*queues)) if record is not None][:count]

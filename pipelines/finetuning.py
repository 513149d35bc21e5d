"""Train the base model to follow instructions."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pipelines import params as schema
from pipelines import stage
from pipelines.adapters import customisation, datasets, device, files, models, sft
from pipelines.adapters.checkpoints import Checkpoint, Checkpoints
from pipelines.adapters.resumption import Resumption
from pipelines.adapters.tokens import TokenStore
from pipelines.adapters.tracking import Progress, Tracker
from pipelines.artifacts import Artifact
from pipelines.core.judging import scores
from pipelines.core.judging.forgetting import forgetting
from pipelines.core.judging.likelihood import bits_per_byte
from pipelines.core.learning import compute, decoding, mixture
from pipelines.core.learning.batches import Row
from pipelines.core.learning.coverage import coverage
from pipelines.core.text import chat
from pipelines.core.text.prompts import single_turn
from pipelines.errors import DataError, ParamsError
from pipelines.params import Params

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class FinetuningReport:
    """Figures of the stage; scores are measured on held-out instructions (split valid), greedily, single turn."""

    exact_match: float | None
    """Over the records of all short-answer tasks, normalised as in core.judging.scores; None without such tasks."""
    exact_match_story_removed: float | None
    """The questions that have a context, asked without it: what can be guessed without reading; None without any."""
    exact_match_by_task: dict[str, float]
    rouge_l: float | None
    """Over the records of the other tasks; None without any."""
    rouge_l_by_task: dict[str, float]
    num_questions_left_out: int
    """Held-out records too long for the model, which are not asked."""
    forgetting: float
    """Relative change of bits per byte on held-out pretraining text: 0.05 is five per cent worse."""
    bits_per_byte_before: float
    bits_per_byte_after: float
    trainable_parameters: int
    num_conversations: int
    """Trained on, repeats by epochs and task weights included."""
    num_left_out: int
    """Conversations longer than finetuning.max_length."""
    num_tokens: int
    """Training tokens, replayed ones included, padding not."""
    num_loss_tokens: int
    """Those that are in the loss."""
    loss_in_answers: float
    """Of the tokens of conversations in the loss, the share that the assistant says, found by the template's tokens."""
    answers_in_loss: float
    """Of the tokens that the assistant says, the share in the loss."""
    num_replayed_tokens: int
    num_steps: int
    loss_first: float
    """Mean over the first tenth of the steps."""
    loss_last: float
    """Mean over the last tenth of the steps."""


def main(params: Params, tracker: Tracker) -> FinetuningReport:
    """Build the mixture, train, save, measure."""
    settings = params.finetuning
    where = device.prepare(params.seed, params.threads)
    precision = device.precision("auto")
    tokenizer = models.load_tokenizer(Artifact.BASE.path)
    model = models.load_causal(Artifact.BASE.path).to(where)
    store = TokenStore.open(Artifact.TOKENS.path)
    valid, context = store.split("valid"), params.pretraining.context
    before = bits_per_byte(model, valid, valid.num_bytes, context, precision=precision)
    custom = customisation.prepare(settings, model, tokenizer, params.seed)
    mixed = _mixture(tokenizer, settings, _longest(settings, model), store.split("train"), params.seed)
    sections = {"seed": params.seed, "finetuning": settings.model_dump(exclude={"checkpoint_every"})}
    inputs = [artifact.path for artifact in (Artifact.VALIDATED, Artifact.TOKENS, Artifact.BASE)]
    with Checkpoints.opened("finetuning", sections, inputs) as checkpoints:
        checkpoints.require_space(3 * 4 * model.num_parameters())
        found = checkpoints.latest()
        with tracker.progress("training", mixed.num_tokens, "tokens") as bar:
            watch = _Watch(tracker, bar, found)
            trained = sft.train(
                model,
                tokenizer,
                mixed.examples,
                mixed.batches,
                sft.Schedule(
                    optimizer=settings.optimizer,
                    learning_rate=settings.learning_rate,
                    warmup_share=settings.warmup_share,
                    seed=params.seed,
                    turn_length_exponent=settings.turn_length_exponent,
                ),
                precision=precision,
                resume=Resumption(store=checkpoints, found=found, every=settings.checkpoint_every, values=watch.values),
                adapter=custom.adapter,
                merge_scale=custom.merge_scale,
                rows=custom.rows,
                on_step=watch,
                stop=stage.preempted,
            )
        after = bits_per_byte(trained.model, valid, valid.num_bytes, context, precision=precision)
        answered = _scores(trained.model, tokenizer, settings, tracker)
        curve = [[step.step, step.loss, step.learning_rate] for step in watch.steps]
        files.write_csv(Artifact.FINETUNING_CURVE.path, ["step", "loss", "learning_rate"], curve)
        models.save(trained.model, tokenizer, Artifact.SFT.path)
        checkpoints.discard()
    tracker.effort(
        flops=compute.TRAINING.flops(trained.model.num_parameters(), mixed.num_tokens),
        tokens=mixed.num_tokens,
        seconds=checkpoints.seconds_before,
        objective="likelihood of the assistant's turns",
        customisation=f"{settings.method}: {trained.trainable_parameters:,} weights",
    )
    return FinetuningReport(
        **answered,
        forgetting=forgetting(before, after),
        bits_per_byte_before=before,
        bits_per_byte_after=after,
        trainable_parameters=trained.trainable_parameters,
        num_conversations=mixed.num_conversations,
        num_left_out=mixed.num_left_out,
        num_tokens=mixed.num_tokens,
        num_loss_tokens=mixed.num_loss_tokens,
        **asdict(
            coverage(
                mixed.examples[: mixed.num_conversations],
                opens=tokenizer.convert_tokens_to_ids(chat.ASSISTANT),
                closes=tokenizer.eos_token_id,
            )
        ),
        num_replayed_tokens=mixed.num_replayed_tokens,
        num_steps=len(watch.steps),
        **_losses(watch.steps),
    )


class _Watch:
    """Keeps the steps and tells the tracker."""

    def __init__(self, tracker: Tracker, bar: Progress, found: Checkpoint | None) -> None:
        self.steps = [sft.Step(**values) for values in found.values["steps"]] if found else []
        self._tracker, self._bar = tracker, bar
        bar.resume(sum(step.tokens for step in self.steps))

    def __call__(self, step: sft.Step) -> None:
        self.steps.append(step)
        self._bar.advance(step.tokens, loss=step.loss)
        self._tracker.log({"loss": step.loss, "learning_rate": step.learning_rate}, step=step.step)

    def values(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the state."""
        return {"steps": [asdict(step) for step in self.steps]}


def _longest(settings: schema.Finetuning, model: "PreTrainedModel") -> int:
    limit = decoding.longest(model)
    if settings.max_length > limit:
        raise ParamsError(
            f"finetuning.max_length is {settings.max_length} but the base model reads at most {limit} tokens:"
            " lower finetuning.max_length or raise model.context in params.yaml"
        )
    return settings.max_length


def _mixture(
    tokenizer: "PreTrainedTokenizerBase", settings: schema.Finetuning, longest: int, text: Row, seed: int
) -> mixture.Mixture:
    records = list(datasets.records(Artifact.VALIDATED.path, "instructions", "train"))
    known = sorted({record["task"] for record in records})
    if unknown := sorted(set(settings.task_weights) - set(known)):
        raise ParamsError(
            f"finetuning.task_weights names {unknown}, but the tasks of the data are {known}: correct it in"
            " params.yaml, or in the profile that brings the data (there, `task_weights: {}` weighs all tasks alike)"
        )
    if known and not any(settings.task_weights.get(task, 1.0) for task in known):
        raise ParamsError(
            f"finetuning.task_weights is 0 for every task of the data, {known}, so that nothing is left to learn: give"
            " one of them a weight above 0 in params.yaml"
        )
    mixed = mixture.build(
        tokenizer,
        records,
        weights=settings.task_weights,
        epochs=settings.epochs,
        max_turns=settings.max_turns,
        max_length=longest,
        batch_size=settings.batch_size,
        replay_share=settings.replay_share,
        text=text,
        seed=seed,
    )
    if not mixed.num_conversations:
        raise DataError(
            f"No conversation to train on: {len(records)} records in {Artifact.VALIDATED}, {mixed.num_left_out}"
            f" conversations longer than finetuning.max_length ({longest}). Raise it, or give more instructions."
        )
    return mixed


def _scores(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", settings: schema.Finetuning, tracker: Tracker
) -> dict[str, Any]:
    records = list(datasets.records(Artifact.VALIDATED.path, "instructions", "valid"))
    short = scores.short_answer_tasks(records)
    room = decoding.longest(model) - settings.max_new_tokens
    fit = [record for record in records if len(decoding.chat_ids(tokenizer, single_turn(record)[:1])) <= room]
    drawn = scores.drawn(fit, settings.evaluation_records)
    asked = [record for record in drawn if record["task"] in short]
    told = [record for record in drawn if record["task"] not in short]
    bare = [{**record, "context": ""} for record in asked if record.get("context")]
    with tracker.progress("answering held-out instructions", len(drawn) + len(bare), "answers") as bar:
        answers = partial(
            decoding.answers, model, tokenizer, max_new_tokens=settings.max_new_tokens, advance=bar.advance
        )
        exact = scores.score_all(scores.exact_match, asked, answers(asked))
        blind = scores.score_all(scores.exact_match, bare, answers(bare))
        overlap = scores.score_all(scores.rouge_l, told, answers(told))
    return {
        "exact_match": scores.mean(exact) if exact else None,
        "exact_match_story_removed": scores.mean(blind) if blind else None,
        "exact_match_by_task": scores.mean_by([record["task"] for record in asked], exact),
        "rouge_l": scores.mean(overlap) if overlap else None,
        "rouge_l_by_task": scores.mean_by([record["task"] for record in told], overlap),
        "num_questions_left_out": len(records) - len(fit),
    }


def _losses(steps: Sequence[sft.Step]) -> dict[str, Any]:
    tenth = max(1, len(steps) // 10)
    return {
        "loss_first": scores.mean([step.loss for step in steps[:tenth]]),
        "loss_last": scores.mean([step.loss for step in steps[-tenth:]]),
    }


if __name__ == "__main__":
    stage.run("finetuning", main, report=Artifact.FINETUNING_REPORT)

"""Make smaller models and choose one by the rule."""

import copy
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import params as schema
from pipelines import stage
from pipelines.adapters import datasets, device, files, models, release
from pipelines.adapters.tokens import Tokens, TokenStore
from pipelines.adapters.tracking import Tracker
from pipelines.artifacts import Artifact
from pipelines.core.judging import candidates, pareto, scores
from pipelines.core.judging.candidates import CandidateRow
from pipelines.core.judging.trials import Measured, Trial
from pipelines.core.learning import distillation, pruning, quantisation
from pipelines.core.learning.compute import READING, TRAINING
from pipelines.core.text import prompts
from pipelines.errors import ArtifactError, DataError, Preempted
from pipelines.params import Params

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BASELINE = "float32"
"""What every candidate is compared with: the policy as it is."""

HELD_OUT: tuple[datasets.Split, ...] = ("valid", "test")
"""The first is what the choice is made by; the second is not looked at until it is made."""


@dataclass(frozen=True, kw_only=True)
class CompressionReport:
    """The table, the choice, and the figures of the choice on data that it was not made by."""

    candidates: list[CandidateRow]
    chosen: str
    rule_met: bool
    """False: no candidate keeps compression.rule; the smallest that loses no quality was taken."""
    bytes: int
    bytes_ratio: float
    bits_per_byte: float
    bits_per_byte_increase: float
    task_score: float
    test_bits_per_byte: float
    """Of the chosen one on the split test."""
    test_bits_per_byte_increase: float
    """Relative, over float32 on the split test."""
    test_task_score: float
    test_task_score_float32: float
    num_instructions: int
    """Held-out instructions behind a task score of the split valid."""
    num_left_out: int
    """Held-out instructions that leave no room for an answer in the model's context."""
    student_tokens: int
    unfinished_share: float
    """Share of the chosen one's answers that did not end within compression.max_new_tokens."""
    empty_share: float
    answer_words: float
    """Mean words of its answers."""
    not_made: list[str]
    """Candidates that would be no other than another one, and why, a sentence each."""


def main(params: Params, tracker: Tracker) -> CompressionReport:
    """Write every candidate, load it again, measure it, and keep the one that the rule chooses."""
    settings = params.compression
    where = device.prepare(params.seed, params.threads)
    tokenizer = models.load_tokenizer(Artifact.POLICY.path)
    policy = models.load_causal(Artifact.POLICY.path).to(where)
    _refuse_broken(policy)
    store = TokenStore.open(Artifact.TOKENS.path)
    context = min(params.pretraining.context, policy.config.max_position_embeddings)
    trials = {split: _trial(split, store.split(split), policy, tokenizer, settings, context) for split in HELD_OUT}
    student = _student(params, policy, tokenizer, store.split("train"), context, tracker)
    calibration = _calibration(store.split("train"), settings.calibration_tokens, context)
    with tempfile.TemporaryDirectory(prefix=".candidates-", dir=Artifact.POLICY.path.parent) as scratch:
        made = dict(_candidates(policy, tokenizer, student, settings, calibration))
        folders = {name: Path(scratch) / str(number) for number, name in enumerate(made)}
        measured = {}
        with tracker.progress("writing and measuring", len(made), "models") as bar:
            for number, (name, (write, _)) in enumerate(made.items()):
                _stop_if_asked()
                write(folders[name])
                measured[name] = trials["valid"].measure(release.load_model(folders[name]).to(where), tokenizer)
                tracker.log({"answer_tokens_per_second": measured[name].tokens_per_second}, step=number)
                bar.advance(1, bits_per_byte=measured[name].bits_per_byte, task_score=measured[name].task_score)
        formats = {name: written_as for name, (_, written_as) in made.items()}
        sizes = {name: release.weight_bytes(folder) for name, folder in folders.items()}
        limits = pareto.Limits(**settings.rule.model_dump())
        rows, choice = candidates.table(measured, formats, sizes, limits)
        on_test = {
            name: trials["test"].measure(release.load_model(folders[name]).to(where), tokenizer)
            for name in dict.fromkeys([BASELINE, choice.name])
        }
        with files.replacing(Artifact.COMPRESSED.path) as fresh:
            shutil.copytree(folders[choice.name], fresh)
    tracker.effort(customisation=f"{choice.name} of {len(rows)} candidates")
    return _report(rows, choice, measured[choice.name], on_test, trials["valid"], student, _not_made(policy))


def _refuse_broken(policy: "PreTrainedModel") -> None:
    broken = [name for name, weight in policy.named_parameters() if not bool(weight.isfinite().all())]
    if broken:
        raise ArtifactError(
            f"{Artifact.POLICY} holds weights that are not finite numbers ({broken[0]} and {len(broken) - 1} more):"
            " lower ppo.learning_rate in params.yaml and run ppo again."
        )


def _trial(
    split: datasets.Split,
    tokens: Tokens,
    policy: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    settings: schema.Compression,
    context: int,
) -> Trial:
    records = list(datasets.records(Artifact.VALIDATED.path, "instructions", split))
    trial = Trial.of(
        records,
        tokens,
        tokenizer,
        longest=policy.config.max_position_embeddings,
        context=context,
        examples_per_task=settings.examples_per_task,
        max_new_tokens=settings.max_new_tokens,
        precision=device.precision("auto"),
    )
    if not trial.records or not len(tokens):
        raise DataError(
            f"{Artifact.VALIDATED} has {len(tokens):,} tokens of text and {len(trial.records)} usable instructions in"
            f" the split {split}: compressed models cannot be compared. Give more of both in ingestion, or lower"
            " compression.max_new_tokens."
        )
    return trial


@dataclass(frozen=True, kw_only=True)
class _Student:
    model: "PreTrainedModel | None"
    """None: the policy has one layer only, so there is none of half its depth."""
    tokens: int


def _student(
    params: Params,
    policy: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    text: Tokens,
    context: int,
    tracker: Tracker,
) -> _Student:
    if policy.config.num_hidden_layers < 2:
        return _Student(model=None, tokens=0)
    settings = params.compression.student
    chat = _conversations(tokenizer, params.finetuning.max_turns, settings.max_tokens // 2)
    try:
        batches = distillation.mixed(text, chat, context=context, seed=params.seed, separator=tokenizer.eos_token_id)
    except ValueError as error:
        raise DataError(f"{Artifact.TOKENS}: {error}. Give more text in ingestion.corpus.train.") from None
    model = distillation.student_of(policy)
    steps = distillation.distil(
        model,
        policy,
        batches,
        max_tokens=settings.max_tokens,
        learning_rate=settings.learning_rate,
        temperature=settings.temperature,
        precision=device.precision("auto"),
    )
    tokens = 0
    with tracker.progress("distilling the student", settings.max_tokens, "tokens") as bar:
        for step in steps:
            _stop_if_asked()
            tokens += batches.tokens_per_step
            tracker.log({"student_loss": step.loss, "student_learning_rate": step.learning_rate}, step=step.step)
            bar.advance(batches.tokens_per_step, loss=step.loss)
    tracker.effort(
        flops=TRAINING.flops(model.num_parameters(), tokens) + READING.flops(policy.num_parameters(), tokens),
        tokens=tokens,
        objective="divergence from the policy, and likelihood",
    )
    return _Student(model=model, tokens=tokens)


def _conversations(tokenizer: "PreTrainedTokenizerBase", max_turns: int, max_tokens: int) -> Any:
    records = datasets.records(Artifact.VALIDATED.path, "instructions", "train")
    found: list[list[int]] = []
    for conversation in prompts.conversations(records, max_turns):
        found.append(tokenizer.apply_chat_template(conversation, return_dict=False))
        max_tokens -= len(found[-1])
        if max_tokens <= 0:
            break
    return distillation.packed_row(found)


def _calibration(text: Tokens, tokens: int, context: int) -> "list[torch.Tensor]":
    import numpy as np
    import torch

    rows = max(1, min(tokens, len(text)) // context)
    ids = text[: rows * context].astype(np.int64)
    return list(torch.from_numpy(ids[: len(ids) // rows * rows].reshape(rows, -1)).chunk(max(1, rows // 16)))


Write = Callable[[Path], None]


def _candidates(
    policy: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    student: _Student,
    settings: schema.Compression,
    calibration: "list[torch.Tensor]",
) -> Iterator[tuple[str, tuple[Write, str]]]:
    """Name -> how its folder is written, and the format of its weights."""
    import torch

    def rounded(make: "Callable[[], PreTrainedModel]") -> Write:
        return lambda folder: models.save(make().to(torch.bfloat16), tokenizer, folder)

    def eight_bits(model: "PreTrainedModel", *, embeddings: bool) -> Write:
        return lambda folder: release.save_quantised(model, tokenizer, folder, embeddings=embeddings)

    yield BASELINE, (lambda folder: models.save(policy, tokenizer, folder), "float32")
    yield "bfloat16", (rounded(lambda: copy.deepcopy(policy)), "bfloat16")
    whole = ", Conv1D bfloat16" if quantisation.left_whole(policy) else ""
    yield "int8", (eight_bits(policy, embeddings=True), f"int8{whole}")
    if not _not_made(policy):
        yield "int8 linear", (eight_bits(policy, embeddings=False), f"int8, embeddings bfloat16{whole}")
    norms = pruning.input_norms(policy, calibration)
    for share in settings.sparsities:
        yield f"magnitude {share:g}", (rounded(partial(_by_magnitude, policy, share)), "bfloat16")
        yield f"wanda {share:g}", (rounded(partial(_by_wanda, policy, share, norms)), "bfloat16")
    if (small := student.model) is not None:
        yield "student", (rounded(lambda: copy.deepcopy(small)), "bfloat16")
        yield "student int8", (eight_bits(small, embeddings=True), f"int8{whole}")


def _not_made(policy: "PreTrainedModel") -> list[str]:
    if quantisation.matrices(policy, embeddings=False):
        return []
    return ["int8 linear: the model has no linear layer that can be stored in eight bits, so this would be bfloat16."]


def _by_magnitude(policy: "PreTrainedModel", sparsity: float) -> "PreTrainedModel":
    model = copy.deepcopy(policy)
    pruning.prune_by_magnitude(model, sparsity)
    return model


def _by_wanda(policy: "PreTrainedModel", sparsity: float, norms: "dict[str, torch.Tensor]") -> "PreTrainedModel":
    model = copy.deepcopy(policy)
    pruning.prune_by_wanda(model, sparsity, norms)
    return model


def _report(
    rows: list[CandidateRow],
    choice: pareto.Choice,
    chosen: Measured,
    on_test: dict[str, Measured],
    trial: Trial,
    student: _Student,
    not_made: list[str],
) -> CompressionReport:
    row = next(row for row in rows if row.name == choice.name)
    return CompressionReport(
        candidates=rows,
        chosen=choice.name,
        rule_met=choice.rule_met,
        bytes=row.bytes,
        bytes_ratio=row.bytes_ratio,
        bits_per_byte=row.bits_per_byte,
        bits_per_byte_increase=row.bits_per_byte_increase,
        task_score=row.task_score,
        test_bits_per_byte=on_test[choice.name].bits_per_byte,
        test_bits_per_byte_increase=on_test[choice.name].bits_per_byte / on_test[BASELINE].bits_per_byte - 1,
        test_task_score=on_test[choice.name].task_score,
        test_task_score_float32=on_test[BASELINE].task_score,
        num_instructions=len(trial.records),
        num_left_out=trial.num_left_out,
        student_tokens=student.tokens,
        unfinished_share=scores.mean([float(not answer.finished) for answer in chosen.answers]),
        empty_share=scores.mean([float(not answer.text) for answer in chosen.answers]),
        answer_words=scores.mean([float(len(answer.text.split())) for answer in chosen.answers]),
        not_made=not_made,
    )


def _stop_if_asked() -> None:
    if stage.preempted():
        raise Preempted("Stopped by request; compression starts afresh at the next run.")


if __name__ == "__main__":
    stage.run("compression", main, report=Artifact.COMPRESSION_REPORT)

"""Train the base model on packed text."""

import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import stage
from pipelines.adapters import checkpoints, files, models, processes
from pipelines.adapters import device as machine
from pipelines.adapters.checkpoints import Checkpoints
from pipelines.adapters.tokens import Tokens, TokenStore
from pipelines.adapters.tracking import Tracker
from pipelines.artifacts import Artifact
from pipelines.core.judging import budgets
from pipelines.core.judging.likelihood import Likelihood, likelihood
from pipelines.core.learning import attention, base_models, denoising, optimizers, pace, training
from pipelines.core.learning.accumulation import InParts
from pipelines.core.learning.batches import Packed, rows_read
from pipelines.core.learning.denoising import Corrupted, Filled
from pipelines.core.learning.schedules import warmup_cosine
from pipelines.errors import ArtifactError, DataError, Preempted
from pipelines.params import Params, Pretraining

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LEARNT = {
    "causal": "next-token cross-entropy",
    "masked": "masked-token cross-entropy",
    "span_corruption": "corrupted-span cross-entropy",
}
NOT_LEARNT = {"processes", "microbatch_size", "checkpoint_every"}
"""Settings that cut the same batches otherwise, or save at other steps: a training goes on when they change."""


@dataclass(frozen=True, kw_only=True)
class PretrainingReport:
    """What the base model became, and at what cost. Losses are those of the weights that are saved."""

    val_bits_per_byte: float | None
    """On the whole validation split; None where tokens are hidden and not foretold."""
    test_bits_per_byte: float | None
    """On the whole test split."""
    val_loss: float
    """Nats per token asked."""
    val_perplexity: float
    """Per token asked."""
    num_parameters: int
    """Embeddings included, tied ones once."""
    num_tokens: int
    """Seen in training."""
    num_epochs: float
    """Passes over the training split."""
    training_flops: float
    """6ND (Kaplan et al. 2020, arXiv:2001.08361): N all parameters, embeddings included, D tokens seen."""
    petaflop_s_days: float
    """In units of 8.64e19 FLOPs."""
    tokens_per_parameter: float
    """Chinchilla's optimum is near 20 (arXiv:2203.15556)."""
    num_steps: int
    best_step: int
    """The step whose weights are saved."""
    stopped_early: bool


@dataclass(frozen=True, kw_only=True)
class DenoisingReport(PretrainingReport):
    """The same where hidden tokens are learnt. A decoder is told the tokens before the one it is asked."""

    objective: str
    val_accuracy: float
    """Share of the hidden tokens that were the likeliest, on the whole validation split."""
    test_accuracy: float
    test_loss: float
    """Nats per hidden token."""
    num_hidden_tokens: int
    """Of the test split."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One line of the learning curve."""

    step: int
    tokens: int
    loss: float
    learning_rate: float
    held_out: float | None = None
    """Bits per byte, or nats a hidden token."""


@dataclass(kw_only=True)
class _Run:
    """The training as it stands; what of it is not a tensor goes into checkpoints as it is."""

    patience: training.Patience
    step: int = 0
    curve: list[Point] = field(default_factory=list)
    best_weights: "dict[str, Tensor]" = field(default_factory=dict)


def main(params: Params, tracker: Tracker) -> PretrainingReport:
    """Train from scratch, or go on from a given model; save the weights that were best on validation text.

    Of several processes that train together only the first resumes, saves and reports; the others exit here.
    """
    trainer = _Trainer(params, tracker)
    sections = {
        "seed": params.seed,
        "model": params.model.model_dump(mode="json"),
        "pretraining": params.pretraining.model_dump(mode="json", exclude=NOT_LEARNT),
    }
    inputs = [Artifact.TOKENS.path, Artifact.TOKENIZER.path, *_given(params.pretraining.init)]
    first = processes.place().rank == 0
    with Checkpoints.opened("pretraining", sections, inputs) if first else nullcontext() as store:
        if store:
            store.require_space(trainer.state_bytes)
        with processes.joined("pretraining", params.pretraining.processes) as trainer.group:
            if trainer.group.size > 1:
                trainer.group.require_same(checkpoints.key("pretraining", sections, inputs))
            trainer.train(store)
        if store is None:
            sys.exit()
        report = trainer.report()
        models.save(trainer.model, trainer.tokenizer, Artifact.BASE.path)
        rows = [list(vars(point).values()) for point in trainer.run.curve]
        columns = [trainer.held_out if name == "held_out" else name for name in Point.__dataclass_fields__]
        files.write_csv(Artifact.PRETRAINING_CURVE.path, columns, rows)
        store.discard()
    tracker.effort(
        flops=report.training_flops,
        tokens=report.num_tokens,
        seconds=store.seconds_before,
        objective=LEARNT[params.pretraining.objective],
        customisation="all weights" + (", from scratch" if params.pretraining.init is None else ""),
        pace=pace.key(params),
    )
    return report


def _given(init: str | None) -> list[Path]:
    """The folder of the model to begin with, where `pretraining.init` names one: its content may change."""
    return [Path(init)] if init is not None and Path(init).is_dir() else []


class _Trainer:
    """Model, data and settings of one run."""

    def __init__(self, params: Params, tracker: Tracker) -> None:
        self.settings = settings = params.pretraining
        self.tracker = tracker
        self.group: processes.Alone | processes.Together = processes.Alone()
        here = processes.place(settings.processes)
        self.device = machine.prepare(
            params.seed, params.threads, local_rank=here.local_rank, local_size=here.local_size
        )
        self.precision = machine.precision(settings.precision)
        self.tokens = TokenStore.open(Artifact.TOKENS.path)
        self.tokenizer = models.load_tokenizer(Artifact.TOKENIZER.path)
        _require_fitting(self.tokens, self.tokenizer)
        self.packed = _packed(self.tokens.split("train"), settings, params.seed, self.tokenizer.eos_token_id)
        self.valid = _held_out(self.tokens, "valid")
        self.test = _held_out(self.tokens, "test")
        self.model = _model(params, self.tokenizer, self.tokens, self.device)
        self.optimizer = optimizers.build(
            settings.optimizer, self.model, weight_decay=settings.weight_decay, precision=self.precision
        )
        tokens = budgets.pretraining_tokens(
            settings.budget,
            max_tokens=settings.max_tokens,
            parameters=int(self.model.num_parameters()),
            step_tokens=self._step_tokens,
        )
        self.steps = tokens // self._step_tokens
        self.run = _Run(patience=training.Patience(limit=settings.patience))
        self.corrupt: denoising.Corrupt | None = None
        if settings.objective != "causal":
            self.corrupt = denoising.corrupting(
                settings.objective, vocab_size=self.tokens.vocab_size, separator=self.tokenizer.eos_token_id
            )
        self.held_out = "val_loss" if self.corrupt else "val_bits_per_byte"
        """The held-out figure, as the curve calls it."""

    @property
    def state_bytes(self) -> int:
        """Bytes of one checkpoint: weights, two moments, the best weights."""
        return 4 * 4 * int(self.model.num_parameters())

    def train(self, store: Checkpoints | None) -> None:
        """Train to the end or to the point of early stopping, from the latest checkpoint; keep the best weights.

        All processes of the group stop at the same step; the one with a `store` saves.
        """
        self._resume(store)
        settings, run = self.settings, self.run
        self.model.train()
        with self.tracker.progress("tokens", self.steps * self._step_tokens, "tokens") as bar:
            bar.resume(run.step * self._step_tokens)
            for step in self._steps():
                run.step = step.step
                measured = self._validate() if self._is_due(step.step, settings.evaluate_every) else None
                self._record(step, measured)
                bar.advance(self._step_tokens, loss=step.loss)
                preempted = self.group.any(flag=stage.preempted())
                if store and (preempted or self._is_due(step.step, settings.checkpoint_every)):
                    self._save(store)
                if preempted:
                    raise Preempted(f"Stopped at step {step.step}; the next run goes on from there.")
                if run.patience.exhausted:
                    break
        if run.best_weights:
            training.load_weights(self.model, run.best_weights)

    def _steps(self) -> Iterator[training.Step]:
        import torch

        settings = self.settings
        forward = torch.compile(self.model) if settings.compile else self.model
        if self.run.patience.exhausted:
            return iter(())
        loss: Callable[..., Tensor] = denoising.loss if self.corrupt else training.next_token_loss
        batches: Callable[[int], Any] = Corrupted(self.packed, self.corrupt) if self.corrupt else self.packed
        return training.train(
            partial(loss, forward, device=self.device, precision=self.precision),
            batches,
            self.optimizer,
            schedule=partial(
                warmup_cosine,
                steps=self.steps,
                peak=settings.learning_rate,
                warmup_share=settings.warmup_share,
                final_share=settings.final_learning_rate_share,
            ),
            steps=self.steps,
            start=self.run.step,
            gradient_clip=settings.gradient_clip,
            gradient=self._gradient(),
        )

    def _gradient(self) -> "Callable[[Callable[[Any], Tensor], Any], Tensor]":
        size = self.settings.microbatch_size
        if self.group.size == 1 and size is None:
            return training.whole
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        return InParts(weights=weights, group=self.group, microbatch_size=size)

    @property
    def _step_tokens(self) -> int:
        return self.settings.batch_size * self.settings.context

    def _is_due(self, step: int, every: int) -> bool:
        return step % every == 0 or step == self.steps

    def _validate(self) -> float:
        """Error on the first validation tokens; remembers the weights when they are the best so far."""
        run, mine = self.run, None
        if self.group.rank == 0:  # rounding must not make the others stop at another step
            mine = self._error()
        measured: float = self.group.firsts(mine)
        run.patience = run.patience.after(run.step, measured)
        if run.patience.best_step == run.step:
            run.best_weights = training.weights_of(self.model)
        return measured

    def _error(self) -> float:
        limit = self.settings.validation_tokens
        if self.corrupt is None:
            return self._likelihood(self.valid, limit).bits_per_byte
        return self._filled(self.valid, self.corrupt, limit).loss

    def _likelihood(self, row: Tokens, limit: int | None = None) -> Likelihood:
        context, batch = self.settings.context, self._validation_batch
        return likelihood(self.model, row, row.num_bytes, context, batch, precision=self.precision, limit=limit)

    def _filled(self, row: Tokens, corrupt: denoising.Corrupt, limit: int | None = None) -> Filled:
        context, batch = self.settings.context, self._validation_batch
        questions = denoising.held_out(row, corrupt, context=context, batch_size=batch, limit=limit)
        said = denoising.answers(self.model, questions, device=self.device, precision=self.precision)
        return denoising.filled(self.model, said, vocab_size=self.tokens.vocab_size)

    @property
    def _validation_batch(self) -> int:
        return rows_read(context=self.settings.context, entries=self.model.config.vocab_size)

    def _record(self, step: training.Step, measured: float | None) -> None:
        seen = step.step * self._step_tokens
        self.run.curve.append(
            Point(
                step=step.step,
                tokens=seen,
                loss=step.loss,
                learning_rate=step.learning_rate,
                held_out=measured,
            )
        )
        figures = {"loss": step.loss, "learning_rate": step.learning_rate, "gradient_norm": step.gradient_norm}
        if measured is not None:
            figures[self.held_out] = measured
        self.tracker.log(figures, step.step)

    def _save(self, store: Checkpoints) -> None:
        run = self.run
        tensors = training.state_of(self.model, self.optimizer)
        tensors |= {f"best.{name}": tensor for name, tensor in run.best_weights.items()}
        patience = {"best": run.patience.best, "best_step": run.patience.best_step, "since": run.patience.since}
        curve = [list(vars(point).values()) for point in run.curve]
        store.save(run.step, tensors, {"patience": patience, "curve": curve})

    def _resume(self, store: Checkpoints | None) -> None:
        found = store.latest() if store else None
        step, values = self.group.firsts((found.step, found.values) if found else (0, None))
        tensors = found.tensors if found else {}
        if self.group.size > 1:  # the first's, as other machines may have drawn first weights that differ by rounding
            tensors = self.group.firsts_tensors(tensors or training.state_of(self.model, self.optimizer))
        if tensors:
            training.load_state(self.model, self.optimizer, tensors)
        if values is None:
            return
        names = Point.__dataclass_fields__
        self.run = _Run(
            step=step,
            patience=replace(self.run.patience, **values["patience"]),
            curve=[Point(**dict(zip(names, point, strict=True))) for point in values["curve"]],
            best_weights=training.part(tensors, "best"),
        )

    def report(self) -> PretrainingReport:
        """Measure the weights as they are now."""
        if self.corrupt is None:
            valid, test = self._likelihood(self.valid), self._likelihood(self.test)
            return PretrainingReport(
                val_bits_per_byte=valid.bits_per_byte,
                test_bits_per_byte=test.bits_per_byte,
                val_loss=valid.nats / valid.tokens,
                val_perplexity=valid.perplexity,
                **self._cost(),
            )
        known, unseen = (self._filled(row, self.corrupt) for row in (self.valid, self.test))
        return DenoisingReport(
            val_bits_per_byte=None,
            test_bits_per_byte=None,
            val_loss=known.loss,
            val_perplexity=known.perplexity,
            objective=self.settings.objective,
            val_accuracy=known.accuracy,
            test_accuracy=unseen.accuracy,
            test_loss=unseen.loss,
            num_hidden_tokens=unseen.tokens,
            **self._cost(),
        )

    def _cost(self) -> dict[str, Any]:
        parameters = self.model.num_parameters()
        seen = self.run.step * self._step_tokens
        flops = budgets.training_flops(parameters, seen)
        return {
            "num_parameters": parameters,
            "num_tokens": seen,
            "num_epochs": seen / len(self.packed.row),
            "training_flops": flops,
            "petaflop_s_days": budgets.petaflop_s_days(flops),
            "tokens_per_parameter": seen / parameters,
            "num_steps": self.run.step,
            "best_step": self.run.patience.best_step,
            "stopped_early": self.run.patience.exhausted and self.run.step < self.steps,
        }


def _require_fitting(tokens: TokenStore, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Raises ArtifactError when the shards were written with another tokenizer."""
    theirs, ours = (tokens.vocab_size, tokens.eos), (len(tokenizer), tokenizer.eos_token_id)
    if theirs != ours:
        raise ArtifactError(
            f"{Artifact.TOKENS} was written with a tokenizer of {theirs[0]:,} entries and end token {theirs[1]}, but"
            f" {Artifact.TOKENIZER} has {ours[0]:,} and end token {ours[1]}: they do not belong together; run"
            " tokenization again."
        )


def _packed(row: Tokens, settings: Pretraining, seed: int, separator: int) -> Packed:
    packed = Packed(row, settings.context, settings.batch_size, seed, separator)
    if packed.steps_per_epoch == 0:
        raise DataError(
            f"The training text has {len(row):,} tokens, fewer than the {packed.smallest_row:,} that one batch of"
            f" {settings.batch_size} x {settings.context} needs: lower pretraining.batch_size or pretraining.context"
            " in params.yaml, or give more text (ingestion.corpus.train)."
        )
    return packed


def _held_out(tokens: TokenStore, split: str) -> Tokens:
    row = tokens.split(split)
    if not len(row):
        raise DataError(
            f"The split {split} of the corpus is empty, so nothing can be measured on it: add a source to"
            f" ingestion.corpus.{split} in params.yaml, or raise ingestion.held_out_share."
        )
    return row


def _model(
    params: Params, tokenizer: "PreTrainedTokenizerBase", tokens: TokenStore, device: "torch.device"
) -> "PreTrainedModel":
    settings = params.pretraining
    if settings.init is not None:
        model = models.load_initial(settings.init, tokenizer, settings.context)
    else:
        model = base_models.build(
            params.model,
            settings.objective,
            vocab_size=tokens.vocab_size,
            extra_entries=denoising.extra_entries(settings.objective, settings.context),
            eos=tokenizer.eos_token_id,
            pad=tokenizer.pad_token_id,
        )
    model = model.to(device)
    attention.use_fastest(model, device=device, context=settings.context)
    return model


if __name__ == "__main__":
    stage.run("pretraining", main, report=Artifact.PRETRAINING_REPORT)

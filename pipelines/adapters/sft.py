"""Supervised fine-tuning by TRL, on sequences and batches that are planned beforehand."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.adapters import planned_training
from pipelines.adapters.resumption import Resumption
from pipelines.core.learning import attention, optimizers, side_by_side
from pipelines.core.learning.decoding import longest
from pipelines.core.learning.padding import IGNORED, MULTIPLE, rounded
from pipelines.errors import Preempted

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipelines.core.learning.mixture import Example


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of the optimiser."""

    step: int
    """Steps done, this one included."""
    tokens: int
    """Tokens of the batch, padding left out."""
    loss: float
    """Mean over the tokens in the loss, before the step."""
    learning_rate: float


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How the optimiser goes."""

    optimizer: optimizers.Name
    learning_rate: float
    """Peak of the cosine."""
    warmup_share: float
    """Share of the steps with rising learning rate."""
    seed: int
    turn_length_exponent: float = 0.0
    """A token of a turn with n tokens in the loss weighs n to the power of minus this: 0 is the mean over tokens, 1 the
    mean over turns, 0.5 the square averaging of InternVL 2.5 (Chen et al. 2024, arXiv:2412.05271, section 4)."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What came out."""

    model: "PreTrainedModel"
    """In evaluation mode, adapters merged."""
    trainable_parameters: int


def lora(*, rank: int, alpha: int, dropout: float, train_embeddings: bool) -> "PeftConfig":
    """Adapters on every linear layer but the head.

    The base model has never seen the tokens of the chat template: with frozen embeddings it cannot learn them. Either
    these are trained whole, or `train` is told the rows.
    """
    from peft import LoraConfig

    return LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules="all-linear",
        modules_to_save=["embed_tokens"] if train_embeddings else None,
        ensure_weight_tying=train_embeddings,
        task_type="CAUSAL_LM",
    )


def train(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    examples: "Sequence[Example]",
    batches: Sequence[Sequence[int]],
    schedule: Schedule,
    *,
    precision: "torch.dtype",
    resume: Resumption,
    adapter: "PeftConfig | None" = None,
    merge_scale: float = 1.0,
    rows: Sequence[int] = (),
    on_step: Callable[[Step], None] = lambda _step: None,
    stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train on `batches` of indices into `examples`, in their order, from where `resume` has found it.

    Of embeddings that are frozen `rows` are trained all the same. An adapter's update is merged with the weight
    `merge_scale`.

    Raises:
        TrainingError: when the loss is not a finite number.
        Preempted: when `stop` says so.
    """
    import torch
    from datasets import Dataset
    from trl import SFTConfig

    def told(step: int, logs: Mapping[str, float]) -> None:
        tokens = sum(len(examples[row].input_ids) for row in batches[step - 1])
        on_step(Step(step=step, tokens=tokens, loss=logs["loss"], learning_rate=logs["learning_rate"]))

    context = max(len(example.input_ids) for example in examples)
    attention.use_fastest(model, device=model.device, context=context)
    with planned_training.arguments(
        model,
        bf16=precision == torch.bfloat16,
        learning_rate=schedule.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(schedule.warmup_share * len(batches)),
        seed=schedule.seed,
        max_length=None,
        pad_to_multiple_of=MULTIPLE if rounded(context) <= longest(model) else None,
        dataset_kwargs={"skip_prepare_dataset": True},
    ) as arguments:
        trainer = _trainer_class()(
            model=model,
            args=SFTConfig(**arguments),
            train_dataset=Dataset.from_dict(
                {
                    "input_ids": [example.input_ids for example in examples],
                    "labels": [example.labels for example in examples],
                }
            ),
            processing_class=tokenizer,
            peft_config=adapter,
            callbacks=[
                planned_training.watch(resume.done, "finetuning.learning_rate", told),
                resume.callback(stop, len(batches)),
            ],
        )
        trainer.planned, trainer.exponent, trainer.resume = batches, schedule.turn_length_exponent, resume
        frozen = _train_rows(trainer.model, rows) if rows else 0
        trainer.optimizer = optimizers.build(
            schedule.optimizer,
            trainer.model,
            weight_decay=0.0,
            learning_rate=schedule.learning_rate,
            precision=precision,
        )
        asking = sum(weight.numel() for weight in trainer.model.parameters() if weight.requires_grad)
        planned_training.run(trainer)
    if stop():
        raise Preempted("Stopped by request; fine-tuning goes on from there at the next run.")
    trained = trainer.model if adapter is None else _merged(trainer.model, merge_scale)
    trained.set_attn_implementation("sdpa")
    return Trained(model=trained.eval(), trainable_parameters=asking - frozen)


def _merged(model: Any, scale: float) -> "PreTrainedModel":
    from peft.helpers import rescale_adapter_scale

    with rescale_adapter_scale(model, scale):
        merged: PreTrainedModel = model.merge_and_unload()
    return merged


def _train_rows(model: Any, rows: Sequence[int]) -> int:
    """Let the embeddings have a gradient in `rows` alone; return how many of their weights have none.

    An optimiser of the Adam family without decay never moves a weight whose gradient is zero at every step. peft has
    an adapter for rows, but where embeddings and head are one matrix it wraps the head, which TRL refuses: its loss on
    a GPU reads the head's weights directly.
    """
    import torch

    weight = model.get_input_embeddings().weight
    kept_V1 = torch.zeros(len(weight), 1, device=weight.device)
    kept_V1[list(rows)] = 1
    weight.requires_grad_(True).register_hook(lambda gradient_VD: gradient_VD * kept_V1)
    return int((len(weight) - len(rows)) * weight.shape[1])


def turn_weights(asked_BT: "torch.Tensor", exponent: float) -> "torch.Tensor":
    """The weight n ** -exponent for each token of a run of n asked tokens, 0 elsewhere; (B, T), float32."""
    import torch

    first_BT = asked_BT & ~torch.nn.functional.pad(asked_BT, (1, 0))[:, :-1]
    run_N = first_BT.flatten().cumsum(0)[asked_BT.flatten()] - 1
    lengths_N = torch.bincount(run_N)[run_N] if len(run_N) else run_N
    weights_BT = torch.zeros(asked_BT.shape, device=asked_BT.device)
    weights_BT[asked_BT] = lengths_N.float() ** -exponent
    return weights_BT


def _trainer_class() -> Any:
    import torch
    from transformers import Trainer
    from trl import SFTTrainer

    class PlannedTrainer(planned_training.Planned, SFTTrainer):  # type: ignore[misc]  # trl has no types
        """SFTTrainer on planned batches, which computes logits only where there is a loss.

        Most tokens of a conversation are not in the loss and the vocabulary is a large part of a small model: on a CPU
        this is two thirds faster than TRL's own loss, and the gradient is the same. TRL does so itself on a GPU.
        Padding is on the right, so that causal attention never sees it and needs no mask.
        """

        exponent = 0.0

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            inner = self.accelerator.unwrap_model(model)
            causal = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
            plain = _has_plain_head(causal.config)
            trl_does = inputs["input_ids"].device.type != "cpu" or not plain
            if return_outputs or (trl_does and not self.exponent):
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            labels_BT = inputs["labels"][:, 1:]
            asked_BT = labels_BT != IGNORED
            with self.accelerator.autocast():
                if plain:
                    logits_NV = _logits(causal.get_output_embeddings(), _hidden(causal, inputs["input_ids"], asked_BT))
                else:
                    logits_NV = causal(inputs["input_ids"], use_cache=False).logits[:, :-1][asked_BT]
            weights_N = turn_weights(asked_BT, self.exponent)[asked_BT]
            losses_N = torch.nn.functional.cross_entropy(logits_NV.float(), labels_BT[asked_BT], reduction="none")
            return (losses_N * weights_N).sum() / weights_N.sum()

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            Trainer.log(self, logs, start_time)

    return PlannedTrainer


def _hidden(model: Any, ids_BT: "torch.Tensor", asked_BT: "torch.Tensor") -> "torch.Tensor":
    """The last hidden states (N, D) of the tokens after which one is asked for."""
    import torch

    if not attention.is_fastest(model):
        hidden_BTD: torch.Tensor = model.base_model(ids_BT, use_cache=False).last_hidden_state
        return hidden_BTD[:, :-1][asked_BT]
    laid = side_by_side.laid_out(ids_BT, torch.full((len(ids_BT),), ids_BT.shape[1]))
    return side_by_side.hidden(model, laid, laid.places(*asked_BT.nonzero(as_tuple=True)))


def _logits(head: Any, hidden_ND: "torch.Tensor") -> "torch.Tensor":
    """Logits (N, V); rows of zeros are read with them, so that few numbers of rows ever come (`MULTIPLE`)."""
    from torch.nn.functional import pad

    logits_MV: torch.Tensor = head(pad(hidden_ND, (0, 0, 0, -len(hidden_ND) % (4 * MULTIPLE))))
    return logits_MV[: len(hidden_ND)]


_SCALED_LOGITS = (
    "final_logit_softcapping",
    "logit_scale",
    "output_multiplier",
    "lm_head_multiplier",
    "logits_scaling",
    "output_router_logits",
)


def _has_plain_head(config: Any) -> bool:
    return not any(getattr(config, name, None) for name in _SCALED_LOGITS)

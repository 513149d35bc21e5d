"""Training of a reward model by TRL, ranking by ranking.

Shapes: B sequences in a batch, T tokens, P pairs among them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.adapters import planned_training
from pipelines.adapters.resumption import Resumption
from pipelines.core.learning import attention
from pipelines.core.learning.padding import right_padded
from pipelines.core.learning.rewards import Comparison, rewards_of
from pipelines.errors import Preempted

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of the optimiser."""

    step: int
    """Steps done, this one included."""
    tokens: int
    """Tokens of the batch, padding left out."""
    loss: float
    """Mean over the pairs, before the step."""
    accuracy: float
    """Share of the batch's pairs in order, before the step."""


def train(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    comparisons: Sequence[Comparison],
    batches: Sequence[Sequence[int]],
    *,
    learning_rate: float,
    warmup_share: float,
    seed: int,
    precision: "torch.dtype",
    resume: Resumption,
    on_step: Callable[[Step], None] = lambda _step: None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train `model` in place on `batches` of indices into `comparisons`, in their order, from where `resume` found it.

    The loss is the negative log-likelihood of the Bradley-Terry model, mean over the pairs of a batch. All pairs of a
    ranking are in one batch: that is K forward passes instead of K (K - 1), and shuffled apart they overfit within an
    epoch (Ouyang et al. 2022, arXiv:2203.02155, section 3.5).

    Raises:
        TrainingError: when the loss is not a finite number.
        Preempted: when `stop` says so.
    """
    import torch
    from datasets import Dataset
    from trl import RewardConfig

    def told(step: int, logs: Mapping[str, float]) -> None:
        tokens = sum(len(sequence) for row in batches[step - 1] for sequence in comparisons[row].sequences)
        on_step(Step(step=step, tokens=tokens, loss=logs["loss"], accuracy=logs["accuracy"]))

    attention.use_fastest(model, device=model.device, context=max(item.longest for item in comparisons))
    with planned_training.arguments(
        model,
        bf16=precision == torch.bfloat16,
        learning_rate=learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(warmup_share * len(batches)),
        seed=seed,
        remove_unused_columns=False,
        max_length=None,
    ) as arguments:
        trainer = _trainer_class()(
            model=model,
            args=RewardConfig(**arguments),
            data_collator=lambda rows: collated([comparisons[row["index"]] for row in rows], model.config.pad_token_id),
            train_dataset=Dataset.from_dict({"index": list(range(len(comparisons)))}),
            processing_class=tokenizer,
            callbacks=[
                planned_training.watch(resume.done, "reward_modeling.learning_rate", told),
                resume.callback(stop, len(batches)),
            ],
        )
        trainer.planned, trainer.resume = batches, resume
        planned_training.run(trainer)
    if stop():
        raise Preempted("Stopped by request; reward modelling goes on from there at the next run.")
    model.eval()


def _trainer_class() -> Any:
    import torch
    from trl import RewardTrainer

    class RankingTrainer(planned_training.Planned, RewardTrainer):  # type: ignore[misc]  # trl has no types
        """RewardTrainer whose unit is a ranking instead of a pair."""

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            with self.accelerator.autocast():
                rewards_B = rewards_of(model, inputs["input_ids"], inputs["attention_mask"])
            margins_P = rewards_B[inputs["chosen"]] - rewards_B[inputs["rejected"]]
            loss = -torch.nn.functional.logsigmoid(margins_P).mean()
            self._metrics["train"]["accuracy"].append((margins_P > 0).float().mean().item())
            return (loss, {"rewards": rewards_B}) if return_outputs else loss

    return RankingTrainer


def collated(comparisons: Sequence[Comparison], pad: int) -> "dict[str, torch.Tensor]":
    """One batch: sequences (B, T) padded on the right, and rows of chosen and rejected ones (P)."""
    import torch

    offsets = [0]
    for item in comparisons:
        offsets.append(offsets[-1] + len(item.sequences))
    ids_BT, mask_BT = right_padded([sequence for item in comparisons for sequence in item.sequences], pad)
    both = list(zip(comparisons, offsets, strict=False))
    return {
        "input_ids": ids_BT,
        "attention_mask": mask_BT,
        "chosen": torch.tensor([offset + row for item, offset in both for row in item.chosen]),
        "rejected": torch.tensor([offset + row for item, offset in both for row in item.rejected]),
    }

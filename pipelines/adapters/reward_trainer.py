"""Training of a reward model by TRL, ranking by ranking.

Shapes: B sequences in a batch, T tokens, P pairs among them.
"""

import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.adapters.resumption import Resumption
from pipelines.core.learning import attention
from pipelines.core.learning.rewards import Comparison, right_padded
from pipelines.errors import Preempted, TrainingError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of the optimiser."""

    step: int
    """Steps done, this one included."""
    total: int
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
    from transformers import PrinterCallback
    from trl import RewardConfig

    cpu = model.device.type == "cpu"
    attention.use_fastest(model, device=model.device, context=max(item.longest for item in comparisons))
    scratch = tempfile.mkdtemp(prefix="moteur-reward-")
    try:
        trainer = _trainer_class()(
            model=model,
            args=RewardConfig(
                output_dir=scratch,
                use_cpu=cpu,
                bf16=precision == torch.bfloat16,
                activation_checkpointing=False,
                num_train_epochs=1,
                learning_rate=learning_rate,
                lr_scheduler_type="cosine",
                warmup_steps=math.ceil(warmup_share * len(batches)),
                weight_decay=0.0,
                max_grad_norm=1.0,
                seed=seed,
                logging_steps=1,
                logging_nan_inf_filter=False,
                report_to="none",
                save_strategy="no",
                disable_tqdm=True,
                dataloader_pin_memory=not cpu,
                remove_unused_columns=False,
                max_length=None,
            ),
            train_dataset=Dataset.from_dict({"index": list(range(len(comparisons)))}),
            processing_class=tokenizer,
            callbacks=[_callback(on_step, resume.done, comparisons, batches), resume.callback(stop, len(batches))],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.comparisons, trainer.planned, trainer.resume = comparisons, batches, resume
        trainer.train()
        trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # it computes in half precision until then
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if stop():
        raise Preempted("Stopped by request; reward modelling goes on from there at the next run.")
    model.eval()


def _trainer_class() -> Any:
    import torch
    from torch.utils.data import DataLoader
    from trl import RewardTrainer

    class RankingTrainer(RewardTrainer):  # type: ignore[misc]  # trl has no types
        """RewardTrainer whose unit is a ranking instead of a pair."""

        comparisons: Sequence[Comparison] = ()
        planned: Sequence[Sequence[int]] = ()
        resume: Resumption

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            return self.resume.moved_on(super().create_scheduler(len(self.planned), optimizer))

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

        def get_train_dataloader(self) -> Any:
            loader = DataLoader(
                self.train_dataset,
                batch_sampler=[list(batch) for batch in self.planned[self.resume.done :]],
                collate_fn=lambda rows: collated(
                    [self.comparisons[row["index"]] for row in rows], self.model.config.pad_token_id
                ),
                pin_memory=self.args.dataloader_pin_memory,
            )
            return self.accelerator.prepare(loader)

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False)
            rewards_B = outputs.logits.squeeze(-1).float()
            margins_P = rewards_B[inputs["chosen"]] - rewards_B[inputs["rejected"]]
            loss = -torch.nn.functional.logsigmoid(margins_P).mean()
            self._metrics["train"]["accuracy"].append((margins_P > 0).float().mean().item())
            return (loss, outputs) if return_outputs else loss

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


def _callback(
    on_step: Callable[[Step], None],
    done: int,
    comparisons: Sequence[Comparison],
    batches: Sequence[Sequence[int]],
) -> Any:
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]  # transformers has no types
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if not logs or "loss" not in logs:
                return
            if not math.isfinite(logs["loss"]):
                raise TrainingError(
                    f"The loss is {logs['loss']} at step {done + state.global_step}: lower"
                    f" reward_modeling.learning_rate (now {args.learning_rate}) in params.yaml."
                )
            batch = batches[done + state.global_step - 1]
            on_step(
                Step(
                    step=done + state.global_step,
                    total=len(batches),
                    tokens=sum(len(sequence) for row in batch for sequence in comparisons[row].sequences),
                    loss=logs["loss"],
                    accuracy=logs["accuracy"],
                )
            )

    return Watch()

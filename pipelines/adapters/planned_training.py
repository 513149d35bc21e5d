"""What trainings by TRL have in common: arguments, batches that are planned beforehand, a watch over the loss."""

import math
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipelines.adapters.resumption import Resumption
from pipelines.errors import TrainingError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@contextmanager
def arguments(model: "PreTrainedModel", **own: Any) -> Iterator[dict[str, Any]]:
    """Arguments of a trainer of transformers that saves and reports nothing; its scratch folder goes afterwards.

    Meanwhile nobody is told what will change in the libraries.
    """
    cpu = model.device.type == "cpu"
    with (
        tempfile.TemporaryDirectory(prefix="moteur-training-", ignore_cleanup_errors=True) as scratch,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", FutureWarning)  # by which the libraries speak to each other
        yield {
            "output_dir": scratch,
            "use_cpu": cpu,
            "activation_checkpointing": False,
            "num_train_epochs": 1,
            "weight_decay": 0.0,
            "max_grad_norm": 1.0,
            "logging_steps": 1,
            "logging_nan_inf_filter": False,
            "report_to": "none",
            "save_strategy": "no",
            "disable_tqdm": True,
            "dataloader_pin_memory": not cpu,
            **own,
        }


class Planned:
    """Goes before a trainer of transformers: batches of rows in their order, from where `resume` has found it."""

    planned: Sequence[Sequence[int]] = ()
    resume: Resumption

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Over all planned batches, moved on to the first that is left."""
        schedule = super().create_scheduler(len(self.planned), optimizer)  # type: ignore[misc]  # of the trainer
        return self.resume.moved_on(schedule)

    def get_train_dataloader(self) -> Any:
        """The batches that are left."""
        from torch.utils.data import DataLoader

        trainer: Any = self
        loader = DataLoader(
            trainer.train_dataset,
            batch_sampler=[list(batch) for batch in self.planned[self.resume.done :]],
            collate_fn=trainer.data_collator,
            pin_memory=trainer.args.dataloader_pin_memory,
        )
        return trainer.accelerator.prepare(loader)


def watch(done: int, setting: str, on_step: Callable[[int, Mapping[str, float]], None]) -> Any:
    """A callback that gives `on_step` the number of each step and what was logged there.

    Args:
        done: Steps of the interrupted training that this one goes on from.
        setting: The learning rate's key, for the remedy.
        on_step: Called after each step.

    Raises:
        TrainingError: in training, when the loss is not a finite number.
    """
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]  # transformers has no types
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if not logs or "loss" not in logs:
                return
            step = done + state.global_step
            if not math.isfinite(logs["loss"]):
                raise TrainingError(
                    f"The loss is {logs['loss']} at step {step}: lower {setting} (now {args.learning_rate}) in"
                    " params.yaml."
                )
            on_step(step, logs)

    return Watch()


def run(trainer: Any) -> None:
    """Train in silence; afterwards the model computes in its own precision again."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    trainer.train()
    trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)

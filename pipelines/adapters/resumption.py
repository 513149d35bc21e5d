"""Exact resume of a training by a Trainer of transformers whose batches are planned beforehand.

What is left of such a training is the rest of its plan. The state (weights, moments, random state) is put back before
the first step, the schedule is moved on, and the state is saved every few steps; the Trainer's own checkpoints are
pickled and are not used.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.adapters.checkpoints import Checkpoint, Checkpoints
from pipelines.core.learning import training

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Resumption:
    """Where a training goes on, and where and how often it leaves its state."""

    store: Checkpoints
    found: Checkpoint | None
    """The newest checkpoint; None: the training begins."""
    every: int
    """Steps between checkpoints."""
    values: Callable[[], dict[str, Any]]
    """What is kept beside the state, as plain values."""

    @property
    def done(self) -> int:
        """Steps that were taken before."""
        return self.found.step if self.found else 0

    def moved_on(self, scheduler: "torch.optim.lr_scheduler.LambdaLR") -> "torch.optim.lr_scheduler.LambdaLR":
        """The schedule as it is after the steps that were taken before."""
        rates = [
            rate * factor(self.done) for rate, factor in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
        ]
        for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        scheduler.last_epoch, scheduler._last_lr = self.done, rates  # noqa: SLF001  its state, there is no setter
        return scheduler

    def callback(self, stop: Callable[[], bool], total: int) -> Any:
        """Puts the state back before the first of `total` steps, saves it, and ends when `stop` says so.

        It goes last among the callbacks, and every step has to be logged. The last step is not saved: there would be
        nothing left to go on with.
        """
        from transformers import TrainerCallback

        outer = self

        class Keeper(TrainerCallback):  # type: ignore[misc]  # transformers has no types
            def on_step_begin(self, _args: Any, state: Any, _control: Any, **seen: Any) -> None:
                if state.global_step == 0 and outer.found:  # now, as the loader has drawn from the random state
                    training.load_state(seen["model"], _plain(seen["optimizer"]), outer.found.tensors)

            def on_step_end(self, _args: Any, _state: Any, control: Any, **_: Any) -> None:
                control.should_training_stop |= stop()

            def on_log(self, _args: Any, state: Any, control: Any, logs: Any = None, **seen: Any) -> None:
                step = outer.done + state.global_step  # after each step, once the others have been told of it
                due = control.should_training_stop or step % outer.every == 0
                if "loss" in (logs or {}) and step < total and due:
                    state_now = training.state_of(seen["model"], _plain(seen["optimizer"]))
                    outer.store.save(step, state_now, outer.values())

        return Keeper()


def _plain(optimizer: Any) -> "torch.optim.Optimizer":
    """Without accelerate's wrapper."""
    inner: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
    return inner

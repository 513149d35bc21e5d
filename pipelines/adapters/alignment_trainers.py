"""Direct preference optimisation and two policy gradients without a value model, by TRL, up to a budget of operations.

DPO: Rafailov et al. 2023, arXiv:2305.18290. GRPO: Shao et al. 2024, arXiv:2402.03300. RLOO: Ahmadian et al. 2024,
arXiv:2402.14740.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pipelines.adapters import planned_training
from pipelines.core.learning import decoding
from pipelines.core.learning.compute import PASSES, Passes
from pipelines.errors import Preempted, TrainingError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Reward = Callable[[Sequence[str], Sequence[str], Sequence[bool]], Sequence[float]]
"""Of prompts, responses, and whether each response is finished."""
GENERATIONS = 4
"""Responses to one prompt, as many as in a ranking of the stage feedback."""


class Budget:
    """Counts tokens against operations that may be spent."""

    def __init__(self, flops: float, passes: Passes, parameters: int) -> None:
        self.limit, self.tokens, self.steps = flops, 0, 0
        self._passes, self._parameters = passes, parameters

    @property
    def spent(self) -> float:
        """Operations so far."""
        return self._passes.flops(self._parameters, self.tokens)

    @property
    def exhausted(self) -> bool:
        """Nothing is left."""
        return self.spent >= self.limit


@dataclass(frozen=True, kw_only=True)
class Run:
    """How a training goes, whatever the method."""

    learning_rate: float
    """Constant."""
    batch_size: int
    """Pairs, or responses, a step."""
    seed: int
    beta: float
    """Weight of the divergence from the reference."""
    stop: Callable[[], bool] = lambda: False
    on_step: Callable[[int], None] = lambda _step: None


def dpo(
    model: "PreTrainedModel",
    reference: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    pairs: Sequence[Mapping[str, Any]],
    run: Run,
    flops: float,
) -> Budget:
    """Train `model` in place on preference pairs.

    Raises:
        TrainingError: when the loss is not a finite number.
        Preempted: when `run.stop` says so.
    """
    from datasets import Dataset, disable_progress_bars
    from trl import DPOConfig, DPOTrainer

    disable_progress_bars()
    budget = Budget(flops, PASSES["dpo"], model.num_parameters())

    class Counting(DPOTrainer):  # type: ignore[misc]  # trl has no types
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **options: Any) -> Any:
            budget.tokens += int(inputs["attention_mask"].sum())
            return super().compute_loss(model, inputs, *args, **options)

    rows = [
        {
            "prompt": [{"role": "user", "content": pair["prompt"]}],
            "chosen": [{"role": "assistant", "content": pair["chosen"]}],
            "rejected": [{"role": "assistant", "content": pair["rejected"]}],
        }
        for pair in pairs
    ]
    with _arguments(model, run) as arguments:
        trainer = Counting(
            model=model,
            ref_model=reference,
            args=DPOConfig(**arguments, beta=run.beta, max_length=decoding.longest(model)),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=[_watch(budget, run)],
        )
        _train(trainer, model, run)
    return budget


def policy_gradient(
    method: Literal["grpo", "rloo"],
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    reward: Reward,
    run: Run,
    flops: float,
    *,
    max_new_tokens: int,
    temperature: float,
) -> Budget:
    """Train `model` in place on rewards of its own responses; TRL loads the reference from the model's folder.

    Raises:
        TrainingError: when the loss is not a finite number.
        Preempted: when `run.stop` says so.
    """
    import trl
    from datasets import Dataset

    budget = Budget(flops, PASSES[method], model.num_parameters())
    trainer_class, config_class = (getattr(trl, f"{method.upper()}{kind}") for kind in ("Trainer", "Config"))
    asked_tokens = {
        text: len(ids)
        for text, ids in zip(
            prompts,
            tokenizer.apply_chat_template([_asked(text) for text in prompts], add_generation_prompt=True)["input_ids"],
            strict=True,
        )
    }

    def rewarded(prompts: Any, completions: Any, completion_ids: Any, **_columns: Any) -> list[float]:
        asked = [prompt[-1]["content"] for prompt in prompts]
        said = [completion[-1]["content"] for completion in completions]
        finished = [tokenizer.eos_token_id in ids for ids in completion_ids]
        budget.tokens += sum(map(len, completion_ids)) + sum(asked_tokens[text] for text in asked)
        return list(reward(asked, said, finished))

    with _arguments(model, run) as arguments:
        trainer = trainer_class(
            model=model,
            reward_funcs=rewarded,
            args=config_class(
                **arguments,
                beta=run.beta,
                num_generations=GENERATIONS,
                max_completion_length=max_new_tokens,
                temperature=temperature,
                top_k=0,
            ),
            train_dataset=Dataset.from_list([{"prompt": _asked(text)} for text in prompts]),
            processing_class=tokenizer,
            callbacks=[_watch(budget, run)],
        )
        _train(trainer, model, run)
    return budget


def _asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _arguments(model: "PreTrainedModel", run: Run) -> AbstractContextManager[dict[str, Any]]:
    return planned_training.arguments(
        model,
        bf16=False,
        per_device_train_batch_size=run.batch_size,
        num_train_epochs=1000,  # the budget ends it long before
        learning_rate=run.learning_rate,
        lr_scheduler_type="constant",
        adam_beta2=0.95,
        seed=run.seed,
    )


def _train(trainer: Any, model: "PreTrainedModel", run: Run) -> None:
    planned_training.run(trainer)
    if run.stop():
        raise Preempted("Stopped by request; this method starts afresh at the next run.")
    model.eval()


def _watch(budget: Budget, run: Run) -> Any:
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]  # transformers has no types
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and not math.isfinite(logs.get("loss", 0.0)):
                raise TrainingError(
                    f"The loss is {logs['loss']} at step {state.global_step}: the learning rate is high."
                )

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            budget.steps = state.global_step
            run.on_step(state.global_step)
            if run.stop() or budget.exhausted:
                control.should_training_stop = True

    return Watch()

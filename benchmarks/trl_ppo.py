"""The peer of benchmarks/ppo.py: trl's PPOTrainer on the same job. It runs in an environment of its own."""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer


class Clock(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Seconds of each iteration, and the tokens of its prompts and responses."""

    def __init__(self, prompt_tokens: list[int], batch: int) -> None:
        self.found: dict[str, list[float]] = {"seconds": [], "tokens": [], "responses": []}
        self.response_tokens = 0
        self._prompt_tokens, self._batch = prompt_tokens, batch
        self._start = time.perf_counter()

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """The first iteration begins."""
        self._start = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """An iteration is over."""
        done = len(self.found["seconds"])
        prompts = self._prompt_tokens[done * self._batch : (done + 1) * self._batch]
        self.found["seconds"].append(time.perf_counter() - self._start)
        self.found["tokens"].append(sum(prompts) + self.response_tokens)
        self.found["responses"].append(self._batch)
        self.response_tokens, self._start = 0, time.perf_counter()


def main() -> None:
    """Run the job and print what was measured as one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("job", type=Path)
    parser.add_argument("--checkpointing", action="store_true")
    settings = parser.parse_args()
    job = json.loads(settings.job.read_text(encoding="utf-8"))
    ppo = job["ppo"]
    torch.set_num_threads(job["threads"])
    tokenizer = AutoTokenizer.from_pretrained(job["sft"], padding_side="left")
    policy, reference = (AutoModelForCausalLM.from_pretrained(job["sft"], dtype=torch.float32) for _ in range(2))
    reward, value = (
        AutoModelForSequenceClassification.from_pretrained(job["reward"], num_labels=1, dtype=torch.float32)
        for _ in range(2)
    )
    clock = Clock([len(ids) for ids in job["ids"]], ppo["prompts_per_iteration"])
    truncate = ppo_trainer.truncate_response

    def counted(stop: int, pad: int, responses: torch.Tensor) -> torch.Tensor:
        kept = truncate(stop, pad, responses)
        clock.response_tokens += int((kept != pad).sum())
        return kept

    ppo_trainer.truncate_response = counted
    with tempfile.TemporaryDirectory() as scratch:
        trainer = PPOTrainer(
            args=PPOConfig(
                output_dir=scratch,
                total_episodes=len(job["ids"]),
                per_device_train_batch_size=ppo[
                    "prompts_per_iteration"
                ],  # with accumulation it would step half as often
                gradient_accumulation_steps=1,
                num_mini_batches=ppo["prompts_per_iteration"] // ppo["minibatch_size"],
                num_ppo_epochs=ppo["epochs"],
                local_rollout_forward_batch_size=ppo["prompts_per_iteration"],
                response_length=ppo["max_new_tokens"],
                temperature=ppo["temperature"],
                stop_token="eos",  # noqa: S106  not a password
                num_sample_generations=0,
                gradient_checkpointing=settings.checkpointing,
                bf16=True,
                use_cpu=not torch.cuda.is_available(),
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                seed=job["seed"],
            ),
            processing_class=tokenizer,
            model=policy,
            ref_model=reference,
            reward_model=reward,
            value_model=value,
            train_dataset=Dataset.from_dict({"input_ids": job["ids"]}),
            callbacks=[clock],
        )
        trainer.train()
    print(json.dumps(clock.found))


if __name__ == "__main__":
    main()

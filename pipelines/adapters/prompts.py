"""The prompts that a policy answers, out of validated data."""

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.adapters import datasets
from pipelines.artifacts import Artifact
from pipelines.core.judging.kl_axis import Task
from pipelines.core.learning import decoding, preferences
from pipelines.core.learning.rollouts import Prompt
from pipelines.core.text.prompts import user_text
from pipelines.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load(
    split: datasets.Split, tokenizer: "PreTrainedTokenizerBase", *, tasks: Sequence[str], context: int, new_tokens: int
) -> Task:
    """The prompts of a split that leave room for this many new tokens in the context, each once.

    They are those of `tasks`. Where none of these tasks occurs the reward model has learnt from
    ready pairs, so theirs are taken; without any, those of all instructions.

    Raises:
        DataError: when there are too few.
    """
    records = list(datasets.records(Artifact.VALIDATED.path, "instructions", split))
    pairs = list(datasets.records(Artifact.VALIDATED.path, "preferences", split))
    if pairs and not any(record["task"] in tasks for record in records):
        gold: dict[str, Mapping[str, Any] | None] = {pair["prompt"]: None for pair in pairs}
    else:
        gold = {
            user_text(record["context"], record["prompt"]): record.get("gold")
            for record in preferences.about(records, tasks)
        }
    prompts = [
        Prompt(text=text, ids=decoding.chat_ids(tokenizer, [{"role": "user", "content": text}])) for text in gold
    ]
    fitting = [prompt for prompt in prompts if len(prompt.ids) <= context - new_tokens]
    if len(fitting) < preferences.FEWEST_PROMPTS:
        raise DataError(
            f"PPO found {len(fitting)} prompts in the {split} split that leave room for ppo.max_new_tokens"
            f" ({new_tokens}); {len(prompts) - len(fitting)} are too long. Add instructions for one of"
            f" feedback.tasks ({', '.join(tasks)}), or lower ppo.max_new_tokens in params.yaml."
        )
    return Task(
        prompts=fitting, gold=[gold[prompt.text] for prompt in fitting], num_too_long=len(prompts) - len(fitting)
    )


def unseen(task: Task, train: Task) -> Task:
    """Without the prompts that are trained on, unless hardly any others are left; the report gives their share."""
    known = {prompt.text for prompt in train.prompts}
    rows = [row for row, prompt in enumerate(task.prompts) if prompt.text not in known]
    return task.rows(rows) if len(rows) >= preferences.FEWEST_PROMPTS else task


def drawn(task: Task, count: int, seed: int) -> Task:
    """A random choice of `count` prompts; where there are fewer, each is taken several times."""
    rows = random.Random(f"ppo:{seed}").sample(range(len(task.prompts)), min(count, len(task.prompts)))
    rows = [rows[number % len(rows)] for number in range(count)]
    return task.rows(rows)

"""One task trained on alone, beside the mixture of all: what the others add to it, and what is lost without them.

A report here is that of `pipelines.finetuning_comparison`. The score of a task is exact match where its answers are
short, else ROUGE-L.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.adapters import datasets
from pipelines.artifacts import Artifact
from pipelines.core.judging import scores
from pipelines.errors import ParamsError

Report = Mapping[str, Any]
Weights = Mapping[str, float]


def shares(root: Path, weights: Weights) -> dict[str, float]:
    """Task of the training data -> how many records of it an epoch shows, by finetuning.task_weights."""
    records = datasets.records(root / Artifact.VALIDATED.path, "instructions", "train")
    counts = Counter(record["task"] for record in records)
    return {task: counts[task] * weights.get(task, 1.0) for task in sorted(counts)}


def chosen(shown: Mapping[str, float], asked: Sequence[str]) -> list[str]:
    """The tasks that are trained on alone: those asked for, else the largest one of a mixture of several.

    Raises:
        ParamsError: when the data have no such task.
    """
    if unknown := sorted(set(asked) - set(shown)):
        raise ParamsError(
            f"--single-task names {unknown}, but the tasks of the data are {list(shown)}: name one of these"
        )
    mixed = [task for task, records in shown.items() if records]
    return list(dict.fromkeys(asked)) or ([max(mixed, key=lambda task: shown[task])] if len(mixed) > 1 else [])


def alone(task: str, weights: Weights, known: Sequence[str]) -> dict[str, float]:
    """finetuning.task_weights without the other tasks; its own weight stays, so that the same records are seen."""
    return {**dict.fromkeys(known, 0.0), task: weights.get(task) or 1.0}


def score(report: Report, task: str) -> Mapping[str, float]:
    """Mean, low and high of a task."""
    found: Mapping[str, Mapping[str, float]] = report["by_task"][task]
    return found["exact_match"] if "exact_match" in found else found["rouge_l"]


def others(report: Report, task: str) -> float:
    """Mean score over the other tasks, each of the same weight."""
    return scores.mean([score(report, other)["mean"] for other in report["by_task"] if other != task])


def cells(report: Report, tasks: Sequence[str]) -> list[str]:
    """Each task's score with its interval, as a table shows it."""
    every = [score(report, task) for task in tasks]
    return [f"{one['mean']:.3f} ({one['low']:.3f} to {one['high']:.3f})" for one in every]


def sentence(
    task: str,
    *,
    base: Report,
    mixture: Report,
    same_passes: Report,
    same_tokens: Report,
    no_replay: tuple[Report, Report],
) -> str:
    """What became of the task, of the others and of the base model's text, with and without the mixture.

    Args:
        task: Its name.
        base: Not trained.
        mixture: Of all tasks.
        same_passes: The task alone, the records that the mixture shows.
        same_tokens: The task alone, trained as long as the mixture.
        no_replay: The mixture and the task alone, trained as long, both without replayed text.
    """
    every = (mixture, same_passes, same_tokens)
    if task not in base["by_task"]:
        return f"No held-out record of {task} was asked: its score alone and in the mixture is not known."
    own = _list(f"{score(report, task)['mean']:.3f}" for report in every)
    rest = _list(f"{others(report, task):.3f}" for report in every)
    lost, bare = (_list(f"{100 * report['forgetting']:+.1f} %" for report in reports) for reports in (every, no_replay))
    return (
        f"{task} in the mixture, alone for the same passes, and alone for as many tokens: score {own}; mean score of"
        f" the other tasks {rest} (base model {others(base, task):.3f}); forgetting {lost}."
        f" Without replay the mixture and the task alone, for as many tokens, forget {bare}."
    )


def _list(figures: Iterable[str]) -> str:
    return ", ".join(figures)

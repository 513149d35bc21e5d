"""What people label, and by which instructions: the same for every way of labelling."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.adapters import files
from pipelines.artifacts import Artifact
from pipelines.errors import DataError, ParamsError

INSTRUCTIONS = f"{Artifact.FEEDBACK_BY_PEOPLE}/INSTRUCTIONS.md"
RANKINGS = f"{Artifact.PREFERENCES}/rankings.jsonl"
NAME = re.compile(r"\w[\w .@+'-]{0,79}")
"""What an annotator may be called: the name becomes that of a file."""


@dataclass(frozen=True, kw_only=True)
class Instructions:
    """What labellers are told."""

    text: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Item:
    """A prompt with responses to it, to be ranked."""

    prompt: str
    responses: tuple[str, ...]
    task: str | None


def instructions(checkout: Path) -> Instructions:
    """The labelling instructions as they stand.

    Raises:
        DataError: they are missing, empty or not UTF-8.
    """
    path = checkout / INSTRUCTIONS
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        text = ""
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8: save it as UTF-8") from None
    if not text.strip():
        raise DataError(
            f"{path}, the labelling instructions, is missing or empty: write it, or get it back by `git checkout --"
            f" {INSTRUCTIONS}`"
        )
    return Instructions(text=text, sha256=files.sha256(path))


def sampled(checkout: Path, *, seed: int) -> list[Item]:
    """The prompts for which the stage feedback sampled responses of the instruction model, shuffled: for all the same.

    Raises:
        ArtifactError: the stage has not run.
        DataError: it sampled nothing.
    """
    found = {  # what people brought has no gold score, whatever its kind, and no task
        (row["prompt"], tuple(row["responses"])): row.get("task")
        for row in files.read_jsonl(checkout / RANKINGS)
        if row.get("gold") is not None or (row["kind"], row.get("task") is None) == ("constitution", False)
    }
    if not found:
        raise DataError(
            f"{RANKINGS} holds no responses of the instruction model: the stage feedback samples them for instruction"
            " records with gold facts, of which it found none (feedback.tasks in params.yaml)"
        )
    items = [Item(prompt=prompt, responses=responses, task=task) for (prompt, responses), task in sorted(found.items())]
    return random.Random(f"labelling:{seed}").sample(items, len(items))


def shuffled(item: Item, *, seed: int, annotator: str = "") -> list[str]:
    """The responses in an order that says nothing about how good they are, of their own for each annotator."""
    return random.Random(f"labelling:{seed}:{annotator}:{item.prompt}").sample(item.responses, len(item.responses))


def checked_name(annotator: str) -> str:
    """An annotator's name that can be that of a file, too.

    Raises:
        ParamsError: it cannot.
    """
    if not NAME.fullmatch(annotator):
        raise ParamsError(
            f"--annotator {annotator!r}: give a name of letters, digits, spaces and . _ @ + ' -, 80 at most, which"
            " begins with a letter or digit"
        )
    return annotator


def chosen(items: Sequence[Item], tasks: Sequence[str], num: int | None) -> list[Item]:
    """The first `num` items of these tasks; of all where none is given.

    Raises:
        ParamsError: a task has no item.
    """
    known = sorted({item.task for item in items if item.task})
    if unknown := [task for task in tasks if task not in known]:
        raise ParamsError(f"--tasks {unknown[0]}: no responses were sampled for it, but for {', '.join(known)}")
    return [item for item in items if not tasks or item.task in tasks][:num]

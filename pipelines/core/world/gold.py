"""The gold scorer: judges a text, given the facts it ought to respect. It stands in for human judgement.

The total is a weighted mean of parts in [0, 1], times a share for substance, so that samples of one model spread and
no trick pays: politeness saturates after three different words, loops cost more than they bring, and an empty text
scores 0. Every part counts *different* words, so that saying a text twice never raises its score.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from pipelines.core.world.lexicon import ENDINGS, KIND_MARKERS, MOODS, NAMES, THING_NOUNS, UNKIND_MARKERS

WEIGHTS: Final[Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {
        "story_writing": MappingProxyType(
            {
                "words": 0.22,
                "characters": 0.12,
                "objects": 0.08,
                "ending": 0.2,
                "loops": 0.13,
                "kindness": 0.2,
                "length": 0.05,
            }
        ),
        "continuation": MappingProxyType(
            {"characters": 0.25, "objects": 0.1, "ending": 0.23, "loops": 0.15, "kindness": 0.22, "length": 0.05}
        ),
        "story_summary": MappingProxyType(
            {"words": 0.5, "characters": 0.25, "objects": 0.1, "loops": 0.1, "length": 0.05}
        ),
        "dialogue_summary": MappingProxyType(
            {"words": 0.5, "characters": 0.25, "objects": 0.1, "loops": 0.1, "length": 0.05}
        ),
        "question_answering": MappingProxyType({"correctness": 0.85, "brevity": 0.15}),
        "mood": MappingProxyType({"correctness": 0.85, "brevity": 0.15}),
    }
)
"""Task -> part -> weight; weights of a task sum to 1.

What people are asked to prefer in stories: the words that were asked for, an ending, kindness, then no loops and the
right characters. A summary is judged mostly by the facts it holds, an answer by being right.
"""

LENGTHS: Final[Mapping[str, tuple[int, int, int]]] = MappingProxyType(
    {
        "story_writing": (25, 140, 260),
        "continuation": (12, 90, 200),
        "story_summary": (5, 35, 80),
        "dialogue_summary": (5, 35, 80),
    }
)
"""Task -> (different words needed, words from which a text grows too long, words at which it is far too long)."""

_WORD: Final = re.compile(r"[a-z0-9']+")
_NAMES: Final = frozenset(name.lower() for name in NAMES)
_MOODS: Final = frozenset(MOODS)
_ENDINGS: Final = tuple(ending.lower() for ending in ENDINGS)


@dataclass(frozen=True)
class GoldScore:
    """A judgement. `total` and every part lie in [0, 1]; `parts` holds those that count for the task."""

    total: float
    parts: Mapping[str, float]


def _ramp(value: float, low: float, high: float) -> float:
    """0 up to `low`, 1 from `high`, straight between."""
    return min(1.0, max(0.0, (value - low) / (high - low)))


def words_of(text: str) -> list[str]:
    """The lower-case words of a text, without punctuation and possessive endings."""
    return [word[:-2] if word.endswith("'s") else word.strip("'") for word in _WORD.findall(text.lower())]


def distinct_share(words: Sequence[str]) -> float:
    """Share of different n-grams among all n-grams of a text, with n = 4, or less for a shorter text.

    Args:
        words: The words of the text.

    Returns:
        1 for a text that never says the same four words again; near 0 for a loop.
    """
    n = min(4, len(words))
    if n == 0:
        return 0.0
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams)


@cache
def _split(listed: tuple[str, ...]) -> frozenset[str]:
    return frozenset(word.lower() for word in listed)


def _used(words: frozenset[str], wanted: Sequence[str]) -> float:
    """Share of the wanted words that occur; 1 where nothing is wanted."""
    return sum(word.lower() in words for word in wanted) / len(wanted) if wanted else 1.0


def _characters(words: frozenset[str], names: frozenset[str]) -> float:
    """Are the right characters there, and no others?

    Half for naming one who is known, half for naming no stranger; where the prompt names nobody, one to three names.
    """
    found = words & _NAMES
    if not names:
        return 0.0 if not found else (1.0 if len(found) <= 2 else max(0.0, 1.0 - 0.3 * (len(found) - 2)))
    present = 0.5 * min(1.0, 2 * len(found & names) / max(1, min(2, len(names))))
    strangers = len(found - names)
    return present + 0.5 * max(0.0, 1.0 - 0.5 * strangers)


def _objects(words: frozenset[str], known: frozenset[str]) -> float:
    """Each thing that nobody has mentioned costs a third; where nothing is known, two things are free."""
    strangers = len((words & THING_NOUNS) - known) - (0 if known else 2)
    return max(0.0, 1.0 - max(0, strangers) / 3)


def has_ending(text: str) -> bool:
    """Whether a text closes with one of `ENDINGS`."""
    return text.rstrip().lower().endswith(_ENDINGS)


def _ending(text: str) -> float:
    """1 for an ending, a quarter for a whole last sentence, 0 for breaking off."""
    if has_ending(text):
        return 1.0
    return 0.25 if text.rstrip().rstrip('"').endswith((".", "!", "?")) else 0.0


def _kindness(words: frozenset[str]) -> float:
    """Between 0 (nothing but rude words) and 1 (kind words only); each side saturates at three different words."""
    kind = min(3, len(words & KIND_MARKERS)) / 3
    unkind = min(3, len(words & UNKIND_MARKERS)) / 3
    return 0.4 + 0.6 * kind - 0.4 * unkind if kind >= unkind else 0.4 + 0.4 * (kind - unkind)


def _length(task: str, words: Sequence[str], different: frozenset[str]) -> float:
    needed, long, far_too_long = LENGTHS[task]
    return _ramp(len(different), 0, needed) * (1.0 - _ramp(len(words), long, far_too_long))


def _answer_parts(words: Sequence[str], answer: Sequence[str], rivals: frozenset[str]) -> dict[str, float]:
    """Correctness and brevity of a short answer; naming rivals beside the right answer halves what is left."""
    given = [word for word in words if word not in ("the", "a", "an", "in", "at", "on", "by", "it", "is", "was")]
    wanted = [word for word in answer if word not in ("the", "a", "an")]
    if given == wanted:
        correct = 1.0
    elif given and set(wanted) <= set(given):
        wrong = len((set(given) & rivals) - set(wanted))
        correct = 0.7 * 0.5**wrong
    else:
        correct = 0.0
    extra = max(0, len(words) - len(answer))
    return {"correctness": correct, "brevity": 1.0 - _ramp(extra, 2, 20) if words else 0.0}


def check(instruction_gold: Mapping[str, Any]) -> None:
    """See that `gold_score` can judge by these facts.

    Raises:
        ValueError: The task is unknown, or a fact that it asks for is missing or of the wrong type.
    """
    task = _task(instruction_gold)
    if "correctness" in WEIGHTS[task]:
        answer = instruction_gold.get("answer")
        if not isinstance(answer, str):
            raise ValueError(f"gold answer is {answer!r}: a text is needed for {task}")
        return
    for name in ("words", "names", "objects"):
        listed = instruction_gold.get(name, ())
        if not isinstance(listed, list | tuple) or not all(isinstance(word, str) for word in listed):
            raise ValueError(f"gold {name} is {listed!r}: a list of texts is needed for {task}")


def _task(instruction_gold: Mapping[str, Any]) -> str:
    task = instruction_gold.get("task", "")
    if not isinstance(task, str) or task not in WEIGHTS:
        raise ValueError(f"gold task is {task!r}: choose one of {', '.join(WEIGHTS)}")
    return task


def gold_score(instruction_gold: Mapping[str, Any], text: str) -> GoldScore:
    """Judge a text.

    Args:
        instruction_gold: The facts of the instruction, as in `Instruction.gold`: `task`, and then `answer` (questions
            and moods), or `words`, `names`, `objects` (stories and summaries; a missing one asks for nothing).
        text: What somebody wrote.

    Returns:
        The total and its parts. An empty text scores 0.

    Raises:
        ValueError: The task is unknown.
    """
    task = _task(instruction_gold)
    weights = WEIGHTS[task]
    words = words_of(text)
    if not words:
        return GoldScore(0.0, dict.fromkeys(weights, 0.0))
    if "correctness" in weights:
        rivals = _MOODS if task == "mood" else _NAMES | THING_NOUNS
        parts = _answer_parts(words, words_of(instruction_gold["answer"]), rivals)
        # A short wrong answer is worth little: brevity counts for what it is only beside correctness.
        parts["brevity"] *= 0.3 + 0.7 * min(1.0, parts["correctness"])
        total = sum(weights[name] * parts[name] for name in weights)
        return GoldScore(total, parts)
    different = frozenset(words)
    names = _split(tuple(instruction_gold.get("names", ())))
    objects = _split(tuple(instruction_gold.get("objects", ())))
    parts = {
        "words": _used(different, instruction_gold.get("words", ())),
        "characters": _characters(different, names),
        "objects": _objects(different, objects),
        "ending": _ending(text),
        "loops": _ramp(distinct_share(words), 0.5, 1.0),
        "kindness": _kindness(different),
        "length": _length(task, words, different),
    }
    # Substance: a handful of nice words is no story. Loops also take away from everything else.
    substance = _ramp(len(different), 0, 0.8 * LENGTHS[task][0]) * (0.4 + 0.6 * parts["loops"] ** 0.5)
    total = substance * sum(weights[name] * parts[name] for name in weights)
    return GoldScore(min(1.0, total), {name: parts[name] for name in weights})

"""Scores by the library `evaluate`, from the metric of this package: offline, no code is fetched."""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pipelines.artifacts import State

_MODULE = Path(__file__).parents[1] / "core" / "judging" / "answer_score.py"


def score(metric: str, answers: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """The score of each answer, best over its references, in [0, 1]; `metric` is a function of core/judging/scores."""
    if not answers:
        return []
    computed = _loaded(metric).compute(predictions=list(answers), references=[list(each) for each in references])
    scores: list[float] = computed["scores"]
    return scores


@cache
def _loaded(metric: str) -> Any:
    cache_folder = State.EVALUATE.path.resolve()
    os.environ.setdefault("HF_MODULES_CACHE", str(cache_folder / "modules"))
    os.environ.setdefault("HF_EVALUATE_CACHE", str(cache_folder))
    os.environ.setdefault("HF_EVALUATE_OFFLINE", "1")
    import evaluate

    return evaluate.load(str(_MODULE), metric, module_type="metric", cache_dir=str(cache_folder), keep_in_memory=True)

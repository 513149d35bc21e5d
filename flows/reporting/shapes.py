"""The fields of each stage's report that the page reads, and the one place where a report may turn out to lack them.

What is drawn afterwards can rely on them, so that any other error while drawing is a bug and not an old report.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import FiniteFloat, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from pipelines.artifacts import Artifact


class OtherVersion(Exception):  # noqa: N818  what is wrong, in two words
    """A report, a curve or the samples are torn, or of a version whose fields were others."""


class DataValidation(TypedDict):
    """As in pipelines/data_validation.py."""

    num_documents: int
    num_rejected: int
    rejected_by_reason: dict[str, int]
    expectations_met: int
    expectations_total: int


class _Loss(TypedDict, total=False):
    val_accuracy: FiniteFloat


class Pretraining(_Loss):
    """As in pipelines/pretraining.py; `val_accuracy` where tokens are hidden."""

    num_parameters: int
    val_bits_per_byte: FiniteFloat | None


class Finetuning(TypedDict):
    """As in pipelines/finetuning.py."""

    exact_match: FiniteFloat | None
    exact_match_story_removed: FiniteFloat | None


class Bin(TypedDict):
    """As in core/judging/calibration.py."""

    confidence: FiniteFloat
    accuracy: FiniteFloat


class Part(TypedDict):
    """As in core/judging/reward_diagnostics.py."""

    accuracy: FiniteFloat
    low: FiniteFloat | None
    high: FiniteFloat | None
    num_pairs: int
    num_prompts: int


class Spread(TypedDict):
    """As in core/judging/reward_diagnostics.py."""

    mean: FiniteFloat
    deviation: FiniteFloat
    quantiles: list[FiniteFloat]


class TaskRewards(TypedDict):
    """As in core/judging/reward_diagnostics.py."""

    chosen: Spread
    rejected: Spread


class _RewardFigures(TypedDict, total=False):
    held_out_model_accuracy: FiniteFloat
    best_reachable_accuracy: FiniteFloat | None
    length_baseline_accuracy: FiniteFloat
    similar_length_accuracy: FiniteFloat | None
    shorter_chosen_accuracy: FiniteFloat | None
    by_source: dict[str, Part]
    by_annotator: dict[str, Part]
    unseen_annotators: Part | None
    rewards_by_task: dict[str, TaskRewards]
    calibration: list[Bin]


class RewardModeling(_RewardFigures):
    """As in core/judging/reward_report.py."""

    held_out_accuracy: FiniteFloat
    held_out_accuracy_low: FiniteFloat
    held_out_accuracy_high: FiniteFloat


class Law(TypedDict):
    """As in core/judging/overoptimization.py."""

    alpha: FiniteFloat
    beta: FiniteFloat


class Point(TypedDict):
    """As in core/judging/overoptimization.py."""

    updates: int
    kl: FiniteFloat
    reward: FiniteFloat
    held_out_reward: FiniteFloat
    gold: FiniteFloat | None


class _PpoFigures(TypedDict, total=False):
    held_out_reward_before: FiniteFloat
    held_out_reward_after: FiniteFloat
    gold_before: FiniteFloat | None
    gold_after: FiniteFloat | None
    gold_gain: FiniteFloat | None
    mean_length_before: FiniteFloat
    mean_length_after: FiniteFloat
    finished_before: FiniteFloat
    finished_after: FiniteFloat
    distinct_before: FiniteFloat
    distinct_after: FiniteFloat
    share_of_best_gold: FiniteFloat | None
    stopped: str | None
    chosen_updates: int
    axis: list[Point]
    laws: dict[str, Law | None]
    spreads: dict[str, FiniteFloat]


class Ppo(_PpoFigures):
    """As in pipelines/ppo.py."""

    reward_before: FiniteFloat
    reward_after: FiniteFloat
    kl: FiniteFloat
    iterations: int


class Mean(TypedDict):
    """A figure with its interval, of which the chart shows the mean."""

    mean: FiniteFloat


class TaskScores(TypedDict, total=False):
    """Of one task; what does not apply to it is absent or null."""

    exact_match: Mean | None
    rouge_l: Mean | None


class WinRate(TypedDict):
    """As in core/judging/win_rates.py."""

    win_rate: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat


class Evaluation(TypedDict, total=False):
    """As in pipelines/evaluation.py."""

    base_exact_match: FiniteFloat | None
    sft_exact_match: FiniteFloat | None
    policy_exact_match: FiniteFloat | None
    short_answer_tasks: list[str]
    tasks: dict[str, dict[str, TaskScores]]
    win_rate_by_reward: WinRate
    win_rate_by_gold: WinRate | None
    shots: list[dict[str, Any]]
    decodings: list[dict[str, Any]]


class Candidate(TypedDict):
    """As in core/judging/candidates.py."""

    name: str
    bytes: int
    bytes_ratio: FiniteFloat
    bits_per_byte: FiniteFloat
    bits_per_byte_increase: FiniteFloat
    task_score: FiniteFloat
    breaks: list[str]


class Compression(TypedDict):
    """As in pipelines/compression.py."""

    candidates: list[Candidate]
    chosen: str
    bytes: int
    bytes_ratio: FiniteFloat


class _Answers(TypedDict, total=False):
    base: str
    sft: str
    policy: str
    reference: str


class Sample(_Answers):
    """A line of reports/samples.jsonl."""

    task: str
    prompt: str


SHAPES: Mapping[str, Any] = {
    "data_validation": DataValidation,
    "pretraining": Pretraining,
    "finetuning": Finetuning,
    "reward_modeling": RewardModeling,
    "ppo": Ppo,
    "evaluation": Evaluation,
    "compression": Compression,
}
"""Stage -> what the page reads of its report."""


def report(stage: str) -> Mapping[str, Any] | None:
    """The fields of a stage's report that the page reads; None when there is no report.

    Raises:
        OtherVersion: when it is torn, or its fields are others.
    """
    path = Artifact[f"{stage.upper()}_REPORT"].path
    remedy = f"`moteur run --from {stage}` writes it again."
    if not path.exists():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise OtherVersion(f"{path} is not JSON. {remedy}") from None
    found: Mapping[str, Any] = checked(value, SHAPES[stage], f"{path} is of another version", remedy)
    return found


def samples(path: Path) -> list[dict[str, Any]]:
    """The lines of `path`; none when there is no such file.

    Raises:
        OtherVersion: when a line is torn, or its fields are others.
    """
    if not path.exists():
        return []
    remedy = "`moteur run --from evaluation` writes it again."
    found: list[dict[str, Any]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line:
            continue
        try:
            value = json.loads(line)
        except ValueError:
            raise OtherVersion(f"{path}:{number} is not JSON. {remedy}") from None
        checked(value, Sample, f"{path}:{number} is of another version", remedy)
        found.append(value)
    return found


def checked(value: object, shape: Any, what: str, remedy: str) -> Any:
    """The fields of `shape` in `value`.

    Raises:
        OtherVersion: when one is missing or of another kind; it names the first.
    """
    try:
        return _adapter(shape).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise OtherVersion(f"{what} ({field + ': ' if field else ''}{first['msg'].lower()}). {remedy}") from None


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)

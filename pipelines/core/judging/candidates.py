"""The table of compressed models: each candidate beside the first one, the model as it was."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.core.judging import pareto, scores
from pipelines.core.judging.trials import Measured
from pipelines.core.learning.decoding import Response


@dataclass(frozen=True, kw_only=True)
class CandidateRow:
    """One row of the table; measured on the folder as it was written, on the split valid."""

    name: str
    format: str
    """How the weights are stored."""
    bits_per_byte: float
    """On held-out pretraining text."""
    bits_per_byte_increase: float
    """Relative, over float32."""
    task_score: float
    """Mean over the tasks, greedy."""
    task_scores: dict[str, float]
    """Exact match for tasks of short answers; for others the gold score where records carry gold, else ROUGE-L."""
    same_answers: float
    """Share of the answers that are float32's word for word."""
    bytes: int
    """Of the safetensors files."""
    bytes_ratio: float
    """Beside float32."""
    sparse_bytes: int | None
    """Pruned ones: what a bit mask with the non-zero values would take; not written, so not what the rule looks at."""
    num_parameters: int
    nonzero_share: float
    """Share of the weights that are not zero."""
    on_front: bool
    """No other candidate is at least as good in bytes, bits per byte and task score, and better in one."""
    breaks: list[str]
    """Limits of compression.rule that it does not keep."""


def table(
    measured: Mapping[str, Measured], formats: Mapping[str, str], sizes: Mapping[str, int], limits: pareto.Limits
) -> tuple[list[CandidateRow], pareto.Choice]:
    """A row for each candidate, and the choice; `sizes` are bytes of weights on disk, the first one is the baseline."""
    judged = [
        pareto.Candidate(name=name, bytes=sizes[name], bits_per_byte=one.bits_per_byte, task_scores=one.task_scores)
        for name, one in measured.items()
    ]
    baseline = judged[0]
    rows = [
        _row(one, baseline, measured, formats[one.name], limits, on_front=front)
        for one, front in zip(judged, pareto.on_front(judged), strict=True)
    ]
    return rows, pareto.choose(judged, limits)


def _row(
    one: pareto.Candidate,
    baseline: pareto.Candidate,
    measured: Mapping[str, Measured],
    written_as: str,
    limits: pareto.Limits,
    *,
    on_front: bool,
) -> CandidateRow:
    figures = measured[one.name]
    return CandidateRow(
        name=one.name,
        format=written_as,
        bits_per_byte=one.bits_per_byte,
        bits_per_byte_increase=one.bits_per_byte / baseline.bits_per_byte - 1,
        task_score=one.task_score,
        task_scores=figures.task_scores,
        same_answers=_same(figures.answers, measured[baseline.name].answers),
        bytes=one.bytes,
        bytes_ratio=one.bytes / baseline.bytes,
        sparse_bytes=figures.sparse_bytes if one.name.startswith(PRUNED) else None,
        num_parameters=figures.num_parameters,
        nonzero_share=figures.nonzero_share,
        on_front=on_front,
        breaks=pareto.broken_limits(one, baseline, limits),
    )


def _same(answers: Sequence[Response], expected: Sequence[Response]) -> float:
    return scores.mean([float(one.text == other.text) for one, other in zip(answers, expected, strict=True)])


PRUNED = ("magnitude", "wanda")
"""How the names of pruned candidates begin."""

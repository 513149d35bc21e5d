"""The report of the reward models: from what they make of pairs to figures."""

from collections.abc import Set
from dataclasses import dataclass
from statistics import fmean

from pipelines.core.judging import reward_diagnostics as diagnostics
from pipelines.core.judging.calibration import Bin, calibration_curve, pairwise_calibration_error
from pipelines.core.judging.intervals import cluster_bootstrap
from pipelines.core.judging.reward_diagnostics import Judged, Part, TaskRewards


@dataclass(frozen=True, kw_only=True)
class RewardModelingReport:
    """How well the reward model orders pairs about prompts that it has not seen."""

    held_out_accuracy: float
    held_out_accuracy_low: float
    """Lower end of the 95 % interval; all pairs of a prompt are drawn together."""
    held_out_accuracy_high: float
    train_accuracy: float
    """Of as many training rankings: far above the held-out accuracy means overfitting."""
    expected_calibration_error: float
    calibration: list[Bin]
    """How often it is right by how sure it is, in bins of 0.05."""
    by_source: dict[str, Part]
    by_annotator: dict[str, Part]
    """Simulated ones and people, by name."""
    unseen_annotators: Part | None
    """The same for all annotators together that no training pair is from; None without any."""
    rewards_by_task: dict[str, TaskRewards]
    similar_length_accuracy: float | None
    """Among held-out pairs of similar length."""
    shorter_chosen_accuracy: float | None
    """Among held-out pairs whose longer response lost: a counter of words scores 0."""
    length_baseline_accuracy: float
    """Of preferring the longer response."""
    gold_accuracy: float | None
    """Against the gold order instead of the noisy labels."""
    best_reachable_accuracy: float | None
    """Of the gold scorer itself on the same pairs."""
    recovered_share: float | None
    """How much of the way from chance to the best reachable accuracy is covered."""
    held_out_model_accuracy: float
    """Of the second model, which has trained on other prompts than the first, on the same held-out pairs."""
    held_out_model_accuracy_low: float
    held_out_model_accuracy_high: float
    mean_margin: float
    num_train_pairs: int
    """Of the first model."""
    num_held_out_model_pairs: int
    """Of the second."""
    num_held_out_pairs: int
    num_held_out_prompts: int
    unseen_prompt_share: float
    """Share of the held-out pairs about prompts that do not occur in training."""
    num_too_long: int
    """Pairs left out because a response with its prompt exceeds `max_length`."""
    num_tokens: int
    """Read in training, by both models."""


def reported(
    *,
    held_out: list[Judged],
    by_judge: list[Judged],
    seen: list[Judged],
    trained_on: Set[str],
    learnt_from: Set[str | None],
    num_train_pairs: int,
    num_judge_pairs: int,
    num_too_long: int,
    num_tokens: int,
    similar_length_ratio: float,
    seed: int,
) -> RewardModelingReport:
    """All figures.

    Args:
        held_out: What the first model makes of the held-out pairs.
        by_judge: What the second makes of the same.
        seen: What the first makes of some pairs that it was trained on.
        trained_on: The prompts that the first was trained on.
        learnt_from: The annotators of the pairs that it was trained on.
        num_train_pairs: Of the first model.
        num_judge_pairs: That the second was trained on.
        num_too_long: As in the report.
        num_tokens: As in the report.
        similar_length_ratio: As in params.
        seed: Of the bootstrap.
    """
    prompts = [pair.prompt for pair in held_out]
    interval = cluster_bootstrap([pair.correct for pair in held_out], prompts, seed=seed)
    judge = cluster_bootstrap([pair.correct for pair in by_judge], prompts, seed=seed)
    ceiling = diagnostics.ceiling(held_out)
    return RewardModelingReport(
        held_out_accuracy=interval.mean,
        held_out_accuracy_low=interval.low,
        held_out_accuracy_high=interval.high,
        train_accuracy=fmean(pair.correct for pair in seen),
        expected_calibration_error=pairwise_calibration_error([pair.margin for pair in held_out]),
        calibration=calibration_curve([pair.margin for pair in held_out]),
        by_source=diagnostics.parts(held_out, lambda pair: pair.source, seed=seed),
        by_annotator=diagnostics.parts(held_out, lambda pair: pair.annotator, seed=seed),
        unseen_annotators=diagnostics.parts(
            held_out, lambda pair: None if pair.annotator in {None, *learnt_from} else "unseen", seed=seed
        ).get("unseen"),
        rewards_by_task=diagnostics.rewards_by_task(held_out),
        similar_length_accuracy=diagnostics.accuracy(
            held_out, lambda pair: pair.similar_in_length(similar_length_ratio)
        ),
        shorter_chosen_accuracy=diagnostics.accuracy(held_out, lambda pair: pair.correct_by_length == 0),
        length_baseline_accuracy=fmean(pair.correct_by_length for pair in held_out),
        gold_accuracy=diagnostics.gold_accuracy(held_out),
        best_reachable_accuracy=ceiling,
        recovered_share=diagnostics.recovered_share(interval.mean, ceiling),
        held_out_model_accuracy=judge.mean,
        held_out_model_accuracy_low=judge.low,
        held_out_model_accuracy_high=judge.high,
        mean_margin=fmean(pair.margin for pair in held_out),
        num_train_pairs=num_train_pairs,
        num_held_out_model_pairs=num_judge_pairs,
        num_held_out_pairs=len(held_out),
        num_held_out_prompts=len(set(prompts)),
        unseen_prompt_share=fmean(prompt not in trained_on for prompt in prompts),
        num_too_long=num_too_long,
        num_tokens=num_tokens,
    )

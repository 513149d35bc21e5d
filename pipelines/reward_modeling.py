"""Train the reward model on preference pairs, and a second one on others to judge by."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pipelines import stage
from pipelines.adapters import datasets, device, files, models, reward_trainer
from pipelines.adapters.checkpoints import Checkpoints
from pipelines.adapters.resumption import Resumption
from pipelines.adapters.tracking import Tracker
from pipelines.artifacts import Artifact, State
from pipelines.core.judging import reward_diagnostics as diagnostics
from pipelines.core.judging.reward_diagnostics import Judged
from pipelines.core.judging.reward_report import RewardModelingReport, reported
from pipelines.core.judging.rules import rules_of_reward_model
from pipelines.core.learning import compute, decoding, pooling, preferences, rewards
from pipelines.core.learning.preferences import FEWEST_PROMPTS
from pipelines.core.learning.rewards import Comparison
from pipelines.errors import DataError, GateError, ParamsError, TrainingError
from pipelines.params import Params, RewardModeling, RewardVerdict

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class Side:
    """Rankings that one model trains on, or all are measured on."""

    comparisons: list[Comparison]
    num_too_long: int
    """Pairs left out."""

    @property
    def num_pairs(self) -> int:
        """Pairs of all rankings."""
        return sum(len(item.records) for item in self.comparisons)

    @property
    def prompts(self) -> set[str]:
        """What the pairs are about."""
        return {item.records[0]["prompt"] for item in self.comparisons}

    @property
    def annotators(self) -> set[str | None]:
        """Who made the pairs; None where it is not known."""
        return {record.get("annotator") for item in self.comparisons for record in item.records}


def main(params: Params, tracker: Tracker) -> RewardModelingReport:
    """Train both models from the instruction model; measure them on pairs about prompts held out."""
    target = device.prepare(params.seed, params.threads)
    tokenizer = models.load_tokenizer(Artifact.SFT.path)
    model, judge = (_untrained(params.reward_modeling).to(target) for _ in range(2))
    train = _load("train", tokenizer, params.reward_modeling)
    held_out = _load("valid", tokenizer, params.reward_modeling)
    first, second = _divided(train, params.reward_modeling.held_out_model_share, params.seed)
    with _checkpoints(params, "") as store, _checkpoints(params, "held_out_model_") as judge_store:
        steps = _train(model, tokenizer, first.comparisons, params, tracker, store)
        judge_steps = _train(judge, tokenizer, second.comparisons, params, tracker, judge_store, "held_out_model_")
        files.write_csv(
            Artifact.REWARD_MODELING_CURVE.path,
            ("step", "loss", "accuracy"),
            [(step.step, step.loss, step.accuracy) for step in steps],
        )
        report = reported(
            held_out=judged(model, held_out.comparisons),
            by_judge=judged(judge, held_out.comparisons),
            seen=judged(model, first.comparisons[: len(held_out.comparisons)]),
            trained_on=first.prompts,
            learnt_from=first.annotators,
            num_train_pairs=first.num_pairs,
            num_judge_pairs=second.num_pairs,
            num_too_long=train.num_too_long + held_out.num_too_long,
            num_tokens=sum(step.tokens for step in [*steps, *judge_steps]),
            similar_length_ratio=params.reward_modeling.similar_length_ratio,
            seed=params.seed,
        )
        _require_good(report, params.reward_modeling.gate)
        models.save(model, tokenizer, Artifact.REWARD.path)
        models.save(judge, tokenizer, Artifact.HELD_OUT_REWARD.path)
        store.discard()
        judge_store.discard()
    return report


def _untrained(settings: RewardModeling) -> "PreTrainedModel":
    model = models.with_reward_head(Artifact.SFT.path)
    if settings.max_length > (limit := decoding.longest(model)):
        raise ParamsError(
            f"reward_modeling.max_length is {settings.max_length} but the instruction model reads at most {limit}"
            " tokens: lower reward_modeling.max_length, or raise model.context where pretraining.init is null, in"
            " params.yaml"
        )
    if settings.pooling_layer:
        pooling.add_pooling_layer(model)
    return model


REMEDIES = {
    "min_accuracy": "gather more feedback (feedback.num_prompts), look at how far annotators agree"
    " (reports/feedback.json), raise reward_modeling.epochs",
    "min_gain_over_length": "gather pairs of similar length, or more of them",
    "max_calibration_error": "lower reward_modeling.epochs or reward_modeling.learning_rate",
}


def _require_good(report: RewardModelingReport, gate: RewardVerdict) -> None:
    """Raise GateError unless all limits are met; the figures are kept where DVC does not remove them."""
    rules = zip(REMEDIES.items(), rules_of_reward_model(asdict(report), gate), strict=True)
    failed = [
        f"{rule.words}: {remedy}, or change reward_modeling.gate.{key}"
        for (key, remedy), rule in rules
        if not rule.passed
    ]
    path = State.REFUSED.path / "reward_modeling.json"
    if not failed:
        path.unlink(missing_ok=True)
        return
    stage.write_report(report, path)
    raise GateError(
        f"The reward model is not good enough to teach a policy, and is not kept. {'; '.join(failed)} in params.yaml."
        f" All figures are in {path}."
    )


def _load(split: datasets.Split, tokenizer: "PreTrainedTokenizerBase", settings: RewardModeling) -> Side:
    groups = preferences.grouped(datasets.records(Artifact.PREFERENCES.path, "preferences", split))
    every = [rewards.comparison(tokenizer, group) for group in groups]
    kept = [item for item in (item.within(settings.max_length) for item in every) if item.records]
    too_long = sum(len(item.records) for item in every) - sum(len(item.records) for item in kept)
    side = Side(comparisons=kept, num_too_long=too_long)
    if len(side.prompts) < FEWEST_PROMPTS:
        raise DataError(
            f"preferences.{split}.jsonl in {Artifact.PREFERENCES} has usable pairs about {len(side.prompts)} prompts,"
            f" but {FEWEST_PROMPTS} are needed ({too_long} pairs exceed reward_modeling.max_length,"
            f" {settings.max_length} tokens): gather more feedback (feedback.num_prompts, feedback.held_out_share) or"
            " raise reward_modeling.max_length in params.yaml."
        )
    return side


def _divided(train: Side, share: float, seed: int) -> tuple[Side, Side]:
    """The rankings of the first and of the held-out model, by hash of their prompt."""
    sides: tuple[list[Comparison], list[Comparison]] = ([], [])
    for item in train.comparisons:
        sides[preferences.for_held_out_model(item.records[0]["prompt"], seed=seed, share=share)].append(item)
    first, second = (Side(comparisons=side, num_too_long=0) for side in sides)
    for side, whose in ((first, "reward model"), (second, "held-out reward model")):
        if len(side.prompts) < FEWEST_PROMPTS:
            raise DataError(
                f"Of {len(train.prompts)} prompts to train on, reward_modeling.held_out_model_share ({share:g}) leaves"
                f" {len(side.prompts)} to the {whose}, but {FEWEST_PROMPTS} are needed: gather more feedback"
                " (feedback.num_prompts) or change that share in params.yaml."
            )
    return first, second


def _checkpoints(params: Params, whose: str) -> AbstractContextManager[Checkpoints]:
    settings = params.reward_modeling.model_dump(exclude={"gate", "checkpoint_every"})
    sections = {"seed": params.seed, "reward_modeling": settings}
    return Checkpoints.opened(f"{whose}reward_modeling", sections, [Artifact.PREFERENCES.path, Artifact.SFT.path])


def _train(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    comparisons: Sequence[Comparison],
    params: Params,
    tracker: Tracker,
    store: Checkpoints,
    whose: str = "",
) -> list[reward_trainer.Step]:
    settings = params.reward_modeling
    model.config.pad_token_id = tokenizer.pad_token_id
    lengths = [item.longest for item in comparisons]
    batches = rewards.planned(lengths, batch_size=settings.batch_size, epochs=settings.epochs, seed=params.seed)
    store.require_space(3 * 4 * model.num_parameters())
    found = store.latest()
    steps = [reward_trainer.Step(**values) for values in found.values["steps"]] if found else []
    with tracker.progress(f"{whose}training".replace("_", " "), len(batches), "steps") as bar:
        bar.resume(len(steps))

        def on_step(step: reward_trainer.Step) -> None:
            steps.append(step)
            tracker.log({f"{whose}loss": step.loss, f"{whose}accuracy": step.accuracy}, step.step)
            bar.advance(1, loss=step.loss, accuracy=step.accuracy)

        reward_trainer.train(
            model,
            tokenizer,
            comparisons,
            batches,
            learning_rate=settings.learning_rate,
            warmup_share=settings.warmup_share,
            seed=params.seed,
            precision=device.precision("auto"),
            resume=Resumption(
                store=store,
                found=found,
                every=settings.checkpoint_every,
                values=lambda: {"steps": [asdict(step) for step in steps]},
            ),
            on_step=on_step,
            stop=stage.preempted,
        )
    tokens = sum(step.tokens for step in steps)
    tracker.effort(
        flops=compute.TRAINING.flops(model.num_parameters(), tokens),
        tokens=tokens,
        seconds=store.seconds_before,
        objective="preference likelihood (Bradley-Terry)",
        customisation="all weights, with a pooling layer and a head that are new"
        if settings.pooling_layer
        else "all weights and a new scalar head",
    )
    return steps


def judged(model: "PreTrainedModel", comparisons: Sequence[Comparison]) -> list[Judged]:
    """All pairs of the rankings with their margins.

    Raises:
        TrainingError: when a reward is not a finite number.
    """
    given = rewards.score_ids(model, [sequence for item in comparisons for sequence in item.sequences])
    if undefined := sum(not math.isfinite(reward) for reward in given):
        raise TrainingError(
            f"The reward model gives no finite number to {undefined} of {len(given)} responses: lower"
            " reward_modeling.learning_rate in params.yaml."
        )
    scores = iter(given)
    pairs = []
    for item in comparisons:
        reward = [next(scores) for _ in item.sequences]
        tokens = [len(sequence) - item.prompt_tokens for sequence in item.sequences]
        pairs += [
            Judged(
                prompt=record["prompt"],
                chosen_reward=reward[chosen],
                rejected_reward=reward[rejected],
                chosen_tokens=tokens[chosen],
                rejected_tokens=tokens[rejected],
                gold_margin=diagnostics.gold_margin(record),
                source=record["source"],
                annotator=record.get("annotator"),
                task=record.get("task"),
            )
            for record, chosen, rejected in zip(item.records, item.chosen, item.rejected, strict=True)
        ]
    return pairs


if __name__ == "__main__":
    stage.run("reward_modeling", main, report=Artifact.REWARD_MODELING_REPORT)

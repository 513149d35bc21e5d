"""Align the instruction model with the reward model by proximal policy optimisation."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pipelines import stage
from pipelines.adapters import datasets, device, files, models, reward_functions
from pipelines.adapters.checkpoints import Checkpoints
from pipelines.adapters.tokens import TokenStore
from pipelines.adapters.tracking import Tracker
from pipelines.artifacts import Artifact
from pipelines.core.judging.intervals import Interval, paired_bootstrap
from pipelines.core.learning import actors, attention, decoding, limits, preferences, rewards, rollouts
from pipelines.core.learning.batches import Packed
from pipelines.core.learning.limits import Stop
from pipelines.core.learning.policy_optimisation import Learner, Step
from pipelines.core.learning.reward_mixture import RewardMixture
from pipelines.core.learning.rollouts import Measured, Prompt
from pipelines.core.text.prompts import user_text
from pipelines.core.world.gold import gold_score
from pipelines.errors import DataError, Preempted, TrainingError
from pipelines.params import Params

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CURVE = (
    *("iteration", "reward", "kl", "entropy", "clip_share", "explained_variance", "length", "finished"),
    *("reward_model", "reward_functions", "unfinished_penalty", "kl_penalty", "kl_coefficient"),
)
FEWEST_PROMPTS = 2
DEAD_SPREAD = 1e-6
"""Rewards that differ by less than this part of their size differ by rounding."""

INPUTS = (Artifact.VALIDATED, Artifact.SFT, Artifact.REWARD)


@dataclass(frozen=True, kw_only=True)
class PpoReport:
    """The policy beside the instruction model, on prompts of the validation set, with the same seeds."""

    reward_before: float
    reward_after: float
    reward_gain_low: float
    """Ends of the paired 95 % interval; all samples for a prompt are drawn together."""
    reward_gain_high: float
    gold_before: float | None
    """None where the prompts carry no gold facts."""
    gold_after: float | None
    gold_gain: float | None
    gold_gain_low: float | None
    gold_gain_high: float | None
    kl: float
    """Mean KL divergence of a response from the instruction model, nats."""
    mean_length_before: float
    """Tokens, the end token included."""
    mean_length_after: float
    finished_before: float
    """Share of the responses with an end token."""
    finished_after: float
    distinct_before: float
    """Share of the responses that differ from all others: a collapsed policy says the same to everyone."""
    distinct_after: float
    iterations: int
    stopped_early: bool
    """A limit was passed, and the last policy within it was kept."""
    stopped: Stop | None
    """Which."""
    num_prompts: int
    num_evaluation_prompts: int
    unseen_prompt_share: float
    """Share of the evaluation prompts that were not trained on."""
    num_tokens: int
    new_value_head: str | None
    """Why the value model began as the instruction model with a new head; None: it began as the reward model."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Prompts, and the gold facts of each where there are any."""

    prompts: list[Prompt]
    gold: list[Mapping[str, Any] | None]

    def rows(self, rows: Sequence[int]) -> "Task":
        """Some of the prompts."""
        return Task(prompts=[self.prompts[row] for row in rows], gold=[self.gold[row] for row in rows])


def main(params: Params, tracker: Tracker) -> PpoReport:
    """Optimise a copy of the instruction model; compare both on held-out prompts."""
    settings = params.ppo
    functions = reward_functions.load(settings.reward_functions)
    target = device.prepare(params.seed, params.threads)
    tokenizer = models.load_tokenizer(Artifact.SFT.path)
    policy = models.load_causal(Artifact.SFT.path).to(target)
    reward_model = models.load_reward(Artifact.REWARD.path).to(target)
    reward_tokenizer = models.load_tokenizer(Artifact.REWARD.path)
    attention.use_fastest(reward_model, device=target, context=decoding.longest(reward_model))
    room = decoding.longest(policy) - settings.max_new_tokens
    train = load_task("train", params, tokenizer, room)
    held_out = drawn(
        unseen(load_task("valid", params, tokenizer, room), train), settings.evaluation_prompts, params.seed
    )
    cast = actors.actors(
        policy, reward_model, tokenizer=tokenizer, reward_tokenizer=reward_tokenizer, settings=settings
    )
    learner = Learner(
        policy=policy,
        reference=cast.reference,
        value_model=cast.value_model,
        value_scale=cast.value_scale,
        tokenizer=tokenizer,
        prompts=train.prompts,
        text=_text(train, params),
        reward=RewardMixture(
            model=partial(rewards.score, reward_model, reward_tokenizer),
            model_weight=settings.reward_model_weight,
            functions=functions,
        ),
        settings=settings,
        seed=params.seed,
        precision=device.precision("auto"),
    )
    compare = partial(
        rollouts.measure,
        reference=cast.reference,
        tokenizer=tokenizer,
        prompts=held_out.prompts,
        score=learner.reward,
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.temperature,
        seed=params.seed,
    )
    before = compare(cast.reference)
    _refuse_dead_reward(before.rewards, "The reward model" if not functions else "The mixture of rewards")
    sections = {"seed": params.seed, "feedback.tasks": list(params.feedback.tasks), "ppo": settings.model_dump()}
    inputs = [*(artifact.path for artifact in INPUTS), *(reward_functions.sources() if functions else [])]
    inputs += [Artifact.TOKENS.path] if learner.text else []
    with Checkpoints.opened("ppo", sections, inputs) as store:
        steps = _learn(learner, store, params, tracker)
        after = _within_limits(learner, compare, before)
        files.write_csv(Artifact.PPO_CURVE.path, CURVE, [[getattr(step, name) for name in CURVE] for step in steps])
        models.save(cast.merged(), tokenizer, Artifact.POLICY.path)
        store.discard()
    stopped = learner.stopped
    return _report(before, after, train, held_out, steps, stopped=stopped, new_head=cast.new_head, seed=params.seed)


def _text(train: Task, params: Params) -> Packed | None:
    """Pretraining text for each update: a row for each response, as long as the longest of these with its prompt."""
    if params.ppo.ptx_coefficient == 0:
        return None
    store = TokenStore.open(Artifact.TOKENS.path)
    context = max(len(prompt.ids) for prompt in train.prompts) + params.ppo.max_new_tokens
    packed = Packed(store.split("train"), context, params.ppo.minibatch_size, params.seed, separator=store.eos)
    if packed.steps_per_epoch == 0:
        raise DataError(
            f"With ppo.ptx_coefficient one step reads {packed.smallest_row:,} tokens of pretraining text, but there are"
            f" {len(packed.row):,}: lower ppo.minibatch_size in params.yaml, make the first 0, or give more text"
            " (ingestion.corpus.train)."
        )
    return packed


def _refuse_dead_reward(rewards: Sequence[float], giver: str) -> None:
    """Raises TrainingError when all rewards are the same but for rounding."""
    if max(rewards) - min(rewards) <= DEAD_SPREAD * max(1.0, abs(rewards[0])):
        raise TrainingError(
            f"{giver} gives {rewards[0]:.4g} to all {len(rewards)} responses of the instruction model: what"
            " tells nothing apart teaches nothing. Look at reports/reward_modeling.json, correct the preferences or the"
            " section reward_modeling of params.yaml, and run again."
        )


def load_task(split: datasets.Split, params: Params, tokenizer: "PreTrainedTokenizerBase", room: int) -> Task:
    """The prompts of a split that fit into the model, each once.

    They are those of the tasks in `feedback.tasks`. Where none of these tasks occurs the reward model has learnt from
    ready pairs, so theirs are taken; without any, those of all instructions.

    Raises:
        DataError: when there are too few.
    """
    records = list(datasets.records(Artifact.VALIDATED.path, "instructions", split))
    pairs = list(datasets.records(Artifact.VALIDATED.path, "preferences", split))
    if pairs and not any(record["task"] in params.feedback.tasks for record in records):
        gold: dict[str, Mapping[str, Any] | None] = {pair["prompt"]: None for pair in pairs}
    else:
        gold = {
            user_text(record["context"], record["prompt"]): record.get("gold")
            for record in preferences.about(records, params.feedback.tasks)
        }
    prompts = [
        Prompt(text=text, ids=decoding.chat_ids(tokenizer, [{"role": "user", "content": text}])) for text in gold
    ]
    fitting = [prompt for prompt in prompts if len(prompt.ids) <= room]
    if len(fitting) < FEWEST_PROMPTS:
        raise DataError(
            f"PPO found {len(fitting)} prompts in the {split} split that leave room for ppo.max_new_tokens"
            f" ({params.ppo.max_new_tokens}); {len(prompts) - len(fitting)} are too long. Add instructions for one of"
            f" feedback.tasks ({', '.join(params.feedback.tasks)}), or lower ppo.max_new_tokens in params.yaml."
        )
    return Task(prompts=fitting, gold=[gold[prompt.text] for prompt in fitting])


def unseen(task: Task, train: Task) -> Task:
    """Without the prompts that are trained on, unless hardly any others are left; the report gives their share."""
    known = {prompt.text for prompt in train.prompts}
    rows = [row for row, prompt in enumerate(task.prompts) if prompt.text not in known]
    return task.rows(rows) if len(rows) >= FEWEST_PROMPTS else task


def drawn(task: Task, count: int, seed: int) -> Task:
    """A random choice of `count` prompts; where there are fewer, each is taken several times."""
    rows = random.Random(f"ppo:{seed}").sample(range(len(task.prompts)), min(count, len(task.prompts)))
    rows = [rows[number % len(rows)] for number in range(count)]
    return task.rows(rows)


def _learn(learner: Learner, store: Checkpoints, params: Params, tracker: Tracker) -> list[Step]:
    """Go through the iterations, from the last checkpoint on; leave a checkpoint when asked to stop."""
    settings = params.ppo
    store.require_space(learner.state_bytes)
    steps: list[Step] = []
    with tracker.progress("optimising", settings.iterations, "iterations") as bar:
        if found := store.latest():
            learner.restore(found.tensors, found.values)
            steps = [Step(**values) for values in found.values["steps"]]
            bar.advance(found.step)
        for step in learner.steps(start=len(steps)):
            steps.append(step)
            tracker.log({name: value for name, value in asdict(step).items() if value is not None}, step.iteration)
            bar.advance(1, reward=step.reward, kl=step.kl, length=step.length)
            if stage.preempted() or step.iteration % settings.checkpoint_every == 0:
                tensors, values = learner.state()
                store.save(step.iteration, tensors, {**values, "steps": [asdict(done) for done in steps]})
            if stage.preempted():
                raise Preempted(
                    f"Stopped by request after iteration {step.iteration}; the next run goes on from there."
                )
    tokens = sum(step.tokens for step in steps)
    forward, backward = 2 * (5 + 2 * settings.epochs), 4 * 2 * settings.epochs
    tracker.effort(
        flops=float(forward + backward) * learner.policy.num_parameters() * tokens,
        tokens=tokens,
        objective="reward less KL penalty (PPO)",
        customisation=f"{settings.method}, with a value model beside",
    )
    return steps


def _within_limits(learner: Learner, compare: Callable[..., Measured], before: Measured) -> Measured:
    """Measure the policy; when the last update took it past a limit, take the one before it instead."""
    after = compare(learner.policy)
    if learner.stopped or not learner.good:
        return after
    seen = {"kl": fmean(after.kl), "length": fmean(after.lengths), "reward": fmean(after.rewards)}
    stop = limits.passed(learner.settings, first_length=fmean(before.lengths), **seen)
    if stop is None:
        return after
    learner.go_back(stop, learner.settings.iterations - 1, seen)
    return compare(learner.policy)


def _report(
    before: Measured,
    after: Measured,
    train: Task,
    held_out: Task,
    steps: Sequence[Step],
    *,
    stopped: Stop | None,
    new_head: str | None,
    seed: int,
) -> PpoReport:
    clusters = [prompt.text for prompt in held_out.prompts]
    trained_on = {prompt.text for prompt in train.prompts}
    reward = paired_bootstrap(before.rewards, after.rewards, seed=seed, clusters=clusters)
    gold_before, gold_after = _gold(held_out, before), _gold(held_out, after)
    gold: Interval | None = None
    if gold_before and gold_after:
        gold = paired_bootstrap(gold_before, gold_after, seed=seed, clusters=clusters)
    return PpoReport(
        reward_before=fmean(before.rewards),
        reward_after=fmean(after.rewards),
        reward_gain_low=reward.low,
        reward_gain_high=reward.high,
        gold_before=fmean(gold_before) if gold_before else None,
        gold_after=fmean(gold_after) if gold_after else None,
        gold_gain=gold.mean if gold else None,
        gold_gain_low=gold.low if gold else None,
        gold_gain_high=gold.high if gold else None,
        kl=fmean(after.kl),
        mean_length_before=fmean(before.lengths),
        mean_length_after=fmean(after.lengths),
        finished_before=fmean(before.finished),
        finished_after=fmean(after.finished),
        distinct_before=len(set(before.texts)) / len(before.texts),
        distinct_after=len(set(after.texts)) / len(after.texts),
        iterations=len(steps),
        stopped_early=stopped is not None,
        stopped=stopped,
        num_prompts=len(train.prompts),
        num_evaluation_prompts=len(set(clusters)),
        unseen_prompt_share=fmean(text not in trained_on for text in clusters),
        num_tokens=sum(step.tokens for step in steps),
        new_value_head=new_head,
    )


def _gold(task: Task, measured: Measured) -> list[float] | None:
    """Gold scores of the responses; None unless every prompt carries gold facts."""
    if any(facts is None for facts in task.gold):
        return None
    return [
        gold_score(facts, text).total
        for facts, text in zip(task.gold, measured.texts, strict=True)
        if facts is not None
    ]


if __name__ == "__main__":
    stage.run("ppo", main, report=Artifact.PPO_REPORT)

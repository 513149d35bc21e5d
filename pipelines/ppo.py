"""Align the instruction model with the reward model by proximal policy optimisation."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from pipelines import stage
from pipelines.adapters import device, files, models, prompts, reward_functions
from pipelines.adapters.checkpoints import Checkpoints
from pipelines.adapters.tokens import TokenStore
from pipelines.adapters.tracking import Tracker
from pipelines.artifacts import Artifact
from pipelines.core.judging import kl_axis, ppo_report
from pipelines.core.judging.kl_axis import Examined, HeldOut, Task
from pipelines.core.judging.ppo_report import PpoReport
from pipelines.core.learning import actors, attention, compute, decoding, limits, rewards, training
from pipelines.core.learning.batches import Packed
from pipelines.core.learning.policy_optimisation import Learner, Step
from pipelines.core.learning.reward_mixture import RewardMixture
from pipelines.core.learning.rollouts import Score
from pipelines.errors import DataError, Preempted, TrainingError
from pipelines.params import Params

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

CURVE = (
    "iteration",
    "reward",
    "kl",
    "entropy",
    "clip_share",
    "explained_variance",
    "length",
    "finished",
    "reward_model",
    "reward_functions",
    "unfinished_penalty",
    "kl_penalty",
    "kl_coefficient",
    "length_weight",
)
AXIS = ("updates", "kl", "reward", "held_out_reward", "gold", "length", "finished")
DEAD_SPREAD = 1e-6
"""Rewards that differ by less than this part of their size differ by rounding."""

INPUTS = (Artifact.VALIDATED, Artifact.SFT, Artifact.REWARD, Artifact.HELD_OUT_REWARD)


def main(params: Params, tracker: Tracker) -> PpoReport:
    """Optimise a copy of the instruction model; compare both on held-out prompts."""
    settings = params.ppo
    functions = reward_functions.load(settings.reward_functions)
    target = device.prepare(params.seed, params.threads)
    tokenizer = models.load_tokenizer(Artifact.SFT.path)
    policy = models.load_causal(Artifact.SFT.path).to(target)
    room = {"context": decoding.longest(policy), "new_tokens": settings.max_new_tokens}
    train = prompts.load("train", tokenizer, tasks=params.feedback.tasks, **room)
    fitting = prompts.load("valid", tokenizer, tasks=params.feedback.tasks, **room)
    valid = prompts.unseen(fitting, train)
    reward_model, score = _scorer(Artifact.REWARD, target)
    _, held_out_score = _scorer(Artifact.HELD_OUT_REWARD, target)
    mixture = partial(RewardMixture, model_weight=settings.reward_model_weight, functions=functions)
    cast = actors.actors(
        policy,
        reward_model,
        tokenizer=tokenizer,
        reward_tokenizer=models.load_tokenizer(Artifact.REWARD.path),
        settings=settings,
    )
    learner = Learner(
        policy=policy,
        reference=cast.reference,
        value_model=cast.value_model,
        value_scale=cast.value_scale,
        tokenizer=tokenizer,
        prompts=train.prompts,
        text=_text(train, params),
        reward=mixture(model=score),
        settings=settings,
        seed=params.seed,
        precision=device.precision("auto"),
    )
    held_out = HeldOut(
        task=prompts.drawn(valid, settings.evaluation_prompts, params.seed),
        reference=cast.reference,
        tokenizer=tokenizer,
        reward=learner.reward,
        held_out_reward=mixture(model=held_out_score),
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.temperature,
        seed=params.seed,
    )
    start = held_out.examine(cast.reference, 0)
    _refuse_dead_reward(
        start.said.rewards, settings.reward_model_weight, [entry.function for entry in settings.reward_functions]
    )
    learnt = settings.model_dump(exclude={"checkpoint_every"})
    sections = {"seed": params.seed, "feedback.tasks": list(params.feedback.tasks), "ppo": learnt}
    inputs = [*(artifact.path for artifact in INPUTS), *(reward_functions.sources() if functions else [])]
    inputs += [Artifact.TOKENS.path] if learner.text else []
    with Checkpoints.opened("ppo", sections, inputs) as store:
        steps, axis = _learn(learner, store, held_out, params, tracker)
        last = _within_limits(learner, held_out, start, len(steps))
        axis = [start, *(each for each in axis if each.updates < last.updates), last]
        chosen = kl_axis.chosen(axis, kl_price=settings.kl_price, max_length_change=settings.max_length_change)
        _take(chosen, learner, store, last=last)
        files.write_csv(Artifact.PPO_CURVE.path, CURVE, [[getattr(step, name) for name in CURVE] for step in steps])
        files.write_csv(Artifact.PPO_AXIS.path, AXIS, [[getattr(each.point, name) for name in AXIS] for each in axis])
        models.save(cast.merged(), tokenizer, Artifact.POLICY.path)
        store.discard()
    stopped = learner.stopped
    return ppo_report.report(
        axis,
        chosen,
        train,
        held_out.task,
        steps,
        stopped=stopped,
        new_head=cast.new_head,
        num_too_long=train.num_too_long + fitting.num_too_long,
        seed=params.seed,
    )


def _scorer(folder: Artifact, target: "torch.device") -> tuple["PreTrainedModel", Score]:
    """A reward model, and what gives its rewards; it reads with its own tokenizer."""
    model = models.load_reward(folder.path).to(target)
    attention.use_fastest(model, device=target, context=decoding.longest(model))
    return model, partial(rewards.score, model, models.load_tokenizer(folder.path))


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


def _refuse_dead_reward(rewards: Sequence[float], model_weight: float, functions: Sequence[str]) -> None:
    """Raises TrainingError when all rewards are the same but for rounding."""
    is_dead = max(rewards) - min(rewards) <= DEAD_SPREAD * max(1.0, abs(rewards[0]))
    if not is_dead:  # not of NaN either, which the first iteration tells of
        return
    givers = [f"the reward model, weight {model_weight:g}"] if model_weight else []
    remedies = ["look at reports/reward_modeling.json and correct the preferences"] if model_weight else []
    if functions:
        givers.append(f"ppo.reward_functions ({', '.join(functions)})")
        remedies.append("correct the functions or their weights in params.yaml")
    raise TrainingError(
        f"All {len(rewards)} responses of the instruction model are given {rewards[0]:.4g} by {' and '.join(givers)}:"
        f" what tells nothing apart teaches nothing. Do one of these: {'; '.join(remedies)}."
    )


def _learn(
    learner: Learner, store: Checkpoints, held_out: HeldOut, params: Params, tracker: Tracker
) -> tuple[list[Step], list[Examined]]:
    """Go through the iterations, from the last checkpoint on, and measure a policy now and then.

    A measured policy is pinned; a checkpoint is left every few iterations and when asked to stop.
    """
    settings = params.ppo
    pins = 1 + (settings.iterations - 1) // settings.measure_every
    store.require_space(learner.state_bytes, pins * learner.policy_bytes)
    store.pin(0, training.trained_weights(learner.policy), {})
    steps: list[Step] = []
    axis: list[Examined] = []
    with tracker.progress("optimising", settings.iterations, "iterations") as bar:
        if found := store.latest():
            learner.restore(found.tensors, found.values)
            steps = [Step(**values) for values in found.values["steps"]]
            axis = [Examined.of(store.pinned(updates).values) for updates in found.values["measured"]]
            bar.resume(found.step)
        for step in learner.steps(start=len(steps)):
            steps.append(step)
            tracker.log({name: value for name, value in asdict(step).items() if value is not None}, step.iteration)
            bar.advance(1, reward=step.reward, kl=step.kl, length=step.length)
            if step.iteration % settings.measure_every == 0 and step.iteration < settings.iterations:
                axis.append(held_out.examine(learner.policy, step.iteration))
                store.pin(step.iteration, training.trained_weights(learner.policy), axis[-1].values())
            asked = stage.preempted()
            if asked or step.iteration % settings.checkpoint_every == 0:
                tensors, values = learner.state()
                done = {"steps": [asdict(one) for one in steps], "measured": [each.updates for each in axis]}
                store.save(step.iteration, tensors, {**values, **done})
            if asked:
                raise Preempted(
                    f"Stopped by request after iteration {step.iteration}; the next run goes on from there."
                )
    tokens, text_tokens = sum(step.tokens for step in steps), sum(step.text_tokens or 0 for step in steps)
    parameters = learner.policy.num_parameters()
    tracker.effort(
        flops=compute.ppo(settings.epochs).flops(parameters, tokens) + compute.TRAINING.flops(parameters, text_tokens),
        tokens=tokens + text_tokens,
        seconds=store.seconds_before,
        objective="reward less KL penalty (PPO)",
        customisation=f"{settings.method}, with a value model beside",
    )
    return steps, axis


def _within_limits(learner: Learner, held_out: HeldOut, start: Examined, updates: int) -> Examined:
    """Measure the last policy; when the last update took it past a limit, take the one before it instead."""
    last = held_out.examine(learner.policy, learner.kept_updates if learner.stopped else updates)
    if learner.stopped or not learner.good:
        return last
    seen = {"kl": last.point.kl, "length": last.point.length, "reward": last.point.reward}
    stop = limits.passed(learner.settings, first_length=start.point.length, **seen)
    if stop is None:
        return last
    learner.go_back(stop, updates - 1, seen)
    return held_out.examine(learner.policy, updates - 1)


def _take(chosen: Examined, learner: Learner, store: Checkpoints, *, last: Examined) -> None:
    """Give the policy the weights of the chosen one."""
    if chosen is not last:
        training.load_weights(learner.policy, store.pinned(chosen.updates).tensors)


if __name__ == "__main__":
    stage.run("ppo", main, report=Artifact.PPO_REPORT)

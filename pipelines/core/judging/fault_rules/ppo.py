"""Rules about policy optimisation."""

from pipelines.core.judging.diagnosis import Evidence, Finding, Level
from pipelines.core.judging.fault_rules.levels import column, upper

CLIP, CLIP_LARGE = 0.2, 0.3
"""Share of tokens whose ratio left the clipping range in one iteration; useful runs stay near 0.1 or below."""
HALF, LENGTH_DRIFT = 0.5, 0.3


def penalty_is_on(seen: Evidence) -> Finding | None:
    """Nothing else keeps the policy where the learned reward was fitted (Gao et al. 2022, arXiv:2210.10760)."""
    weights, kl = column(seen, "kl_coefficient"), column(seen, "kl")
    if not (weights and kl) or seen.reward_model_weight is None:
        return None
    off = max(weights) == 0 and seen.reward_model_weight > 0
    return Finding(
        level="at fault" if off else "sound",
        words=f"The weight of the KL penalty was {weights[-1]:.3g} in the last rollout, at {kl[-1]:.2f} nats (at fault"
        " at 0 with a learned reward: nothing holds the policy where the reward model was trained).",
        remedy="Set ppo.kl_coefficient above 0, for instance 0.05.",
    )


def steps_are_small(seen: Evidence) -> Finding | None:
    """Updates that leave the clipping range are too large."""
    shares = column(seen, "clip_share")
    if not shares:
        return None
    return Finding(
        level=upper(max(shares), CLIP, CLIP_LARGE),
        words=f"At most {max(shares):.1%} of an iteration's tokens left the clipping range (suspect above {CLIP:.0%},"
        f" at fault above {CLIP_LARGE:.0%}).",
        remedy="Lower ppo.learning_rate or ppo.epochs.",
    )


def divergence_is_one(seen: Evidence) -> Finding | None:
    """The estimator k3 is never negative, and the first rollout is the reference's."""
    kl = column(seen, "kl")
    if not kl:
        return None
    right = min(kl) >= 0 and kl[0] <= 0.01
    return Finding(
        level="sound" if right else "at fault",
        words=f"KL begins at {kl[0]:.3g} nats a response, and is {min(kl):.3g} at least (at fault below 0, or when the"
        " first is above 0.01: then policy and reference do not begin as one).",
        remedy="Policy and reference must be the same model in the same precision; estimate KL by k3.",
    )


def no_limit_was_passed(seen: Evidence) -> Finding | None:
    """PPO that stopped by itself."""
    report = seen.reports.get("ppo", {})
    if "stopped_early" not in report:
        return None
    stopped = report.get("stopped") or ("a limit" if report["stopped_early"] else None)
    return Finding(
        level="at fault" if stopped else "sound",
        words=f"It stopped by itself after {report.get('iterations')} iterations: {stopped}."
        if stopped
        else f"It passed no limit in {report.get('iterations')} iterations.",
        remedy="docs/alignment.md, When it stops: lower ppo.learning_rate, raise ppo.kl_coefficient.",
        own=False,
    )


def reward_rises(seen: Evidence) -> Finding | None:
    """On held-out prompts."""
    low, high = (seen.number("ppo", name) for name in ("reward_gain_low", "reward_gain_high"))
    if low is None or high is None:
        return None
    return Finding(
        level="at fault" if high < 0 else "suspect" if low <= 0 else "sound",
        words=f"Reward on held-out prompts changed by {low:+.3f} to {high:+.3f} (suspect when that holds 0, at"
        " fault below).",
        remedy="Raise ppo.iterations or ppo.learning_rate; lower ppo.kl_coefficient.",
        own=False,
    )


def gold_does_not_fall(seen: Evidence) -> Finding | None:
    """Over-optimisation: the reward rises, what it stands for falls."""
    high, low = (seen.number("ppo", name) for name in ("gold_gain_high", "gold_gain_low"))
    if high is None or low is None:
        return None
    return Finding(
        level="at fault" if high < 0 else "sound",
        words=f"The gold score changed by {low:+.3f} to {high:+.3f} (at fault below 0: the reward is hacked).",
        remedy="Raise ppo.kl_coefficient, or stop earlier: ppo.iterations, ppo.kl_limit.",
        own=False,
    )


def responses_keep_their_shape(seen: Evidence) -> Finding | None:
    """Length and variety."""
    before, after, distinct = (
        seen.number("ppo", name) for name in ("mean_length_before", "mean_length_after", "distinct_after")
    )
    if not before or after is None or distinct is None:
        return None
    drift = after / before - 1
    level: Level = "suspect" if abs(drift) > LENGTH_DRIFT else "sound"
    if distinct < HALF or after < HALF * before or after > before / HALF:
        level = "at fault"
    return Finding(
        level=level,
        words=f"Responses changed in length by {drift:+.0%}, and {distinct:.0%} of them differ from all others (suspect"
        f" beyond {LENGTH_DRIFT:.0%}, at fault at half or double the length, or below {HALF:.0%}).",
        remedy="See what the reward likes (similar_length_accuracy); raise ppo.kl_coefficient.",
        own=False,
    )

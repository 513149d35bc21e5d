"""Rules about the reward model."""

from pipelines.core.judging.diagnosis import Evidence, Finding
from pipelines.core.judging.fault_rules.data import labels_mean_something
from pipelines.core.judging.fault_rules.levels import lower, upper

OTHER_FOLDER = 0.02
"""The same weights on the same pairs give the same accuracy but for ties and rounding."""
CHANCE, FLOOR = 0.5, 0.55


def head_is_there(seen: Evidence) -> Finding | None:
    """Without its weights a fresh random head is used by most libraries, silently."""
    spread = seen.number("probe:reward", "head_spread")
    if spread is None:
        return None
    return Finding(
        level="sound" if spread > 0 else "at fault",
        words="The folder holds the weights of the reward head."
        if spread > 0
        else "The folder lacks the weights of the reward head, or they are all the same.",
        remedy="Run from reward_modeling; keep `score.weight` when the folder is converted or copied.",
    )


def folder_is_what_was_measured(seen: Evidence) -> Finding | None:
    """The accuracy of the saved folder, as PPO loads it, beside the one measured after training."""
    again, told = seen.number("probe:reward", "accuracy"), seen.number("reward_modeling", "held_out_accuracy")
    if again is None or told is None:
        return None
    return Finding(
        level="sound" if abs(again - told) <= OTHER_FOLDER else "at fault",
        words=f"Loaded as PPO loads it, the folder orders {again:.1%} of the held-out pairs, its report says {told:.1%}"
        f" (at fault when they differ by more than {OTHER_FOLDER:.0%}).",
        remedy="models/reward is not what was trained, or the pairs have changed since: run from reward_modeling.",
    )


def pairs_were_learnt(seen: Evidence) -> Finding | None:
    """Held-out accuracy above chance; where nothing is known of the labels, they may as well be to blame."""
    low = seen.number("reward_modeling", "held_out_accuracy_low")
    if low is None:
        return None
    level = lower(low, FLOOR, CHANCE)
    return Finding(
        level="suspect" if level == "at fault" and labels_mean_something(seen) is None else level,
        words=f"Accuracy on held-out pairs: {low:.1%} at the lower end of its interval (suspect below {FLOOR:.0%}, at"
        f" fault below {CHANCE:.0%}, which is chance).",
        remedy="Gather more pairs (feedback.num_prompts), or train longer (reward_modeling.epochs).",
        own=False,
    )


def pairs_were_not_memorised(seen: Evidence) -> Finding | None:
    """Training accuracy beside held-out accuracy."""
    train, high = (seen.number("reward_modeling", name) for name in ("train_accuracy", "held_out_accuracy_high"))
    if train is None or high is None:
        return None
    return Finding(
        level=upper(train - high, 0.1, 0.25),
        words=f"Accuracy on training pairs is {train:.1%}, on held-out ones at most {high:.1%} (suspect 10 points"
        " above, at fault 25).",
        remedy="Lower reward_modeling.epochs, or gather more pairs.",
        own=False,
    )


def reward_is_more_than_length(seen: Evidence) -> Finding | None:
    """Correlation of reward with length, beside that of the labels with length."""
    reward, label = (seen.number("probe:reward", name) for name in ("reward_length", "label_length"))
    if reward is None or label is None:
        return None
    return Finding(
        level=upper(abs(reward), 0.6, 0.9),
        words=f"Margins of reward correlate with differences of length by {reward:+.2f}, labels by {label:+.2f}"
        " (suspect above 0.6, at fault above 0.9).",
        remedy="Look at shorter_chosen_accuracy; add pairs in which the shorter response was chosen.",
        own=False,
    )

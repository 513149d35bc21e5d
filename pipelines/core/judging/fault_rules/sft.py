"""Rules about supervised fine-tuning."""

from pipelines.core.judging.diagnosis import Evidence, Finding
from pipelines.core.judging.fault_rules.levels import upper

FORGETTING, FORGOTTEN = 0.15, 0.5
"""The first is what the promotion gate allows by default."""
MASK = 0.99
CHEAPER = 1.02
"""A model of few steps hardly minds a token more; one in a strange template pays far more than this."""


def loss_is_on_answers(seen: Evidence) -> Finding | None:
    """Trained on the prompt, or not on the whole answer."""
    inside, covered = (seen.number("finetuning", name) for name in ("loss_in_answers", "answers_in_loss"))
    if inside is None or covered is None:
        return None
    return Finding(
        level="sound" if min(inside, covered) >= MASK else "at fault",
        words=f"{inside:.1%} of the loss tokens are the assistant's, and {covered:.1%} of the assistant's tokens are in"
        f" the loss (at fault below {MASK:.0%}).",
        remedy="Correct the labels of fine-tuning: the loss belongs on answers with their end token, and on no prompt.",
    )


def own_template_is_best(seen: Evidence) -> Finding | None:
    """A model likes held-out answers best in the template that it was trained with."""
    own, other = (seen.number("probe:template", name) for name in ("own_nats", "best_other_nats"))
    if own is None or other is None:
        return None
    name = seen.probes["template"].get("best_other", "another")
    return Finding(
        level=upper(own / other, 1.0, CHEAPER),
        words=f"Held-out answers cost {own:.3f} nats a token in the model's own chat template and {other:.3f} in the"
        f" best of the changed ones ({name}); suspect when a changed one is cheaper, at"
        f" fault when by over {CHEAPER - 1:.0%}.",
        remedy="The template in models/sft is not the one it was trained with: restore it, or run from finetuning.",
    )


def answers_were_learnt(seen: Evidence) -> Finding | None:
    """The instruction model gives held-out answers more likelihood than the base model does."""
    before, after = (seen.number("probe:template", name) for name in ("base_nats", "own_nats"))
    if before is None or after is None:
        return None
    return Finding(
        level="sound" if after < before else "at fault",
        words=f"Held-out answers cost {after:.3f} nats a token, {before:.3f} before fine-tuning (at fault unless"
        " fewer).",
        remedy="Look at the curve of finetuning; lower finetuning.learning_rate, or raise finetuning.epochs.",
        own=False,
    )


def text_is_not_forgotten(seen: Evidence) -> Finding | None:
    """Bits per byte of pretraining text."""
    share = seen.number("finetuning", "forgetting")
    if share is None:
        return None
    return Finding(
        level=upper(share, FORGETTING, FORGOTTEN),
        words=f"Pretraining text costs {share:+.1%} bits per byte after fine-tuning (suspect above"
        f" {FORGETTING:.0%}, at fault above {FORGOTTEN:.0%}).",
        remedy="Raise finetuning.replay_share, or lower finetuning.learning_rate.",
        own=False,
    )

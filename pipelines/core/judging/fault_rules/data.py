"""Rules about preference labels and the template they come to training in."""

from pipelines.core.judging.diagnosis import Evidence, Finding, Stage
from pipelines.core.judging.fault_rules.levels import lower, upper

FROM_PREFERENCES: tuple[Stage, ...] = ("reward model", "ppo")
FEWEST_PAIRS = 30
"""With fewer a share is chance."""
LABELS, RANDOM_LABELS = 0.65, 0.55
"""Agreement of labels: 0.5 is chance; people who compare answers agree in 0.73 (Ouyang et al. 2022, 2203.02155)."""
LENGTH, LENGTH_ALONE = 0.75, 0.9
"""Share of the pairs that one direction of length explains; in real debates it is 0.74."""


def labels_against_gold(seen: Evidence) -> Finding | None:
    """Labels that do not follow the gold order follow something else, or nothing."""
    share, pairs = seen.number("probe:pairs", "gold_agreement"), seen.number("probe:pairs", "num_gold")
    if share is None or pairs is None or pairs < FEWEST_PAIRS:
        return None
    return Finding(
        level=lower(share, LABELS, RANDOM_LABELS),
        words=f"The labels follow the gold order in {share:.1%} of {pairs:,.0f} pairs (suspect below {LABELS:.0%}, at"
        f" fault below {RANDOM_LABELS:.0%}; 50 % is chance).",
        remedy="Check how data/preferences came to be: columns exchanged, rows shuffled, another task's labels.",
        spoils=FROM_PREFERENCES,
    )


def annotators_agree(seen: Evidence) -> Finding | None:
    """Two people who label the same pair at random agree in half of the cases."""
    share, pairs = seen.number("probe:pairs", "annotator_agreement"), seen.number("probe:pairs", "num_shared")
    if share is None or pairs is None or pairs < FEWEST_PAIRS:
        return None
    return Finding(
        level=lower(share, LABELS, RANDOM_LABELS),
        words=f"Two annotators of one pair agree in {share:.1%} of {pairs:,.0f} pairs (suspect below {LABELS:.0%}, at"
        f" fault below {RANDOM_LABELS:.0%}; 50 % is chance).",
        remedy="Have pairs labelled again with data/feedback/INSTRUCTIONS.md; look for shuffled rows.",
        spoils=FROM_PREFERENCES,
    )


def labels_mean_something(seen: Evidence) -> Finding | None:
    """Either of the two; without both nobody can say whether labels are more than noise."""
    return labels_against_gold(seen) or annotators_agree(seen)


def labels_against_length(seen: Evidence) -> Finding | None:
    """Labels that length alone explains teach length."""
    share, pairs = seen.number("probe:pairs", "longer_chosen"), seen.number("probe:pairs", "num_pairs")
    if share is None or pairs is None or pairs < FEWEST_PAIRS:
        return None
    explained = max(share, 1 - share)
    return Finding(
        level=upper(explained, LENGTH, LENGTH_ALONE),
        words=f"The longer response is the chosen one in {share:.1%} of {pairs:,.0f} pairs (suspect outside"
        f" {1 - LENGTH:.0%} to {LENGTH:.0%}, at fault outside {1 - LENGTH_ALONE:.0%} to {LENGTH_ALONE:.0%}).",
        remedy="Label for content: pairs of similar length, and instructions that say that longer is not better.",
        spoils=FROM_PREFERENCES,
    )


def mask_audit(seen: Evidence) -> Finding | None:
    """The template's loss mask, checked when the tokenizer was made."""
    errors = seen.number("tokenization", "mask_audit_errors")
    if errors is None:
        return None
    return Finding(
        level="at fault" if errors else "sound",
        words=f"{errors:,.0f} audited conversations have a wrong loss mask (at fault above 0).",
        remedy="Correct the generation markers of the chat template, and run from tokenization.",
    )

"""The rule about the evaluation itself."""

from pipelines.core.judging.diagnosis import Evidence, Finding

RETOLD = 0.05
"""The same questions, greedily answered by the same weights: only rounding may change an answer."""


def answers_are_told_as_given(seen: Evidence) -> Finding | None:
    """The same model, asked again about the same held-out records, must score what the evaluation says."""
    told, again = seen.number("evaluation", "sft_exact_match"), seen.number("probe:answers", "exact_match")
    if told is None or again is None:
        return None
    return Finding(
        level="sound" if abs(told - again) <= RETOLD else "at fault",
        words=f"Evaluation says that the instruction model answers {told:.1%} exactly; asked again in its own template"
        f" it answers {again:.1%} (at fault when they differ by more than {RETOLD:.0%}).",
        remedy="Compare the prompts of evaluation with the chat template of models/sft, and the end token.",
        own=False,
    )

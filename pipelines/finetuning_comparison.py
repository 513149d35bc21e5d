"""Measure a fine-tuned model on held-out test data: one method of `moteur compare finetuning`."""

from dataclasses import dataclass
from typing import Any

from pipelines import stage
from pipelines.adapters import datasets, device, metrics, models
from pipelines.adapters.tokens import TokenStore
from pipelines.adapters.tracking import Tracker
from pipelines.artifacts import Artifact, State
from pipelines.core.judging import examination
from pipelines.core.judging.examination import Examiner
from pipelines.core.judging.forgetting import forgetting
from pipelines.core.judging.likelihood import bits_per_byte
from pipelines.errors import DataError
from pipelines.params import Params


@dataclass(frozen=True, kw_only=True)
class MethodReport:
    """Figures on the split test; answers are greedy, single turn."""

    exact_match: float | None
    """Over the records of short-answer tasks; None without such tasks."""
    exact_match_low: float | None
    """Ends of the 95 % interval; questions about one story are drawn together."""
    exact_match_high: float | None
    exact_match_story_removed: float | None
    """The questions that have a context, asked without it; None without any."""
    rouge_l: float | None
    """Over the records of the other tasks; None without any."""
    rouge_l_low: float | None
    rouge_l_high: float | None
    by_task: dict[str, dict[str, dict[str, Any]]]
    """Task -> exact_match or rouge_l, and token_f1 -> mean, ends of the 95 % interval (low, high), records (count)."""
    forgetting: float
    """Relative change of bits per byte on held-out pretraining text."""
    num_records: int


def main(params: Params, tracker: Tracker) -> MethodReport:
    """Ask and score; nothing is trained."""
    settings, target, precision = (
        params.finetuning,
        device.prepare(params.seed, params.threads),
        device.precision("auto"),
    )
    tokenizer = models.load_tokenizer(Artifact.SFT.path)
    model = models.load_causal(Artifact.SFT.path).to(target)
    records = list(datasets.records(Artifact.VALIDATED.path, "instructions", "test"))
    room = model.config.max_position_embeddings - settings.max_new_tokens
    every = examination.questions(tokenizer, records, room)
    asked = every.some(max(1, settings.evaluation_records // max(1, len({record["task"] for record in every.every}))))
    if not asked.every:
        raise DataError(f"{Artifact.VALIDATED} has no test instruction that fits: give ingestion.instructions.test.")
    count = len(asked.every) + len(asked.with_context)
    with tracker.progress("answering test instructions", count, "answers") as bar:
        examiner = Examiner(
            tokenizer=tokenizer,
            score=metrics.score,
            max_new_tokens=settings.max_new_tokens,
            seed=params.seed,
            advance=bar.advance,
        )
        said = examiner.answers(model, asked.every)
        bare = examination.story_removed(examiner, model, asked)
    exact = examiner.measured("exact_match", asked.short, said) if asked.short else {}
    overlap = examiner.measured("rouge_l", asked.long, said) if asked.long else {}
    text, context = TokenStore.open(Artifact.TOKENS.path).split("test"), params.pretraining.context
    base = models.load_causal(Artifact.BASE.path).to(target)
    before, after = (bits_per_byte(one, text, text.num_bytes, context, precision=precision) for one in (base, model))
    return MethodReport(
        exact_match=exact.get("mean"),
        exact_match_low=exact.get("low"),
        exact_match_high=exact.get("high"),
        exact_match_story_removed=bare["mean"] if bare else None,
        rouge_l=overlap.get("mean"),
        rouge_l_low=overlap.get("low"),
        rouge_l_high=overlap.get("high"),
        by_task=examiner.by_task(asked, said),
        forgetting=forgetting(before, after),
        num_records=len(asked.every),
    )


if __name__ == "__main__":
    stage.run("finetuning_comparison", main, report=State.MEASURED)

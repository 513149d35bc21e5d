"""What a release says about itself: headline figures and the model card."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Report = Mapping[str, Any]

HEADLINES: Mapping[str, Mapping[str, str]] = {
    "ingestion": {"num_bytes": "Bytes read", "num_quarantined": "Lines that could not be read"},
    "data_validation": {
        "num_documents": "Records checked",
        "num_rejected": "Records rejected",
        "expectations_met": "Expectations met",
        "expectations_total": "Expectations in all",
    },
    "tokenization": {"vocab_size": "Vocabulary", "bytes_per_token": "Bytes a token"},
    "pretraining": {
        "num_parameters": "Parameters before compression",
        "num_tokens": "Training tokens",
        "tokens_per_parameter": "Tokens a parameter",
        "training_flops": "Training FLOPs",
        "val_bits_per_byte": "Bits per byte, base model",
    },
    "finetuning": {
        "exact_match": "Exact match",
        "exact_match_story_removed": "Exact match with the context removed",
        "rouge_l": "ROUGE-L",
        "forgetting": "Forgetting",
    },
    "feedback": {
        "num_rankings": "Rankings",
        "num_pairs": "Preference pairs",
        "annotator_agreement": "Agreement of annotators",
        "best_reachable_accuracy": "Best reachable accuracy",
    },
    "reward_modeling": {
        "held_out_accuracy": "Accuracy of the reward model",
        "held_out_accuracy_low": "Lower end of its 95 % interval",
        "held_out_accuracy_high": "Upper end",
        "expected_calibration_error": "Expected calibration error",
    },
    "ppo": {
        "reward_before": "Reward before",
        "reward_after": "Reward after",
        "gold_before": "Gold score before",
        "gold_after": "Gold score after",
        "kl": "KL from the instruction model, nats a response",
    },
    "evaluation": {
        "policy_exact_match": "Exact match of the policy",
        "policy_exact_match_low": "Lower end of its 95 % interval",
        "policy_exact_match_high": "Upper end",
        "policy_exact_match_story_removed": "Exact match with the context removed",
        "policy_rouge_l": "ROUGE-L of the policy",
        "policy_bits_per_byte": "Bits per byte of the policy",
        "policy_forgetting": "Forgetting of the policy",
    },
    "compression": {
        "chosen": "Chosen",
        "rule_met": "The rule was met",
        "bytes": "Bytes of the weights",
        "bytes_ratio": "Beside float32",
        "test_bits_per_byte": "Bits per byte",
        "test_bits_per_byte_increase": "Increase over float32",
        "test_task_score": "Task score",
        "test_task_score_float32": "Task score of float32",
    },
}
"""Stage -> field of its report -> what a reader calls it, in the order of the pipeline."""

WHERE_ASKED = {"exact_match_story_removed", "policy_exact_match_story_removed"}
"""Fields that are None where no question has a context to remove: then the card has no row of them."""

TRAINING = ("tokenization", "pretraining", "finetuning", "feedback", "reward_modeling", "ppo")
"""Stages of the section on training."""


@dataclass(frozen=True, kw_only=True)
class About:
    """What no report knows."""

    name: str
    licence: str
    intended_use: str
    weights_format: str


def headlines(reports: Mapping[str, Report]) -> dict[str, dict[str, Any]]:
    """The headline figures by stage; a figure that a report does not have is None."""
    return {
        stage: {field: reports.get(stage, {}).get(field) for field in fields} for stage, fields in HEADLINES.items()
    }


def scalars(report: Report) -> dict[str, Any]:
    """The fields of a report that are a single value."""
    return {name: value for name, value in report.items() if value is None or isinstance(value, str | int | float)}


def written(value: Any) -> str:
    """A value as a reader sees it."""
    if value is None:
        return "not available"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or (isinstance(value, float) and value >= 1000 and value.is_integer() and value < 1e15):
        return f"{value:,.0f}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def model_card(about: About, reports: Mapping[str, Report]) -> str:
    """The model card in Markdown, after Mitchell et al. 2019 (arXiv:1810.03993); it depends on nothing else."""
    sections = [
        _front_matter(about),
        f"# {about.name}",
        f"A causal language model, weights in {about.weights_format}. Every figure below is from the run that made it.",
        _section("Intended use", [about.intended_use]),
        _section("Not to be used", [NOT_TO_BE_USED]),
        _section("Data", _data(reports.get("ingestion", {}), reports.get("data_validation", {}))),
        _section("Training", [_table(TRAINING, reports)]),
        _section("Evaluation", [EVALUATED, _table(["evaluation"], reports)]),
        _section("Compression", _compression(reports.get("compression", {}), reports)),
        _section("Limits", _limits(reports)),
        _section("How to load it", [LOADING]),
        _section("Licence", [about.licence]),
    ]
    return "\n\n".join(sections) + "\n"


NOT_TO_BE_USED = (
    "For decisions about people, for advice on health, law, money or safety, as a source of facts, or where nobody"
    " reads what it writes before it has an effect. It has not been tested for any of these."
)

EVALUATED = (
    "Held-out data (split test), greedy answers. Bits per byte are comparable between tokenizers; exact match ignores"
    " case, articles and punctuation."
)

LOADING = (
    "`manifest.json` holds size and sha256 of every file: check them with"
    " `python -m pipelines.adapters.release verify FOLDER`. Load with `pipelines.adapters.release.load(Path(FOLDER))`,"
    " or with `AutoModelForCausalLM.from_pretrained(FOLDER)` (eight-bit weights need the package compressed-tensors);"
    " `python -m pipelines.adapters.release export FOLDER TARGET` writes plain bfloat16 weights for any other loader."
)


def _front_matter(about: About) -> str:
    return f"---\nlicense: {about.licence.lower()}\npipeline_tag: text-generation\nlibrary_name: transformers\n---"


def _section(title: str, paragraphs: Iterable[str]) -> str:
    return "\n\n".join([f"## {title}", *paragraphs])


def _rows(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
    )


def _table(stages: Sequence[str], reports: Mapping[str, Report]) -> str:
    figures = headlines(reports)
    return _rows(
        ["stage", "figure", "value"],
        (
            [stage, HEADLINES[stage][field], written(value)]
            for stage in stages
            for field, value in figures[stage].items()
            if value is not None or field not in WHERE_ASKED
        ),
    )


def _data(ingestion: Report, validation: Report) -> list[str]:
    reasons = {reason: count for reason, count in (validation.get("rejected_by_reason") or {}).items() if count}
    return [
        "Records by source, as read:",
        _rows(["source", "records"], ([name, written(n)] for name, n in (ingestion.get("sources") or {}).items())),
        f"Of {written(validation.get('num_documents'))} records {written(validation.get('num_rejected'))} were rejected"
        + (
            ": " + ", ".join(f"{reason} {written(count)}" for reason, count in sorted(reasons.items()))
            if reasons
            else ""
        )
        + f". {written(validation.get('expectations_met'))} of {written(validation.get('expectations_total'))}"
        " expectations about the accepted ones were met. `reference_profile.json` describes them.",
    ]


def _compression(report: Report, reports: Mapping[str, Report]) -> list[str]:
    rows = [
        [
            candidate["name"] + (" (chosen)" if candidate["name"] == report.get("chosen") else ""),
            *(written(candidate[field]) for field in ("bytes", "bits_per_byte", "task_score", "same_answers")),
        ]
        for candidate in report.get("candidates", [])
    ]
    return [
        "Candidates on the split valid:",
        _rows(["candidate", "bytes", "bits per byte", "task score", "answers as float32"], rows),
        *report.get("not_made", []),
        "The chosen one on the split test, which took no part in the choice:",
        _table(["compression"], reports),
    ]


def _limits(reports: Mapping[str, Report]) -> list[str]:
    figures = headlines(reports)
    known = [
        "It knows only what is in the data above: it is no general assistant, and it invents facts, names and events.",
        "Preferences come from the rankings of the stage feedback; it shares their taste and their errors.",
        "Longer contexts, other languages and other subjects than those of the data were not measured.",
    ]
    accuracy = figures["reward_modeling"]["held_out_accuracy"]
    if accuracy is not None:
        known.append(
            f"The reward model that steered it orders held-out pairs rightly with a share of {written(accuracy)}."
        )
    guessed = figures["evaluation"]["policy_exact_match_story_removed"]
    if guessed is not None:
        known.append(f"With the context removed it still scores {written(guessed)} exact match: that much is guessing.")
    if figures["compression"]["rule_met"] is False:
        known.append("No compressed candidate met the rule on size and quality; a more faithful, larger one was taken.")
    return ["\n".join(f"- {sentence}" for sentence in known)]

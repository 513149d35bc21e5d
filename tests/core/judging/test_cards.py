"""What a release says about itself."""

import dataclasses
import importlib

import pytest

from pipelines.core.judging import cards

ABOUT = cards.About(name="tales", licence="Apache-2.0", intended_use="Stories.", weights_format="int8")

CANDIDATE = {"bytes": 3_463_704, "bits_per_byte": 0.5, "task_score": 0.25, "same_answers": 1.0}

REPORTS = {
    "ingestion": {"sources": {"corpus.train tales://?a|b": 1200}, "num_bytes": 5},
    "data_validation": {
        "num_documents": 1250,
        "num_rejected": 3,
        "rejected_by_reason": {"too_short": 2, "empty": 1, "personal_data": 0},
        "expectations_met": 6,
        "expectations_total": 6,
    },
    "reward_modeling": {"held_out_accuracy": 0.8125},
    "feedback": {"annotator_agreement": None},
    "evaluation": {"policy_exact_match": 0.7654321},
    "compression": {
        "chosen": "int8",
        "rule_met": True,
        "candidates": [{"name": "float32", **CANDIDATE}, {"name": "int8", **CANDIDATE, "bytes": 897_488}],
    },
}


@pytest.mark.parametrize("stage", sorted(cards.HEADLINES))
def test_every_headline_is_a_field_of_the_report_of_its_stage(stage):
    module = importlib.import_module(f"pipelines.{stage}")
    report = getattr(module, "".join(part.capitalize() for part in stage.split("_")) + "Report")
    assert set(cards.HEADLINES[stage]) <= {field.name for field in dataclasses.fields(report)}


def test_the_card_holds_the_lineage_the_figures_and_the_choice():
    card = cards.model_card(ABOUT, REPORTS)
    assert "| corpus.train tales://?a\\|b | 1,200 |" in card
    assert "Of 1,250 records 3 were rejected: empty 1, too_short 2. 6 of 6 expectations" in card
    assert "| evaluation | Exact match of the policy | 0.7654 |" in card
    assert "| int8 (chosen) | 897,488 | 0.5 | 0.25 | 1 |" in card
    assert card.startswith("---\nlicense: apache-2.0\n")


def test_a_figure_that_is_missing_is_said_to_be_missing():
    assert "| feedback | Agreement of annotators | not available |" in cards.model_card(ABOUT, REPORTS)
    assert cards.headlines({})["ppo"]["kl"] is None


def test_where_no_question_has_a_context_the_card_is_silent_on_what_is_guessed_without_it():
    asked = {**REPORTS, "evaluation": {"policy_exact_match_story_removed": 0.25}}
    card = cards.model_card(ABOUT, asked)
    assert "| evaluation | Exact match with the context removed | 0.25 |" in card
    assert "With the context removed it still scores 0.25 exact match" in card
    assert "context removed" not in cards.model_card(ABOUT, REPORTS)


def test_a_candidate_that_was_not_made_is_named_with_the_reason():
    sentence = "int8 linear: the model has no linear layer."
    without = {**REPORTS, "compression": {**REPORTS["compression"], "not_made": [sentence]}}
    assert f"\n\n{sentence}\n\n" in cards.model_card(ABOUT, without)


def test_a_rule_that_was_not_met_is_a_limit():
    unmet = {**REPORTS, "compression": {**REPORTS["compression"], "rule_met": False}}
    sentence = "No compressed candidate met the rule"
    assert sentence in cards.model_card(ABOUT, unmet)
    assert sentence not in cards.model_card(ABOUT, REPORTS)


def test_every_line_of_a_table_has_as_many_cells_as_its_header():
    lines = [line.replace("\\|", "") for line in cards.model_card(ABOUT, REPORTS).splitlines() if line.startswith("|")]
    widths = [line.count("|") for line in lines]
    header = 0
    for line, width in zip(lines, widths, strict=True):
        if set(line) <= set("| -"):
            assert width == header
        header = width


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "not available"),
        (True, "yes"),
        (1234567, "1,234,567"),
        (0.123456, "0.1235"),
        (2.5e13, "25,000,000,000,000"),
        (1234.5, "1234"),
        ("x", "x"),
        (float("nan"), "nan"),
    ],
)
def test_values_are_written_for_a_reader(value, text):
    assert cards.written(value) == text


def test_only_single_values_are_scalars():
    assert cards.scalars({"a": 1, "b": None, "c": [1], "d": {"e": 1}, "f": True}) == {"a": 1, "b": None, "f": True}

"""Who is at fault, from hand-made figures."""

import dataclasses
from typing import Any

import pytest

from pipelines.core.judging import fault_rules
from pipelines.core.judging.diagnosis import STAGES, Evidence, Verdict, diagnose

REPORTS: dict[str, dict[str, Any]] = {
    "tokenization": {"mask_audit_errors": 0},
    "finetuning": {"loss_in_answers": 1.0, "answers_in_loss": 1.0, "forgetting": 0.04},
    "reward_modeling": {
        "held_out_accuracy": 0.73,
        "held_out_accuracy_low": 0.70,
        "held_out_accuracy_high": 0.76,
        "train_accuracy": 0.81,
    },
    "ppo": {
        "stopped_early": False,
        "stopped": None,
        "iterations": 12,
        "reward_gain_low": 0.8,
        "reward_gain_high": 1.2,
        "gold_gain_low": 0.03,
        "gold_gain_high": 0.08,
        "mean_length_before": 57.0,
        "mean_length_after": 58.0,
        "distinct_after": 1.0,
    },
    "evaluation": {"sft_exact_match": 0.7},
}
PROBES: dict[str, dict[str, Any]] = {
    "pairs": {
        "num_pairs": 3000,
        "longer_chosen": 0.47,
        "num_gold": 3000,
        "gold_agreement": 0.86,
        "num_shared": 400,
        "annotator_agreement": 0.8,
    },
    "template": {"own_nats": 0.7, "best_other": "plain text", "best_other_nats": 0.9, "base_nats": 2.8},
    "reward": {"head_spread": 0.08, "accuracy": 0.73, "reward_length": 0.0, "label_length": -0.1},
    "answers": {"exact_match": 0.7},
}
CURVE = [
    {"kl": 0.0, "clip_share": 0.03, "kl_coefficient": 0.05},
    {"kl": 0.5, "clip_share": 0.01, "kl_coefficient": 0.05},
]
HEALTHY = Evidence(reports=REPORTS, curve=CURVE, probes=PROBES, reward_model_weight=1.0)


def changed(source: str, **figures: Any) -> Evidence:
    """The healthy run with some figures changed; one that is None is taken out."""
    kind, _, probe = source.rpartition("probe:")
    tables = PROBES if kind == "" and source.startswith("probe:") else REPORTS
    name = probe if source.startswith("probe:") else source
    row = {key: value for key, value in {**tables[name], **figures}.items() if value is not None}
    whole = {**tables, name: row}
    if tables is PROBES:
        return dataclasses.replace(HEALTHY, probes=whole)
    return dataclasses.replace(HEALTHY, reports=whole)


def verdicts(evidence: Evidence) -> dict[str, Verdict]:
    found = diagnose(evidence, fault_rules.RULES, fault_rules.NEEDED)
    return {verdict.stage: verdict for verdict in found}


def states(evidence: Evidence) -> dict[str, str]:
    return {stage: verdict.state for stage, verdict in verdicts(evidence).items()}


def test_a_healthy_run_is_sound_everywhere_with_figures_as_evidence() -> None:
    found = verdicts(HEALTHY)
    assert {verdict.state for verdict in found.values()} == {"sound"}
    assert all(verdict.evidence and not verdict.remedies for verdict in found.values())
    assert "86.0%" in found["data"].evidence[0]


@pytest.mark.parametrize(
    ("source", "figures", "stage"),
    [
        ("probe:pairs", {"gold_agreement": 0.5}, "data"),
        ("probe:pairs", {"num_gold": 0, "annotator_agreement": 0.5}, "data"),
        ("probe:pairs", {"longer_chosen": 0.97}, "data"),
        ("probe:pairs", {"longer_chosen": 0.03}, "data"),
        ("tokenization", {"mask_audit_errors": 3}, "data"),
        ("finetuning", {"loss_in_answers": 0.4}, "sft"),
        ("finetuning", {"answers_in_loss": 0.9}, "sft"),
        ("probe:template", {"best_other_nats": 0.6}, "sft"),
        ("probe:template", {"base_nats": 0.6}, "sft"),
        ("finetuning", {"forgetting": 0.6}, "sft"),
        ("probe:reward", {"head_spread": 0.0}, "reward model"),
        ("probe:reward", {"accuracy": 0.51}, "reward model"),
        ("reward_modeling", {"held_out_accuracy_low": 0.48}, "reward model"),
        ("reward_modeling", {"train_accuracy": 1.05}, "reward model"),
        ("probe:reward", {"reward_length": -0.95}, "reward model"),
        ("ppo", {"stopped_early": True, "stopped": "kl"}, "ppo"),
        ("ppo", {"reward_gain_low": -1.0, "reward_gain_high": -0.1}, "ppo"),
        ("ppo", {"gold_gain_low": -0.1, "gold_gain_high": -0.01}, "ppo"),
        ("ppo", {"mean_length_after": 20.0}, "ppo"),
        ("ppo", {"distinct_after": 0.1}, "ppo"),
        ("evaluation", {"sft_exact_match": 0.0}, "evaluation"),
    ],
)
def test_each_rule_blames_its_stage_and_says_what_to_try(source: str, figures: dict[str, Any], stage: str) -> None:
    found = verdicts(changed(source, **figures))
    assert [name for name, verdict in found.items() if verdict.state == "at fault"] == [stage]
    assert found[stage].remedies


@pytest.mark.parametrize(
    "change",
    [{"kl_coefficient": 0.0}, {"clip_share": 0.4}, {"kl": -0.1}],
    ids=["no penalty", "large steps", "negative divergence"],
)
def test_the_curve_of_ppo_can_blame_it(change: dict[str, float]) -> None:
    curve = [{**row, **change} for row in CURVE]
    assert states(dataclasses.replace(HEALTHY, curve=curve))["ppo"] == "at fault"


def test_no_penalty_is_no_fault_where_only_functions_reward() -> None:
    curve = [{**row, "kl_coefficient": 0.0} for row in CURVE]
    assert states(dataclasses.replace(HEALTHY, curve=curve, reward_model_weight=0.0))["ppo"] == "sound"


@pytest.mark.parametrize("source", [*REPORTS, *(f"probe:{name}" for name in PROBES)])
def test_a_missing_report_or_probe_is_unknown_and_never_sound(source: str) -> None:
    stage = {
        "tokenization": "data",
        "finetuning": "sft",
        "reward_modeling": "reward model",
        "probe:pairs": "data",
        "probe:template": "sft",
        "probe:reward": "reward model",
        "probe:answers": "evaluation",
    }.get(source, source)
    table = PROBES[source[6:]] if source.startswith("probe:") else REPORTS[source]
    assert states(changed(source, **dict.fromkeys(table)))[stage] == "unknown"


def test_of_an_empty_workspace_nothing_is_known() -> None:
    assert states(Evidence()) == dict.fromkeys(STAGES, "unknown")


def test_a_reward_model_at_chance_follows_from_shuffled_labels() -> None:
    reports = {
        **REPORTS,
        "reward_modeling": {**REPORTS["reward_modeling"], "held_out_accuracy_low": 0.47},
        "ppo": {**REPORTS["ppo"], "gold_gain_low": -0.1, "gold_gain_high": -0.02},
    }
    shuffled = {**PROBES, "pairs": {**PROBES["pairs"], "gold_agreement": 0.5, "annotator_agreement": 0.5}}
    found = verdicts(dataclasses.replace(HEALTHY, reports=reports, probes=shuffled))
    assert (found["data"].state, found["sft"].state) == ("at fault", "sound")
    assert (found["reward model"].state, found["reward model"].follows_from) == ("follows", "data")
    assert (found["ppo"].state, found["ppo"].follows_from) == ("follows", "data")
    assert not found["ppo"].remedies


def test_an_own_fault_is_blamed_even_below_another() -> None:
    lost = changed("probe:reward", accuracy=0.5)
    curve = [{**row, "kl_coefficient": 0.0} for row in CURVE]
    found = states(dataclasses.replace(lost, curve=curve))
    assert (found["reward model"], found["ppo"]) == ("at fault", "at fault")


def test_at_chance_with_nothing_known_of_the_labels_nobody_is_blamed() -> None:
    unknown = changed("probe:pairs", num_gold=0, num_shared=0)
    reports = {**REPORTS, "reward_modeling": {**REPORTS["reward_modeling"], "held_out_accuracy_low": 0.45}}
    found = states(dataclasses.replace(unknown, reports=reports))
    assert (found["data"], found["reward model"]) == ("unknown", "suspect")


def test_a_probe_that_failed_counts_as_missing() -> None:
    failed = {**PROBES, "reward": {"error": "ArtifactError: torn"}}
    assert states(dataclasses.replace(HEALTHY, probes=failed))["reward model"] == "unknown"


@pytest.mark.parametrize("figure", ["kl", "clip_share"])
def test_a_curve_that_is_not_a_number_somewhere_is_not_sound(figure: str) -> None:
    broken = dataclasses.replace(HEALTHY, curve=[CURVE[0], {**CURVE[1], figure: float("nan")}, CURVE[1]])
    found = {verdict.stage: verdict for verdict in diagnose(broken, fault_rules.RULES, fault_rules.NEEDED)}
    assert found["ppo"].state == "at fault"


def test_a_figure_that_is_not_a_number_is_none() -> None:
    evidence = changed("reward_modeling", held_out_accuracy_low=float("nan"))
    assert evidence.number("reward_modeling", "held_out_accuracy_low") is None


def test_what_a_stage_did_itself_is_told_beside_what_it_inherited() -> None:
    evidence = changed("ppo", reward_gain_low=-0.2, reward_gain_high=-0.1)
    evidence = dataclasses.replace(
        evidence,
        curve=[CURVE[0], {**CURVE[1], "clip_share": 0.25}],
        probes={**PROBES, "reward": {**PROBES["reward"], "head_spread": 0.0}},
    )
    found = {verdict.stage: verdict for verdict in diagnose(evidence, fault_rules.RULES, fault_rules.NEEDED)}
    assert (found["ppo"].state, found["ppo"].follows_from) == ("follows", "reward model")
    assert any("clipping range" in sentence for sentence in found["ppo"].evidence)
    assert any("ppo.learning_rate" in remedy for remedy in found["ppo"].remedies)

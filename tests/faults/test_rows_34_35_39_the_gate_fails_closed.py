"""Rows 34, 35, 39: worse, undefined, missing, empty or shrunken is a fail with a reason; the first has only floors."""

import copy
import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines import params as schema
from pipelines.core.judging import gates
from pipelines.core.judging.gates import Candidate, Champion, Exam, Marks, Question, Service, Verdict
from tests.releases import FIGURES, ROOT

VALUES = yaml.safe_load((Path(ROOT) / "params.yaml").read_text(encoding="utf-8"))
PROMOTION = schema.parse(VALUES).promotion
OLD, NEW = "a" * 64, "b" * 64


def exam(questions: int = 300, documents: int = 300, tasks: tuple[str, ...] = ("mood", "recall")) -> Exam:
    asked = [Question(id=f"q{n}", task=tasks[n % len(tasks)], text=f"t{n // 2}") for n in range(questions)]
    return Exam(sha256="e" * 64, questions=asked, documents={f"d{n}": 100 for n in range(documents)})


def marks(digest: str, sat: Exam, *, score: float = 0.6, nats: float = 40.0, every: int = 10) -> Marks:
    """Of every ten questions the first ten times `score` are right; every document takes `nats`."""
    right = {question.id: float(n % every < score * every) for n, question in enumerate(sat.questions)}
    return Marks(manifest_sha256=digest, scores=right, nats=dict.fromkeys(sat.documents, nats))


SERVICE = Service(load_seconds=2, request_seconds=[0.2] * 20, peak_memory_mib=900, num_empty=0)


def candidate(sat: Exam, **changes: Any) -> Candidate:
    whole = Candidate(
        version=2,
        manifest_sha256=NEW,
        figures=FIGURES,
        marks=marks(NEW, sat),
        service=SERVICE,
    )
    return replace(whole, **changes)


def champion(sat: Exam, **changes: Any) -> Champion:
    whole = Champion(
        version=1,
        manifest_sha256=OLD,
        marks=marks(OLD, sat),
        exam_tasks=sat.tasks,
        exam_documents=len(sat.documents),
    )
    return replace(whole, **changes)


def judged(sat: Exam | None = None, *, beside: Champion | None = None, **changes: Any) -> Verdict:
    asked = sat or exam()
    return gates.judge(candidate(asked, **changes), beside or champion(asked), asked, PROMOTION, seed=7)


def figures(stage: str, name: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(FIGURES)
    if value is ...:
        del changed[stage][name]
    else:
        changed[stage][name] = value
    return changed


def failures(verdict: Verdict) -> dict[str, str]:
    assert verdict.passed == (not verdict.failed)
    return {rule.name: rule.words for rule in verdict.failed}


def test_an_equal_challenger_passes_and_every_rule_says_so():
    verdict = judged()
    assert verdict.passed
    assert (verdict.kind, verdict.champion, verdict.challenger) == ("comparison", 1, 2)
    assert verdict.words == f"Version 2 passed all {len(verdict.rules)} rules, beside champion 1."
    assert all(rule.words and rule.limit for rule in verdict.rules)


def test_row_34_worse_by_more_than_the_margin_fails():
    sat = exam()
    failed = failures(judged(sat, marks=marks(NEW, sat, score=0.5)))
    assert "task score -0.1000 beside the champion's 0.6000" in failed["task score beside the champion"]


def test_row_34_as_good_on_average_but_not_surely_so_fails():
    """The burden of proof is on the challenger: with few examples nothing is proved."""
    sat = exam(questions=200, tasks=("recall",))
    draw = random.Random(4)
    one, other = ([1.0] * 120 + [0.0] * 80 for _ in range(2))
    draw.shuffle(one)
    draw.shuffle(other)
    ids = [question.id for question in sat.questions]
    early = replace(marks(OLD, sat), scores=dict(zip(ids, one, strict=True)))
    late = replace(marks(NEW, sat), scores=dict(zip(ids, other, strict=True)))
    failed = failures(judged(sat, marks=late, beside=champion(sat, marks=early)))
    assert list(failed) == ["task score beside the champion"]


def test_row_34_better_on_average_but_one_task_lost_fails():
    sat = exam(tasks=("mood", "recall", "colour", "size"))
    scores = {q.id: 0.0 if q.task == "size" else 1.0 for q in sat.questions}
    failed = failures(judged(sat, marks=replace(marks(NEW, sat), scores=scores)))
    assert list(failed) == ["task size"]
    assert "a significant fall by more than 0.08" in failed["task size"]


def test_a_task_about_few_texts_counts_in_the_mean_only():
    sat = exam(tasks=("mood", "recall"))
    rare = [Question(id=f"rare {n}", task="rare", text=f"rare {n}") for n in range(3)]
    sat = replace(sat, questions=[*sat.questions, *rare])
    early, late = marks(OLD, sat, score=1.0), marks(NEW, sat, score=1.0)
    lost = replace(late, scores={**late.scores, **{question.id: 0.0 for question in rare}})
    verdict = judged(sat, marks=lost, beside=champion(sat, marks=early))
    assert verdict.passed
    (rule,) = [rule for rule in verdict.rules if rule.name == "task rare"]
    assert rule.words == "rare 0.0000, -1.0000 beside the champion over 3 examples, too few texts to be judged alone"


def test_row_34_forgetting_beside_the_champion_fails():
    sat = exam()
    failed = failures(judged(sat, marks=marks(NEW, sat, nats=41.5)))
    assert "bits per byte on held-out text +3.75% beside the champion" in failed["bits per byte beside the champion"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "0.7", True, ..., 10**400])
@pytest.mark.parametrize(
    ("stage", "name", "rule"),
    [
        ("evaluation", "policy_forgetting", "floor of evaluation.policy_forgetting"),
        ("reward_modeling", "held_out_accuracy_low", "reward model, accuracy"),
        ("reward_modeling", "length_baseline_accuracy", "reward model, more than length"),
        ("data_validation", "expectations_met", "data contract"),
    ],
)
def test_row_34_a_figure_that_is_missing_or_no_number_fails(value, stage, name, rule):
    failed = failures(judged(figures=figures(stage, name, value)))
    assert list(failed) == [rule]


@pytest.mark.parametrize("stage", list(FIGURES))
def test_row_34_a_report_that_is_missing_fails(stage):
    assert not judged(figures={name: values for name, values in FIGURES.items() if name != stage}).passed


@pytest.mark.parametrize("value", [math.nan, math.inf, None, ...])
@pytest.mark.parametrize("whose", ["challenger", "champion"])
@pytest.mark.parametrize("kind", ["scores", "nats"])
def test_row_34_one_example_without_a_number_fails(value, whose, kind):
    sat = exam()
    side = marks(NEW if whose == "challenger" else OLD, sat)
    values = dict(getattr(side, kind))
    first = next(iter(values))
    if value is ...:
        del values[first]
    else:
        values[first] = value
    torn = replace(side, **{kind: values})
    verdict = judged(sat, marks=torn) if whose == "challenger" else judged(sat, beside=champion(sat, marks=torn))
    assert any("no valid score for champion or challenger" in words for words in failures(verdict).values())


def test_row_34_an_empty_exam_fails():
    empty = exam(questions=0, documents=0)
    verdict = judged(empty, beside=champion(exam()))
    assert {"size of the exam", "documents of the exam", "task score beside the champion"} <= set(failures(verdict))
    assert not gates.judge(candidate(empty), None, empty, PROMOTION, seed=7).passed


def test_row_34_fewer_examples_than_the_champion_had_fail():
    before, now = exam(questions=300), exam(questions=260)
    failed = failures(judged(now, beside=champion(now, exam_tasks=before.tasks)))
    assert failed == {
        "instructions beside the champion's exam": "260 instructions in the exam, 300 in the one of champion 1"
    }


def test_row_34_fewer_documents_than_the_champion_had_fail():
    now = exam(documents=200)
    assert list(failures(judged(now, beside=champion(now, exam_documents=300)))) == [
        "documents beside the champion's exam"
    ]


def test_row_34_a_task_that_is_no_longer_asked_fails():
    now = exam(tasks=("mood",))
    failed = failures(judged(now, beside=champion(now, exam_tasks={"mood": 150, "recall": 150})))
    assert failed == {"tasks of the champion's exam": "the exam lacks the tasks recall"}


def test_row_34_a_champion_without_a_record_of_its_exam_fails_the_comparison():
    sat = exam()
    failed = failures(judged(sat, beside=champion(sat, exam_tasks={}, exam_documents=0)))
    assert "it left no record of it" in failed["instructions beside the champion's exam"]


@pytest.mark.parametrize("whose", ["challenger", "champion"])
def test_row_34_other_files_than_the_registered_ones_fail(whose):
    sat = exam()
    other = marks("c" * 64, sat)
    verdict = judged(sat, marks=other) if whose == "challenger" else judged(sat, beside=champion(sat, marks=other))
    assert list(failures(verdict)) == [f"{whose} is the registered one"]


@pytest.mark.parametrize(
    ("service", "rule"),
    [
        (None, "loads and answers"),
        (replace(SERVICE, num_empty=1), "answers"),
        (replace(SERVICE, request_seconds=[0.2] * 19 + [11.0]), "p99"),
        (replace(SERVICE, request_seconds=[]), "p99"),
        (replace(SERVICE, request_seconds=[math.nan] * 20), "p99"),
        (replace(SERVICE, load_seconds=61.0), "loading"),
        (replace(SERVICE, peak_memory_mib=math.nan), "memory"),
        (replace(SERVICE, peak_memory_mib=4097.0), "memory"),
    ],
)
def test_row_34_a_release_that_is_no_service_fails(service, rule):
    assert rule in failures(judged(service=service))


def test_row_34_a_reward_model_that_counts_words_fails():
    failed = failures(judged(figures=figures("reward_modeling", "length_baseline_accuracy", 0.8)))
    assert list(failed) == ["reward model, more than length"]


def test_row_35_without_a_champion_only_floors_hold_and_the_verdict_says_bootstrap():
    sat = exam()
    verdict = gates.judge(candidate(sat), None, sat, PROMOTION, seed=7)
    assert verdict.passed
    assert (verdict.kind, verdict.champion) == ("bootstrap", None)
    assert not [rule.name for rule in verdict.rules if "champion" in rule.name]
    poor = gates.judge(candidate(sat, marks=marks(NEW, sat, score=0.2)), None, sat, PROMOTION, seed=7)
    assert list(failures(poor)) == ["floor of exam.task_score"]


def test_row_39_expectations_that_were_not_met_block():
    failed = failures(judged(figures=figures("data_validation", "expectations_met", 5)))
    assert failed == {"data contract": "5 of 6 expectations about the data were met"}
    nothing = {**FIGURES, "data_validation": {"expectations_met": 0, "expectations_total": 0}}
    assert "data contract" in failures(judged(figures=nothing))


def test_row_39_contamination_can_be_a_floor():
    values = copy.deepcopy(VALUES)
    values["promotion"]["floors"] = [{"figure": "data_validation.num_contaminated", "at_most": 0}]
    sat, rules = exam(), schema.parse(values).promotion
    leaking = figures("data_validation", "num_contaminated", 3)
    verdict = gates.judge(candidate(sat, figures=leaking), None, sat, rules, seed=7)
    assert list(failures(verdict)) == ["floor of data_validation.num_contaminated"]


def test_faults_of_files_and_records_fail_in_their_own_words():
    failed = failures(judged(faults=["the exam of version 2 was changed"]))
    assert failed == {"files and records": "the exam of version 2 was changed"}


def test_the_document_holds_every_rule_and_its_own_hash():
    document = judged().document()
    again = json.loads(json.dumps(document, allow_nan=False))
    assert again["sha256"] == gates.digest(again)
    assert [rule["name"] for rule in again["rules"]] == [rule.name for rule in judged().rules]
    again["rules"][3]["passed"] = not again["rules"][3]["passed"]
    assert again["sha256"] != gates.digest(again)


def test_the_same_case_gives_the_same_verdict_to_the_byte():
    assert judged().document() == judged().document()


ANY = st.one_of(st.none(), st.booleans(), st.text(max_size=3), st.floats(), st.integers())


@given(
    st.dictionaries(st.sampled_from([f"q{n}" for n in range(300)]), ANY, max_size=5),
    st.dictionaries(st.sampled_from([f"d{n}" for n in range(300)]), ANY, max_size=5),
    ANY,
)
@example({}, {"d0": 5.99e307}, 0.0)
@settings(max_examples=40, deadline=None)
def test_row_34_whatever_is_put_in_there_is_a_verdict_and_nothing_undefined_passes(scores, nats, figure):
    sat = exam()
    whole = marks(NEW, sat)
    torn = replace(whole, scores={**whole.scores, **scores}, nats={**whole.nats, **nats})
    verdict = judged(sat, marks=torn, figures=figures("evaluation", "policy_forgetting", figure))
    json.dumps(verdict.document(), allow_nan=False)
    undefined = [
        value
        for value in [*scores.values(), *nats.values(), figure]
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)
    ]
    assert not (undefined and verdict.passed)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.floats(0.01, 1))
def test_a_quantile_is_one_of_the_values_and_enough_are_below(values, share):
    found = gates.quantile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9

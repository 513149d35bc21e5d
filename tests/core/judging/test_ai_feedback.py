"""What is reported of feedback by a constitution."""

import pytest

from pipelines.core.judging import ai_feedback
from pipelines.core.judging.ai_feedback import Given
from pipelines.core.learning.comparisons import Tally
from pipelines.core.learning.constitution import Case
from pipelines.core.learning.preferences import Ranking
from pipelines.core.learning.revisions import Revision
from pipelines.core.world.corpus import TalesSource, instruction_records
from pipelines.core.world.gold import gold_score


def ranking(name, ranks, kind, prompt="p0"):
    return Ranking(id=name, prompt=prompt, responses=("a", "b"), ranks=ranks, annotator=name, kind=kind)


def revision(case, chance, text="b"):
    return Revision(id=case, prompt="p", task="t", response="a", revision=text, chance=chance)


def test_agreement_is_told_by_the_kind_of_the_others_and_left_out_where_nobody_met():
    judge = [ranking(f"judge{n}", (1, 2), "constitution", f"p{n}") for n in range(4)]
    others = [ranking("ann", (1, 2), "human"), ranking("bot", (2, 1), "simulated", "p1")]
    others.append(ranking("sim", (1, 2), "simulated", "elsewhere"))
    report = ai_feedback.report(Given(rankings=judge), others, seed=0)
    assert {kind: found.accuracy for kind, found in report.agreement.items()} == {"human": 1.0, "simulated": 0.0}
    report = ai_feedback.report(Given(rankings=judge), others[2:], seed=0)
    assert report.agreement == {}


def test_positions_consistency_and_what_was_left_out_are_told():
    tally = Tally(num_asked=4, num_unusable=1, firsts=[0.9, 0.7, 0.5], consistent=[True, False])
    cases = [Case(id=f"c{n}", prompt="p", responses=("a", "b")) for n in range(3)]
    report = ai_feedback.report(
        Given(cases=cases, rankings=[ranking("judge", (1, 2), "constitution")], tally=tally), [], seed=0
    )
    assert (report.num_rankings, report.num_unranked) == (1, 2)
    assert (report.num_comparisons, report.num_unusable) == (4, 1)
    assert (report.first_position, report.consistent_share) == (pytest.approx(0.7), 0.5)


def test_gold_before_and_after_is_that_of_kept_revisions_with_facts():
    record = next(one for one in instruction_records(TalesSource(), "train", 40) if one.gold)
    cases = [
        Case(id="kept", prompt="p", responses=("a", "b"), facts=record.gold),
        Case(id="lost", prompt="p", responses=("a", "b"), facts=record.gold),
        Case(id="blind", prompt="p", responses=("a", "b")),
    ]
    made = [revision("kept", 0.8, record.completion), revision("lost", 0.5), revision("blind", 0.9)]
    report = ai_feedback.report(Given(cases=cases, revisions=made), [], seed=0)
    assert (report.num_revisions, report.num_revisions_kept) == (3, 2)
    assert report.gold_of_revised == gold_score(record.gold, "a").total
    assert report.gold_of_revisions == gold_score(record.gold, record.completion).total > report.gold_of_revised


def test_nothing_said_is_nothing_measured():
    report = ai_feedback.report(Given(), [], seed=0)
    assert (report.first_position, report.consistent_share, report.gold_of_revisions) == (None, None, None)

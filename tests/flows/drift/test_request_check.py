"""Requests beside the release: whole windows, judged once; what is remembered and what is normal."""

import html
import shutil

import pytest

from flows.drift import monitoring
from flows.drift import page as drift_report
from flows.drift import schema as drift_schema
from flows.drift.schema import SchemaRow
from pipelines.adapters import release
from tests.flows.drift.documents import check, log, texts


def test_no_request_yet_is_insufficient_data(workspace, folder):
    verdict = check(folder)
    assert verdict.state == "insufficient data"
    assert verdict.windows == ()


def test_requests_are_judged_in_whole_windows_once_and_drift_needs_two(workspace, folder, quick):
    requests = workspace / ".moteur" / "requests"
    log(requests, texts(130, 10), start=1_767_225_600, answered_by=folder)
    first = check(folder)
    assert (first.state, [row.outcome for row in first.windows]) == ("ok", ["same", "same"])
    assert "(10 wait for a whole window)" in first.subject
    log(requests, texts(50, 11, foreign=0.8), start=1_767_312_000, answered_by=folder)
    assert check(folder).state == "watch"
    log(requests, texts(60, 12, foreign=0.8), start=1_767_398_400, answered_by=folder)
    last = check(folder)
    assert last.state == "drift"
    assert [row.outcome for row in last.windows] == ["same", "same", "differs", "differs"]
    assert last.since is not None
    assert last.since.startswith("2026-01-01")
    again = check(folder)
    assert (again.state, len(again.windows)) == ("drift", 4)


def test_a_new_release_is_not_judged_by_what_its_predecessor_was_asked(workspace, folder, quick):
    requests = workspace / ".moteur" / "requests"
    for number in range(2):
        foreign = texts(60, 40 + number, foreign=0.8)
        log(requests, foreign, start=1_767_225_600 + 86_400 * number, answered_by=folder)
    assert check(folder).state == "drift"
    promoted = workspace / "promoted"
    shutil.copytree(folder, promoted)
    release.write_manifest(promoted, format=1, name="its successor", weights="int8")
    fresh = check(promoted)
    assert (fresh.state, fresh.windows) == ("insufficient data", ())
    log(requests, texts(60, 42), start=1_767_500_000, answered_by=promoted)
    assert [row.documents for row in check(promoted).windows] == [60]


def test_windows_that_are_accepted_become_what_is_normal(workspace, folder, quick):
    requests = workspace / ".moteur" / "requests"
    for number in range(4):
        log(requests, texts(60, 20 + number, foreign=0.7), start=1_767_225_600 + 86_400 * number, answered_by=folder)
    assert check(folder).state == "drift"
    assert check(folder, accept=True).state != "drift"
    log(requests, texts(60, 30, foreign=0.7), start=1_767_700_000, answered_by=folder)
    usual = check(folder)
    assert (usual.windows[-1].outcome, usual.against) == ("same", "the last 4 accepted windows of requests")


def test_without_texts_the_logged_descriptors_alone_are_judged(workspace, folder):
    log(workspace / ".moteur" / "requests", texts(60, 13), start=1_767_225_600, answered_by=folder, text=False)
    verdict = check(folder)
    assert [finding.test for finding in verdict.findings] == ["descriptors"]
    assert (verdict.state, verdict.changes) == ("ok", {})
    assert "the texts are not kept" in drift_report.PATH.read_text(encoding="utf-8")


def test_row_49_what_is_remembered_of_requests_holds_no_text(workspace, folder, quick):
    asked = [text for number in range(6) for text in texts(60, 50 + number, foreign=0.9 * (number > 4))]
    log(workspace / ".moteur" / "requests", asked, start=1_767_225_600, answered_by=folder)
    verdict = check(folder)
    assert verdict.against == "the last 4 accepted windows of requests"
    assert verdict.changes["map"]
    kept = [path.read_text() for path in (workspace / ".moteur" / "drift").rglob("window-*.json")]
    assert len(kept) == 6
    assert not any("played" in text for text in kept)
    shown = monitoring.JSON.read_text() + html.unescape(drift_report.PATH.read_text(encoding="utf-8"))
    assert not any(text[:30] in shown for text in asked)
    assert "it is not copied here" in shown


def test_requests_of_another_shape_are_watched(workspace, folder, quick, monkeypatch):
    row = SchemaRow(column="words", expected="4 to 90", observed="20 % outside", met=False)
    monkeypatch.setattr(drift_schema, "check", lambda *_parts, **_options: [row])
    log(workspace / ".moteur" / "requests", texts(60, 13), start=1_767_225_600, answered_by=folder)
    verdict = check(folder)
    assert (verdict.state, verdict.windows[0].outcome) == ("watch", "same")
    assert verdict.words.endswith("Outside of the expected shape: words.")


@pytest.mark.parametrize("jump", [-86_400, 86_400])
def test_row_51_a_clock_that_jumps_moves_no_window(workspace, folder, quick, jump):
    requests = workspace / ".moteur" / "requests"
    log(requests, texts(70, 15), start=1_767_225_600, answered_by=folder)
    log(requests, texts(70, 16), start=1_767_225_600 + jump, answered_by=folder)
    verdict = check(folder)
    assert [row.documents for row in verdict.windows] == [60, 60]
    assert verdict.state == "ok"

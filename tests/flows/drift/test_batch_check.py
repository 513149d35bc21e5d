"""A batch beside the release: the state, since when, the shape of its rows."""

import json
from pathlib import Path

import pytest

from flows.drift import batch_check
from flows.drift import page as drift_report
from pipelines.core.drift.policy import Policy
from pipelines.errors import DataError
from tests.flows.drift.documents import check, texts, write_batch


def test_a_batch_of_the_same_kind_is_ok(workspace, folder, quick):
    verdict = check(folder, data=write_batch(workspace / "same.jsonl", texts(150, 3)))
    assert (verdict.state, verdict.exit_code) == ("ok", 0)
    assert len(verdict.findings) == 5
    assert all(row.met for row in verdict.schema)
    assert verdict.words.startswith("No drift in 150 documents")


def test_a_changed_batch_is_drift_with_its_words_and_since_when(workspace, folder, quick):
    changed = [*texts(120, 4), *texts(120, 5, foreign=0.6)]
    verdict = check(folder, data=write_batch(workspace / "sea.jsonl", changed))
    assert (verdict.state, verdict.exit_code) == ("drift", 11)
    assert verdict.since == "part 3"
    assert {"whale", "sailed"} <= {item["word"] for item in verdict.changes["words"]}
    assert "whale" in verdict.words
    kept = json.loads(Path("reports/drift.json").read_text())
    assert kept["state"] == "drift"
    assert [row["outcome"] for row in kept["windows"]] == ["same", "same", "differs", "differs"]
    page = drift_report.PATH.read_text(encoding="utf-8")
    assert "<mark>whale</mark>" in page


def test_a_batch_that_changes_towards_its_end_is_drift_though_its_whole_hardly_differs():
    rule = Policy()
    assert batch_check._state("same", ["same"] * 6 + ["differs"] * 2, [], rule) == "drift"
    assert batch_check._state("same", ["differs"] * 2 + ["same"] * 2, [], rule) == "watch"
    assert batch_check._state("same", ["same", "differs"], [], rule) == "ok"
    assert batch_check._state("insufficient data", ["differs"] * 2, [], rule) == "insufficient data"


def test_row_53_five_documents_are_insufficient_data(workspace, folder, quick):
    verdict = check(folder, data=write_batch(workspace / "few.jsonl", texts(5, 7)))
    assert (verdict.state, verdict.exit_code) == ("insufficient data", 12)
    assert "neither an alarm nor an all-clear" in verdict.words
    assert "</html>" in drift_report.PATH.read_text(encoding="utf-8")


def test_rows_that_are_no_records_are_counted_and_watched(workspace, folder, quick):
    path = workspace / "torn.jsonl"
    write_batch(path, texts(100, 8))
    path.write_text(path.read_text() + '{"txt": 1}\n' * 20)
    verdict = check(folder, data=str(path))
    assert verdict.state == "watch"
    assert verdict.schema[0].observed == "16.7 %: 20 field missing"


def test_another_shape_is_outside_of_the_expectations(workspace, folder, quick):
    long = [" ".join(texts(6, seed)) for seed in range(40)]
    verdict = check(folder, data=write_batch(workspace / "long.jsonl", long))
    assert "words" in {row.column for row in verdict.schema if not row.met}


def test_a_batch_that_is_not_there_is_named(workspace, folder):
    with pytest.raises(DataError, match=r"nothing\.jsonl is not there"):
        check(folder, data=str(workspace / "nothing.jsonl"))
    with pytest.raises(DataError, match="is no folder"):
        check(folder, data=str(workspace / "no" / "where.jsonl"))

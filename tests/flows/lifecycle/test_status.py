"""`moteur status`: what is out of date and why, and the last runs."""

from pathlib import Path

import pytest

from flows.lifecycle import status
from flows.stages import graph
from tests.flows import examples


def test_status_says_why_a_stage_is_out_of_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(examples.checkout(tmp_path))
    examples.fill(tmp_path)
    pipeline = graph.load()
    assert "data/raw missing" in pipeline.changes["ingestion"]
    assert pipeline.stale == set(pipeline.names)
    assert status.last_runs()[0][:3] == ("run-20260131-142503", "finished", 11)

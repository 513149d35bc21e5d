"""What a promotion leaves behind for people."""

import pytest

from flows import promotion, verdicts
from pipelines.adapters.alerts import Outbox
from pipelines.artifacts import State


@pytest.mark.parametrize(("passed", "code", "titles"), [(True, 0, []), (False, 7, ["Version 3 is refused"])])
def test_a_refused_promotion_alerts_and_says_so_by_its_exit_code(tmp_path, monkeypatch, passed, code, titles):
    verdict = {"passed": passed, "sha256": "f" * 64, "rules": [], "words": "14 of 15 rules passed."}
    outcome = promotion.Outcome(version=3, moved=passed, words="What was decided.", entry=None, verdict=verdict)
    monkeypatch.setattr(promotion, "promote", lambda *_, **__: outcome)
    assert verdicts.promote(tmp_path, version=3, who=None, why="", again=False) == code
    assert [alert.title for alert in Outbox(tmp_path / State.ALERTS).open()] == titles

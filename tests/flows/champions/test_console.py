"""What a promotion leaves behind for people."""

import time

import pytest
from rich.console import Console

from flows.champions import console, promotion
from flows.supervision import alerts
from pipelines.adapters.alerts import Alert, Outbox
from pipelines.artifacts import State
from pipelines.stage import load_params
from tests.releases import ROOT


@pytest.mark.parametrize(("passed", "code", "titles"), [(True, 0, []), (False, 7, ["Version 3 is refused"])])
def test_a_refused_promotion_alerts_and_says_so_by_its_exit_code(tmp_path, monkeypatch, passed, code, titles):
    verdict = {"passed": passed, "sha256": "f" * 64, "rules": [], "words": "14 of 15 rules passed."}
    outcome = promotion.Outcome(version=3, moved=passed, words="What was decided.", entry=None, verdict=verdict)
    monkeypatch.setattr(promotion, "promote", lambda *_, **__: outcome)
    assert console.promote(tmp_path, version=3, who=None, why="", again=False) == code
    assert [alert.title for alert in Outbox(tmp_path / State.ALERTS).open()] == titles


def test_a_champion_that_was_judged_again_stays_and_nobody_is_told_that_it_was_refused(tmp_path, monkeypatch):
    verdict = {"passed": False, "sha256": "f" * 64, "rules": [], "words": "14 of 15 rules passed."}
    outcome = promotion.Outcome(version=3, moved=False, already=True, words="It stays.", entry=None, verdict=verdict)
    monkeypatch.setattr(promotion, "promote", lambda *_, **__: outcome)
    assert console.promote(tmp_path, version=3, who=None, why="", again=False) == 0
    assert Outbox(tmp_path / State.ALERTS).open() == []


@pytest.mark.parametrize("text", ["[red]x[/red]", r"\[red]x", r"C:\[/]", "[/nothing]", "ends with \\"])
def test_what_people_write_is_shown_as_they_wrote_it(text, capsys):
    rule = {"group": "quality", "passed": True, "words": text}
    Console(width=200).print(console.table({"rules": [rule]}))
    assert text in capsys.readouterr().out
    failed = {"team": (1, 0.0, text)}
    alert = Alert(key=f"k{text}", title=text, body="", severity="info", time=time.time(), failures=failed)
    Console(width=200).print(alerts.table([alert], ["team"], load_params(ROOT / "params.yaml").alerts))
    assert capsys.readouterr().out.count(text) == 3

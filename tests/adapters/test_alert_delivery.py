"""Alerts reach their sinks: once, later when a sink is down, and whatever kills delivery."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipelines.adapters import alerts
from pipelines.adapters.alert_delivery import deliver, due
from pipelines.adapters.alert_sinks import sinks
from pipelines.adapters.alerts import Alert, Outbox
from pipelines.errors import ParamsError
from tests.adapters.webhooks import SECRET, Webhook, settings

ROOT = Path(__file__).parents[2]


def test_an_alert_reaches_a_webhook_with_title_body_and_key(outbox: Outbox, webhook: Webhook) -> None:
    assert outbox.put("drift/1", "Drift found", "Tokens moved by 0.2.", "failure")
    chosen = settings("hook")
    assert deliver(outbox, sinks(chosen), chosen) == 1
    (message,) = webhook.received
    assert message["title"] == "Drift found"
    assert message["message"] == "Tokens moved by 0.2.\n\n(drift/1)"
    assert message["type"] == "failure"


def test_a_key_is_alerted_once_however_often_it_is_put_and_delivered(outbox: Outbox, webhook: Webhook) -> None:
    assert [outbox.put("a", "A", "") for _ in range(3)] == [True, False, False]
    chosen = settings("hook")
    assert [deliver(outbox, sinks(chosen), chosen) for _ in range(3)] == [1, 0, 0]
    assert len(webhook.received) == 1


def test_row_52_a_sink_that_answers_500_gets_the_alert_later_and_once(outbox: Outbox, webhook: Webhook) -> None:
    webhook.answers = [500, 503]
    outbox.put("a", "A", "body")
    chosen, clock = settings("hook"), [time.time()]
    taken = []
    for wait in (0, 1, 6, 1, 11, 100):
        clock[0] += wait
        taken.append(deliver(outbox, sinks(chosen), chosen, lambda: clock[0]))
    assert taken == [0, 0, 0, 0, 1, 0]
    assert webhook.titles == ["A"]
    assert outbox.alerts()[0].failures["hook"][0] == 2
    assert "500" in outbox._path.read_text() or "Internal" in outbox._path.read_text()


def test_row_52_a_sink_that_is_down_does_not_keep_others_from_theirs(outbox: Outbox, webhook: Webhook) -> None:
    outbox.put("a", "A", "body")
    chosen = settings("down", "hook")
    assert deliver(outbox, sinks(chosen), chosen) == 1
    (alert,) = outbox.alerts()
    assert set(alert.delivered) == {"hook"}
    assert set(alert.failures) == {"down"}


def test_row_52_a_slow_sink_holds_up_neither_the_caller_nor_the_other_sinks(outbox: Outbox, webhook: Webhook) -> None:
    webhook.let_go.clear()
    release, told = threading.Event(), []

    class Slow:
        name = "slow"

        def send(self, alert: Alert) -> str:
            release.wait(30)
            return ""

    class Quick:
        name = "quick"

        def send(self, alert: Alert) -> str:
            told.append(alert.key)
            return ""

    outbox.put("a", "A", "")
    chosen = settings(timeout_seconds=0.3)
    assert deliver(outbox, [Slow(), Quick()], chosen) == 1
    assert outbox.put("b", "B", "")
    release.set()
    assert told == ["a"]
    assert outbox.alerts()[0].failures["slow"][2] == "no answer in 0.3 s"


def test_a_sink_whose_code_fails_counts_as_failed(outbox: Outbox) -> None:
    class Broken:
        name = "broken"

        def send(self, alert: Alert) -> str:
            raise KeyError("x")

    outbox.put("a", "A", "")
    assert deliver(outbox, [Broken()], settings()) == 0
    assert outbox.alerts()[0].failures["broken"][2] == "KeyError: 'x'"


def test_the_wait_doubles_up_to_the_longest_and_ends_when_the_alert_is_old() -> None:
    chosen = settings(first_retry_seconds=5.0, longest_retry_seconds=60.0)
    waits = []
    for times in range(1, 8):
        alert = Alert(key="a", title="", body="", severity="info", time=0.0, failures={"s": (times, 100.0, "")})
        waits.append(next(wait for wait in range(1000) if due(alert, "s", chosen, 100.0 + wait)))
    assert waits == [5, 10, 20, 40, 60, 60, 60]
    assert not due(Alert(key="a", title="", body="", severity="info", time=0.0), "s", chosen, 3601.0)


def test_row_51_a_clock_set_back_by_a_day_does_not_hold_an_alert_for_a_day() -> None:
    alert = Alert(key="a", title="", body="", severity="info", time=1e6, failures={"s": (1, 1e6, "")})
    assert due(alert, "s", settings(), 1e6 - 86400)


def test_a_closed_alert_is_neither_shown_as_open_nor_sent(outbox: Outbox) -> None:
    outbox.put("a", "A", "")
    outbox.close("a")
    assert outbox.open() == []
    assert not due(outbox.alerts()[0], "s", settings(), time.time())
    with pytest.raises(ParamsError, match="no alert has the key 'b'"):
        outbox.close("b")


def test_row_48_no_planted_secret_is_in_the_outbox_the_messages_or_the_output(
    outbox: Outbox, webhook: Webhook, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STORE_ACCESS_KEY", "plantedValue123")
    planted = {
        f"postgresql://moteur:{SECRET}@db/moteur": SECRET,
        "Authorization: Bearer abcdefGHIJKL0123": "abcdefGHIJKL0123",
        "the store said plantedValue123 is wrong": "plantedValue123",
        '{"password": "hunter2hunter2"}': "hunter2hunter2",
        "pushed with AKIAIOSFODNN7EXAMPLE": "AKIAIOSFODNN7EXAMPLE",
        "https://hooks.slack.com/services/T00/B00/XXXX": "T00/B00/XXXX",
    }
    outbox.put("a", " ".join(planted), "\n".join(planted))
    chosen = settings("hook", "down")
    to = sinks(chosen)
    deliver(outbox, to, chosen)
    seen = outbox._path.read_text() + json.dumps(webhook.received) + "".join(capfd.readouterr()) + repr(to)
    assert len(webhook.received) == 1
    for secret in (*planted.values(), SECRET):
        assert secret not in seen
    assert "[secret]@db/moteur" in seen


def test_row_52_delivery_killed_with_sigkill_goes_on_where_it_was(outbox: Outbox, webhook: Webhook) -> None:
    """The first alert is taken, then delivery dies while the second waits for its answer."""
    outbox.put("a", "A", "")
    chosen = settings("hook")
    deliver(outbox, sinks(chosen), chosen)
    outbox.put("b", "B", "")
    webhook.let_go.clear()
    code = (
        "import sys, pathlib; from pipelines import params\n"
        "from pipelines.adapters import alert_delivery, alert_sinks, alerts\n"
        f"settings = params.Alerts.model_validate_json({chosen.model_dump_json()!r})\n"
        "outbox = alerts.Outbox(pathlib.Path(sys.argv[1]))\n"
        "alert_delivery.deliver(outbox, alert_sinks.sinks(settings), settings)\n"
    )
    assert webhook.arrived.acquire(timeout=10)
    child = subprocess.Popen([sys.executable, "-c", code, str(outbox._folder)], cwd=ROOT)
    assert webhook.arrived.acquire(timeout=60)
    child.kill()
    child.wait()
    webhook.let_go.set()
    deliver(outbox, sinks(chosen), chosen)
    assert webhook.titles.count("A") == 1
    assert "B" in webhook.titles
    assert set(outbox.alerts()[1].delivered) == {"hook"}
    assert alerts.OUTBOX in {path.name for path in outbox._folder.iterdir()}

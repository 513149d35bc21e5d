"""The outbox and its delivery: once each, in spite of everything (row 52), and without a secret (row 48)."""

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as running
from hypothesis import strategies as st

from pipelines import params as schema
from pipelines.adapters import alerts
from pipelines.adapters.alerts import Alert, NullOutbox, Outbox, deliver, due, sinks
from pipelines.errors import ParamsError, ResourceError

ROOT = Path(__file__).parents[2]
SECRET = "s3cr3t-Qx7Lp9"  # noqa: S105  planted


def settings(*names: str, **changed: Any) -> schema.Alerts:
    values: dict[str, Any] = {
        "sinks": [{"name": name, "environment": f"URL_{name.upper()}"} for name in names],
        "timeout_seconds": 5.0, "first_retry_seconds": 5.0, "longest_retry_seconds": 60.0, "give_up_hours": 1.0,
    }  # fmt: skip
    return schema.Alerts.model_validate(values | changed)


class Webhook:
    """A real server on loopback; `answers` are the status codes of its next answers, then 200 for ever."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.answers: list[int] = []
        self.arrived = threading.Semaphore(0)
        self.let_go = threading.Event()
        self.let_go.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.arrived.release()
                outer.let_go.wait(30)
                code = outer.answers.pop(0) if outer.answers else 200
                if code == 200:
                    outer.received.append(json.loads(body))
                self.send_response(code)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def titles(self) -> list[str]:
        return [message["title"] for message in self.received]


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    one = Webhook()
    monkeypatch.setenv("URL_HOOK", f"json://user:{SECRET}@127.0.0.1:{one.port}/path")
    monkeypatch.setenv("URL_DOWN", f"json://127.0.0.1:9/{SECRET}")
    yield one
    one.let_go.set()
    one.server.shutdown()
    one.server.server_close()


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "alerts")


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


def test_what_follows_a_torn_line_is_whole(outbox: Outbox) -> None:
    outbox.put("a", "A", "")
    with outbox._path.open("a") as file:
        file.write('{"event": "put", "key": "to')
    assert outbox.put("b", "B", "")
    assert [alert.key for alert in outbox.alerts()] == ["a", "b"]


def _put_many(folder: Path, start: "multiprocessing.synchronize.Barrier") -> None:
    start.wait()
    for number in range(20):
        Outbox(folder).put(f"key/{number}", f"Alert {number}", "body")


def test_many_processes_that_put_the_same_keys_at_once_leave_each_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start = context.Barrier(4)
    writers = [context.Process(target=_put_many, args=(tmp_path, start)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines = [json.loads(line) for line in (tmp_path / "outbox.jsonl").read_text().splitlines()]
    assert sorted(line["key"] for line in lines) == sorted(f"key/{number}" for number in range(20))


def test_whatever_keeps_an_alert_from_being_kept_the_caller_goes_on_and_it_is_said(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(alerts, "environment_secrets", lambda: 1 / 0)
        assert not outbox.put("rollback/1", "Version 2 was rolled back, by Ann", "")
    assert capsys.readouterr().err == "An alert could not be kept (ZeroDivisionError: division by zero): rollback/1\n"
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(Outbox, "_append", lambda *_: 1 / 0)
    assert not outbox.put("rollback/1", "Version 2 was rolled back", "")


def test_an_alert_with_half_a_character_and_one_behind_half_an_alert_are_kept(outbox: Outbox) -> None:
    outbox.put("a", "by \udce4", "because of \ud83d")
    with outbox._path.open("a") as file:
        file.write('{"event": "put", "key": "torn"}\n')
    assert outbox.put("b", "B", "")
    assert [(alert.key, alert.title, alert.body) for alert in outbox.alerts()] == [
        ("a", "by ?", "because of ?"),
        ("b", "B", ""),
    ]


def test_only_one_process_delivers(outbox: Outbox) -> None:
    with outbox.delivering(), pytest.raises(ResourceError, match="Another process delivers"), outbox.delivering():
        pass


def test_an_outbox_that_cannot_be_written_says_so_and_lets_the_caller_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert not Outbox(tmp_path / "file/alerts").put("a", "Drift found", "")
    assert "An alert could not be kept" in capsys.readouterr().err


def test_a_sink_without_an_address_fails_at_start_and_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("URL_HOOK", raising=False)
    with pytest.raises(ParamsError, match="the environment variable URL_HOOK is missing or empty"):
        sinks(settings("hook"))


def test_a_sink_may_have_its_address_in_a_file(tmp_path: Path, webhook: Webhook) -> None:
    (tmp_path / "url").write_text(os.environ["URL_HOOK"] + "\n")
    chosen = settings(sinks=[{"name": "hook", "file": "url"}])
    (sink,) = sinks(chosen, tmp_path)
    assert sink.url == os.environ["URL_HOOK"]
    with pytest.raises(ParamsError, match=r"the file .*absent is missing or empty"):
        sinks(settings(sinks=[{"name": "hook", "file": "absent"}]), tmp_path)


def test_row_48_an_address_that_is_no_url_is_refused_without_being_shown(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("URL_HOOK", f"nosuchservice://{SECRET}")
    with pytest.raises(ParamsError, match="is no URL that Apprise understands") as caught:
        sinks(settings("hook"))
    assert SECRET not in str(caught.value) + "".join(capfd.readouterr())


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


def test_row_48_the_password_of_a_server_that_the_environment_names_is_covered_in_any_text(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://moteur:spl%40t!wort@db/moteur")
    outbox.put("a", "nonnumeric port: 'spl@t!wort'", 'no login for "moteur" with spl%40t!wort')
    (alert,) = outbox.alerts()
    assert (alert.title, alert.body) == ("nonnumeric port: '[secret]'", 'no login for "moteur" with [secret]')


def test_the_null_twin_takes_every_alert() -> None:
    assert NullOutbox().put("a", "A", "")


def test_a_severity_that_does_not_exist_is_a_fault_of_the_caller(outbox: Outbox) -> None:
    with pytest.raises(ValueError, match="severity is 'loud'"):
        outbox.put("a", "A", "", "loud")  # type: ignore[arg-type]


@running(deadline=None)  # every alert is synced to the disk
@given(st.lists(st.tuples(st.sampled_from("abc"), st.text(max_size=30)), max_size=8))
def test_what_is_put_is_read_back_once_for_each_key(entries: list[tuple[str, str]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        outbox = Outbox(Path(folder))
        for key, body in entries:
            outbox.put(key, "title", body)
        assert [alert.key for alert in outbox.alerts()] == list(dict.fromkeys(key for key, _ in entries))


def test_row_52_delivery_killed_with_sigkill_goes_on_where_it_was(outbox: Outbox, webhook: Webhook) -> None:
    """The first alert is taken, then delivery dies while the second waits for its answer."""
    outbox.put("a", "A", "")
    chosen = settings("hook")
    deliver(outbox, sinks(chosen), chosen)
    outbox.put("b", "B", "")
    webhook.let_go.clear()
    code = (
        "import sys, pathlib; from pipelines import params; from pipelines.adapters import alerts\n"
        f"settings = params.Alerts.model_validate_json({chosen.model_dump_json()!r})\n"
        "alerts.deliver(alerts.Outbox(pathlib.Path(sys.argv[1])), alerts.sinks(settings), settings)\n"
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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MOTEUR_ALERTS_URL", f"mailtos://bob:{SECRET}@mail.example.com"),
        ("PAGER_OF_THE_NIGHT", f"mailtos://bob:{SECRET}@mail.example.com"),
        ("PREFECT_API_AUTH_STRING", f"bob:{SECRET}"),
        ("AZURE_STORAGE_KEY", SECRET),
    ],
)
def test_row_48_what_the_environment_hides_is_in_no_alert(
    outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("alerts: {sinks: [{name: night, environment: PAGER_OF_THE_NIGHT}]}")
    monkeypatch.setenv(name, value)
    outbox.put("k", "It failed", f"the server said {SECRET} and mail.example.com")
    assert outbox.alerts()[0].body == "the server said [secret] and mail.example.com"


def test_row_48_the_password_of_a_sink_is_covered_alone_too() -> None:
    sink = alerts.AppriseSink(name="mail", url="mailtos://bob:hunter22@example.com", timeout=1)
    assert "hunter22" in sink.secrets

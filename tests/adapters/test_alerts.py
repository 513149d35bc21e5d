"""The outbox: a key is kept once, whatever happens, and no secret with it."""

import json
import multiprocessing
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as running
from hypothesis import strategies as st

from pipelines.adapters import alerts
from pipelines.adapters.alerts import NullOutbox, Outbox
from pipelines.errors import ResourceError
from tests.adapters.webhooks import SECRET


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

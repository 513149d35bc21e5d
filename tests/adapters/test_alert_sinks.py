"""The sinks of params.yaml, whose addresses are shown to nobody."""

import os
from pathlib import Path

import pytest

from pipelines.adapters.alert_sinks import AppriseSink, sinks
from pipelines.errors import ParamsError
from tests.adapters.webhooks import SECRET, Webhook, settings


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


def test_row_48_the_password_of_a_sink_is_covered_alone_too() -> None:
    sink = AppriseSink(name="mail", url="mailtos://bob:hunter22@example.com", timeout=1)
    assert "hunter22" in sink.secrets

"""Row 49: what is said to the server is kept only where that is switched on, redacted, and not for ever."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from starlette.testclient import TestClient

from flows.retraining import acceptance
from pipelines import stage
from pipelines.adapters import requests
from pipelines.adapters.requests import RequestLog
from serving import guard
from serving.__main__ import prepared
from serving.api import Api, Mailroom, Runner
from serving.champion import Champion, FolderSource
from tests import learning
from tests.serving.live import PROMPT, TOKEN, serving, wait_for

SAID = "Ann had a ball. Write to ann@example.org or call +49 221 1234567."


@contextmanager
def api(root: Path, bundle: Path, *, text: bool, hours: float) -> Iterator[TestClient]:
    """The application in this process, with one version that answers."""
    params = learning.params(deployment={"prompts": ["Ann"]})
    mailroom = Mailroom()

    def prepare(folder: Path, candidate: Any) -> Runner:
        return prepared(folder, candidate, settings=params.serving, params=params, mailroom=mailroom)

    champion = Champion(
        FolderSource(bundle), prepare, poll_seconds=60.0, scratch=root / "scratch", status=root / "status.json"
    )
    log = RequestLog(root / "requests", text=text, segment_bytes=1e6, segment_seconds=3600.0)
    one = Api(
        champion,
        mailroom,
        tokens=guard.Tokens([TOKEN]),
        limits=params.serving.limits,
        request_log=log,
        text_hours=hours,
    )
    with TestClient(one.app, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        wait_for(lambda: client.get("/health/ready").status_code == 200)
        yield client


def ask(client: TestClient) -> str:
    asked = {"messages": [{"role": "user", "content": SAID}], "max_tokens": 6, "temperature": 0}
    answer = client.post("/v1/chat/completions", json=asked)
    assert answer.status_code == 200
    text: str = answer.json()["choices"][0]["message"]["content"]
    return text


def everything(root: Path) -> str:
    return "".join(path.read_text() for path in requests.segments(root / "requests"))


def test_row_49_text_is_off_by_default() -> None:
    assert learning.params().serving.log.text is False


def test_row_49_text_that_is_switched_on_is_kept_redacted(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    with api(tmp_path, bundles[0], text=True, hours=1.0) as client:
        answer = ask(client)
        (record,) = requests.read(tmp_path / "requests")
        assert record["prompt"] == "Ann had a ball. Write to [e-mail] or call [phone]."
        assert record["response"] == answer
        assert "ann@example.org" not in everything(tmp_path)


def test_row_49_the_server_deletes_text_whose_time_is_over(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    with api(tmp_path, bundles[0], text=True, hours=0.5 / 3600) as client:
        ask(client)
        assert "Ann had a ball" in everything(tmp_path)
        wait_for(lambda: "Ann had a ball" not in everything(tmp_path))
        (record,) = requests.read(tmp_path / "requests")
        assert record["prompt_descriptors"]["characters"] == len(SAID)
        assert not {"prompt", "response"} & record.keys()


def test_what_was_said_to_a_server_is_accepted_redacted_and_not_what_it_answered(
    bundles: tuple[Path, Path], tmp_path: Path
) -> None:
    told = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": SAID}]}
    with serving(tmp_path, bundles[0], log={"text": True}) as server:
        assert server.ask("POST", "/v1/chat/completions", {**told, "max_tokens": 6})[0] == 200
        assert server.complete(stream=True)[0] == server.complete(prompt="Hm.")[0] == 200
        taking = acceptance.take(tmp_path, stage.load_params(tmp_path / "params.yaml"))
        later = acceptance.take(
            tmp_path, stage.load_params(tmp_path / "params.yaml"), kind="instructions", answers=True
        )
    assert taking.file is not None
    assert [json.loads(line)["text"] for line in (tmp_path / taking.file).read_text().splitlines()] == [
        "Be brief.\n\nAnn had a ball. Write to [e-mail] or call [phone].",
        PROMPT,
    ]
    assert taking.left_out == {"too short": 1}
    assert (later.left_out["not a conversation"], later.taken + later.left_out.total()) == (2, 3)


@pytest.mark.parametrize("text", [False, True])
def test_row_49_a_log_that_cannot_be_written_fails_no_request(
    bundles: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bool
) -> None:
    def full(*_arguments: Any, **_options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RequestLog, "write", full)
    with api(tmp_path, bundles[0], text=text, hours=1.0) as client:
        assert ask(client)
        assert "moteur_request_log_failures_total 1.0" in client.get("/metrics").text


def test_row_43_the_log_of_a_client_that_left_is_written_beside_the_event_loop() -> None:
    class Left:
        job, logged, runner = object(), False, SimpleNamespace(engine=SimpleNamespace(cancel=lambda _job: None))

    class Here:
        _mailroom = Mailroom()
        wrote: ClassVar[list[int]] = []

        def _write_left(self, _call: Any) -> None:
            self.wrote.append(threading.get_ident())

    async def leave() -> None:
        Api._end(Here(), Left())  # type: ignore[arg-type]

    asyncio.run(leave())
    assert len(Here.wrote) == 1
    assert threading.get_ident() not in Here.wrote

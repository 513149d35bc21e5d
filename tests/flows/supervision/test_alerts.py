"""`moteur alerts` and its service, with a webhook that is really there."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipelines.adapters.alerts import Outbox
from tests.flows import toy


@pytest.fixture
def received() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The Apprise URL of a webhook, and what it was sent."""
    messages: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"json://127.0.0.1:{server.server_address[1]}/", messages
    server.shutdown()
    server.server_close()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = toy.make(tmp_path / "checkout", git=False)
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("sinks: []", "sinks: [{name: team, environment: TEAM_URL}]"))
    return root


def test_a_test_alert_is_sent_at_once_and_leaves_nothing_open(
    checkout: Path, received: tuple[str, list[dict[str, Any]]]
) -> None:
    url, messages = received
    done = toy.moteur(checkout, "alerts", "--test", TEAM_URL=url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "team yes"
    assert [message["title"] for message in messages] == ["Test of the alerts"]
    assert "No open alerts." in toy.moteur(checkout, "alerts").stdout


def test_a_sink_that_does_not_take_the_test_is_named_and_the_exit_code_tells(checkout: Path) -> None:
    done = toy.moteur(checkout, "alerts", "--test", TEAM_URL="json://user:planted-s3cret@127.0.0.1:9/")
    assert done.returncode == 1
    assert "team failed 1x" in done.stdout
    assert "team did not take the test alert" in done.stderr
    assert "planted-s3cret" not in done.stdout + done.stderr


def test_the_service_delivers_what_others_put_and_ends_when_asked(
    checkout: Path, received: tuple[str, list[dict[str, Any]]]
) -> None:
    url, messages = received
    service = subprocess.Popen(
        [sys.executable, "-m", "flows.supervision.alerts"],
        cwd=checkout,
        env=toy.environment(TEAM_URL=url),
        stdout=-1,
        text=True,
    )
    assert service.stdout is not None
    assert service.stdout.readline() == "alerts go to team\n"
    Outbox(checkout / ".moteur/alerts").put("k", "Look", "here")
    deadline = time.monotonic() + 30
    while not messages and time.monotonic() < deadline:
        time.sleep(0.05)
    assert service.stdout.readline() == "delivered 1\n"
    service.terminate()
    assert service.wait(30) == 0
    service.stdout.close()
    assert [message["title"] for message in messages] == ["Look"]

"""A webhook, and an outbox that it may get alerts from."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.adapters.alerts import Outbox
from tests.adapters.webhooks import SECRET, Webhook


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

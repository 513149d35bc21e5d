"""Where alerts go: the sinks of params.yaml, each an address that Apprise understands."""

import logging
import os
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pipelines import params as schema
from pipelines.adapters.alerts import Alert
from pipelines.adapters.secrets import pieces
from pipelines.core.text.secrets import redact
from pipelines.errors import ParamsError


class Sink(Protocol):
    """A place that takes alerts."""

    @property
    def name(self) -> str:
        """What params.yaml calls it."""

    def send(self, alert: Alert) -> str:
        """Hand the alert over; the empty string, or why that failed."""


@dataclass(frozen=True, kw_only=True)
class AppriseSink:
    """One Apprise URL. The URL is a secret: it is in no repr, log or message."""

    name: str
    url: str = field(repr=False)
    timeout: float

    def send(self, alert: Alert) -> str:
        """Hand the alert over; the empty string, or why that failed."""
        from apprise import NotifyType

        with _overheard(self.secrets) as heard:
            server = _apprise(self.url, self.timeout)
            body = f"{alert.body}\n\n({alert.key})"
            taken = server is not None and server.notify(
                title=alert.title, body=body, notify_type=NotifyType(alert.severity)
            )
        return "" if taken else "; ".join(heard)[:300] or "it was not taken"

    @property
    def secrets(self) -> set[str]:
        """The URL and everything in it that is not for other eyes."""
        return pieces(self.url)


def _apprise(url: str, timeout: float) -> Any:
    """The Apprise object behind a URL, or None when there is none; it writes nothing to the disk."""
    from apprise import Apprise, AppriseAsset, PersistentStoreMode

    asset = AppriseAsset(
        app_id="Moteur", app_desc="Moteur", storage_mode=PersistentStoreMode.MEMORY, secure_logging=True
    )
    server = Apprise.instantiate(url, asset=asset)
    if server is not None:
        server.socket_connect_timeout = server.socket_read_timeout = timeout
    return server


@contextmanager
def _overheard(secrets: Collection[str]) -> Iterator[list[str]]:
    """What Apprise complains about in this thread, with secrets covered; nothing reaches the terminal."""
    heard: list[str] = []
    here = threading.get_ident()

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == here:
                heard.append(redact(record.getMessage(), secrets))

    ear, logger = Ear(logging.WARNING), logging.getLogger("apprise")
    logger.propagate = False
    logger.addHandler(ear)
    try:
        yield heard
    finally:
        logger.removeHandler(ear)


def sinks(settings: schema.Alerts, root: Path = Path()) -> list[AppriseSink]:
    """The sinks of params.yaml, with their URLs from the environment or from files.

    Raises:
        ParamsError: for one whose URL is missing or that Apprise does not understand; the URL is not in the message.
    """
    return [_sink(settings, one, root) for one in settings.sinks]


def _sink(settings: schema.Alerts, one: schema.AlertSink, root: Path) -> AppriseSink:
    if one.environment is not None:
        where, url = f"the environment variable {one.environment}", os.environ.get(one.environment, "")
    else:
        path = root / str(one.file)
        where, url = f"the file {path}", path.read_text(encoding="utf-8") if path.is_file() else ""
    if not (url := url.strip()):
        raise ParamsError(
            f"the sink {one.name!r} of alerts.sinks has no address: {where} is missing or empty. Put its Apprise URL"
            " there (https://github.com/caronc/apprise/wiki lists them), or remove the sink from params.yaml."
        )
    sink = AppriseSink(name=one.name, url=url, timeout=settings.timeout_seconds)
    with _overheard(sink.secrets):
        known = _apprise(url, settings.timeout_seconds) is not None
    if not known:
        raise ParamsError(
            f"the sink {one.name!r} of alerts.sinks: what {where} holds is no URL that Apprise understands. Correct it:"
            " https://github.com/caronc/apprise/wiki shows the form for each service."
        )
    return sink

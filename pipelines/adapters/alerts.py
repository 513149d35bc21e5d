"""Alerts: put into an outbox on disk, which costs the caller nothing, and delivered later (`alert_delivery`).

The outbox is a file of JSON lines that is only appended to. A key is alerted once, however often it is put.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from pipelines.adapters import locks
from pipelines.adapters.secrets import environment_secrets
from pipelines.artifacts import State
from pipelines.core.text.secrets import redact
from pipelines.errors import ParamsError, ResourceError

Severity = Literal["info", "warning", "failure"]
OUTBOX, APPENDING, DELIVERING = "outbox.jsonl", "append.lock", "deliver.lock"
LONGEST_TITLE, LONGEST_BODY = 200, 4000
"""Characters; the rest is cut, for sinks refuse or cut long messages in ways of their own."""


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One thing that somebody must know, and how far its delivery is."""

    key: str
    title: str
    body: str
    severity: Severity
    time: float
    """When it was put (seconds since 1970)."""
    delivered: Mapping[str, float] = field(default_factory=dict)
    """Sink -> when it took the alert."""
    failures: Mapping[str, tuple[int, float, str]] = field(default_factory=dict)
    """Sink -> how often it failed, when last, and why."""
    closed: bool = False
    """A person has dealt with it."""


class Alerting(Protocol):
    """What can take an alert."""

    def put(self, key: str, title: str, body: str, severity: Severity = "warning") -> bool:
        """Keep an alert for delivery; True when the key is new."""


class NullOutbox:
    """Takes every alert and tells nobody; for tests and for use as a library."""

    def put(self, key: str, title: str, body: str, severity: Severity = "warning") -> bool:
        """Do nothing."""
        return True


class Outbox:
    """The alerts of one checkout, in `.moteur/alerts/outbox.jsonl`."""

    def __init__(self, folder: Path = State.ALERTS.path) -> None:
        self._folder = folder
        self._path = folder / OUTBOX

    def put(self, key: str, title: str, body: str, severity: Severity = "warning") -> bool:
        """Keep an alert for delivery, synced to the disk; True when the key is new.

        It never raises but for a severity that does not exist: an alert must not stop or undo what it is about. One
        that cannot be kept is said on stderr. Secrets are covered first.
        """
        if severity not in get_args(Severity):
            raise ValueError(f"severity is {severity!r}: one of {', '.join(get_args(Severity))}")
        said = key
        try:
            secrets = environment_secrets()
            title = said = redact(" ".join(title.split()), secrets)[:LONGEST_TITLE]
            line = {"event": "put", "key": key, "title": title, "body": redact(body, secrets)[:LONGEST_BODY]}
            with locks.holding(self._folder / APPENDING):
                if any(alert.key == key for alert in self.alerts()):
                    return False
                self._append({**line, "severity": severity, "time": time.time()})
        except Exception as error:  # whatever it is, what the alert is about has happened
            words = f"An alert could not be kept ({type(error).__name__}: {error}): {said}"
            with suppress(Exception):
                print(words, file=sys.stderr)  # noqa: T201  the last resort
            return False
        return True

    def alerts(self) -> list[Alert]:
        """All alerts, oldest first."""
        found: dict[str, dict[str, Any]] = {}
        for line in self._lines():
            _take(found, line)
        return [Alert(**values) for values in found.values()]

    def open(self) -> list[Alert]:
        """Alerts that nobody has closed."""
        return [alert for alert in self.alerts() if not alert.closed]

    def close(self, key: str) -> None:
        """A person has dealt with the alert: it is shown no more, and sent no more.

        Raises:
            ParamsError: when there is no such alert.
        """
        if key not in {alert.key for alert in self.alerts()}:
            raise ParamsError(f"no alert has the key {key!r}: `moteur alerts` lists them")
        self.note("closed", key)

    def note(self, event: str, key: str, **fields: Any) -> None:
        """Write down what became of an alert."""
        with locks.holding(self._folder / APPENDING):
            self._append({"event": event, "key": key, "time": time.time(), **fields})

    def delivering(self) -> AbstractContextManager[None]:
        """Be the only one that delivers.

        Raises:
            ResourceError: when another process does.
        """

        def busy(_holder: str) -> ResourceError:
            return ResourceError(f"Another process delivers the alerts in {self._folder}: leave it to that.")

        return locks.holding(self._folder / DELIVERING, wait=0, busy=busy)

    def _lines(self) -> Iterator[dict[str, Any]]:
        if not self._path.exists():
            return
        with self._path.open(encoding="utf-8", errors="replace") as file:
            for text in file:
                try:
                    yield json.loads(text)
                except ValueError:  # torn by a crash; what follows is whole
                    continue

    def _append(self, line: Mapping[str, Any]) -> None:
        text = (json.dumps(line, ensure_ascii=False) + "\n").encode(errors="replace")  # half a character is no loss
        with self._path.open("ab+") as file:
            if file.tell() and not _ends_line(file.fileno(), file.tell()):
                text = b"\n" + text
            file.write(text)
            file.flush()
            os.fsync(file.fileno())


def _ends_line(descriptor: int, size: int) -> bool:
    return os.pread(descriptor, 1, size - 1) == b"\n"


PUT = {"key", "title", "body", "severity", "time"}
"""What the line of a new alert says."""


def _take(found: dict[str, dict[str, Any]], line: Mapping[str, Any]) -> None:
    match line:
        case {"event": "put", "key": str(key)} if key not in found and line.keys() >= PUT:
            found[key] = {**{name: line[name] for name in PUT}, "delivered": {}, "failures": {}, "closed": False}
        case {"event": "delivered", "key": str(key), "sink": sink, "time": moment} if key in found:
            found[key]["delivered"][sink] = moment
        case {"event": "failed", "key": str(key), "sink": sink, "time": moment} if key in found:
            times = found[key]["failures"].get(sink, (0, 0.0, ""))[0]
            found[key]["failures"][sink] = (times + 1, moment, str(line.get("why", "")))
        case {"event": "closed", "key": str(key)} if key in found:
            found[key]["closed"] = True
        case _:
            return

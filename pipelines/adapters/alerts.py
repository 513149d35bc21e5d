"""Alerts: put into an outbox on disk, which costs the caller nothing, and delivered later through Apprise.

The outbox is a file of JSON lines that is only appended to. A key is alerted once, however often it is put; a sink that
is down, slow or refuses gets the alert later, with a growing wait, and the other sinks do not wait for it. Delivery is
a process of its own (`python -m flows.supervision.alerts`), which `moteur up` keeps running.

A sink has an alert exactly once, unless delivery is killed, or the sink stays silent beyond `alerts.timeout_seconds`,
after it took the alert and before that was written down: then it comes again, with the same key at its end.
"""

import fcntl
import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from pipelines import params as schema
from pipelines.artifacts import State
from pipelines.core.text.secrets import credentials, redact
from pipelines.errors import ParamsError, ResourceError

Severity = Literal["info", "warning", "failure"]
OUTBOX, APPENDING, DELIVERING = "outbox.jsonl", "append.lock", "deliver.lock"
LONGEST_TITLE, LONGEST_BODY = 200, 4000
"""Characters; the rest is cut, for sinks refuse or cut long messages in ways of their own."""
SECRET_NAMES = (
    "TOKEN",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "API_KEY",
    "ACCESS_KEY",
    "STORAGE_KEY",
    "ACCOUNT_KEY",
    "CREDENTIAL",
    "AUTH_STRING",
)
ADDRESS = "MOTEUR_ALERTS_URL"
"""The variable for the address of a sink that our documentation names; alerts.sinks may name others."""


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
            with self._locked(APPENDING):
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
        with self._locked(APPENDING):
            self._append({"event": event, "key": key, "time": time.time(), **fields})

    @contextmanager
    def delivering(self) -> Iterator[None]:
        """Be the only one that delivers.

        Raises:
            ResourceError: when another process does.
        """
        with self._locked(DELIVERING, wait=False):
            yield

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

    @contextmanager
    def _locked(self, name: str, *, wait: bool = True) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / name).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise ResourceError(
                    f"Another process delivers the alerts in {self._folder}: leave it to that."
                ) from None
            yield


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


def environment_secrets() -> set[str]:
    """Values of environment variables whose names say that they are secret, addresses of sinks, passwords of others."""
    addresses = {ADDRESS, *_variables(Path("params.yaml"))}
    found: set[str] = set()
    for name, value in os.environ.items():
        if name in addresses:
            found |= {piece for piece in _pieces(value.strip()) if len(piece) >= SHORTEST_PIECE and "." not in piece}
            found |= {value.strip()}
        elif any(word in name.upper() for word in SECRET_NAMES):
            found |= {value}
        elif "://" in value:
            found |= credentials(value)
        if name.endswith("AUTH_STRING"):  # user:password
            found |= {value.partition(":")[2]}
    return found - {""}


SHORTEST_PIECE = 8
"""Of an address, where it is covered in every text; shorter ones, and hosts, are ordinary words too."""


def _variables(params: Path) -> set[str]:
    """Variables that alerts.sinks names; none when params cannot be read, which others report."""
    import yaml

    try:
        listed = yaml.safe_load(params.read_text(encoding="utf-8"))["alerts"]["sinks"]
        return {str(one["environment"]) for one in listed if one.get("environment")}
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError, AttributeError):
        return set()


def _pieces(url: str) -> set[str]:
    """A URL, and everything in it that is not for other eyes."""
    rest = url.partition("://")[2]
    return {url, rest, *re.split(r"[/?&@=:]", rest)} - {""}


# Sinks


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
        return _pieces(self.url)


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


# Delivery


def due(alert: Alert, sink: str, settings: schema.Alerts, now: float) -> bool:
    """Whether `sink` is to be tried with this alert at `now`: the wait doubles with each failure.

    A clock that was set back does not hold an alert for longer than the wait.
    """
    if alert.closed or sink in alert.delivered or now - alert.time > settings.give_up_hours * 3600:
        return False
    if sink not in alert.failures:
        return True
    times, last, _ = alert.failures[sink]
    wait = min(settings.first_retry_seconds * 2.0 ** min(times - 1, 32), settings.longest_retry_seconds)
    return now >= last + wait or now < last


def deliver(outbox: Outbox, to: Iterable[Sink], settings: schema.Alerts, now: Callable[[], float] = time.time) -> int:
    """Try every sink with what is due, all sinks at once; return how many alerts were taken.

    A sink that does not answer in `alerts.timeout_seconds` counts as failed and holds nobody up.

    Raises:
        ResourceError: when another process delivers.
    """
    with outbox.delivering():
        alerts = outbox.alerts()
        counts: dict[str, int] = {}
        workers = [
            threading.Thread(target=_serve, args=(outbox, sink, alerts, settings, now, counts), daemon=True)
            for sink in to
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return sum(counts.values())


def _serve(
    outbox: Outbox,
    sink: Sink,
    alerts: list[Alert],
    settings: schema.Alerts,
    now: Callable[[], float],
    counts: dict[str, int],
) -> None:
    """Hand one sink what is due, until it fails: what is behind it waits for the next time."""
    for alert in alerts:
        if not due(alert, sink.name, settings, now()):
            continue
        if why := _send(sink, alert, settings.timeout_seconds):
            outbox.note("failed", alert.key, sink=sink.name, why=redact(why, environment_secrets()))
            return
        outbox.note("delivered", alert.key, sink=sink.name)
        counts[sink.name] = counts.get(sink.name, 0) + 1


def _send(sink: Sink, alert: Alert, timeout: float) -> str:
    """Send with a limit in time that a sink cannot stretch by answering a byte at a time."""
    answer: list[str] = []

    def work() -> None:
        try:
            answer.append(sink.send(alert))
        except Exception as error:  # a plugin's own fault must not end delivery
            answer.append(f"{type(error).__name__}: {error}")

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    worker.join(timeout)
    return answer[0] if answer else f"no answer in {timeout:g} s"

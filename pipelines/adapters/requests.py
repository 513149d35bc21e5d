"""The request log: one JSON object a line, in append-only segments that outlive the process that wrote them.

Contract: `Logged`. Text is kept where its logging is switched on, personal data redacted.

A line is handed to the system in one write before the client gets the end of its answer, so a killed process loses no
answered request. A segment belongs to one process and is never opened again; a torn last line is skipped by readers.
"""

import contextlib
import datetime
import fcntl
import itertools
import json
import os
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

from pipelines.adapters import files
from pipelines.core.text import descriptors, personal_data
from pipelines.core.text.words import split_words
from pipelines.errors import MoteurError

Text = Literal["prompt", "response"]
TEXT: tuple[Text, ...] = ("prompt", "response")
"""What is deleted when its time is over."""


class Ended(TypedDict):
    """What the server knows of a request that has ended."""

    id: str
    time: str
    """When it ended: UTC, ISO 8601."""
    route: str
    status: int
    """Of HTTP; 499 when the client left."""
    version: str
    """Of the release that answered."""
    manifest_sha256: str
    stream: bool
    prompt_tokens: int
    completion_tokens: int
    finish: list[str]
    """Why each choice ended, or why none did."""
    seconds: float
    """From the request to its end."""
    first_token_seconds: float | None
    nats_per_token: float | None
    """Mean negative log-likelihood of what was answered."""
    temperature: float


class Described(Ended):
    """A line of the log without text."""

    prompt_descriptors: dict[str, float]
    """As in `core.text.descriptors`."""
    response_descriptors: dict[str, float]
    """Of all choices together."""


class Logged(Described, total=False):
    """A line of the log: with text where its logging is switched on and its time is not over."""

    prompt: str
    response: str


_NAME = re.compile(r"requests-(\d{8}T\d{6})-(\d+)-(\d+)\.jsonl")
_SYNC_SECONDS = 1.0


def now() -> datetime.datetime:
    """This moment, UTC."""
    return datetime.datetime.now(datetime.UTC)


def describe(text: str) -> dict[str, float]:
    """The descriptors of one text as plain numbers."""
    columns = descriptors.describe([text], split_words([text]))
    return {name: round(float(values[0]), 6) for name, values in columns.items()}


def redacted(text: str) -> str:
    """The text with labels in the place of personal data."""
    return personal_data.redact(text, personal_data.find(text))


class RequestLog:
    """Writes the log of one process; safe to use from several threads.

    Args:
        folder: Where segments are; made when it is missing, readable by the owner only.
        text: Keep prompts and responses, redacted.
        segment_bytes: A segment is closed at this size.
        segment_seconds: A segment is closed at this age.
    """

    def __init__(self, folder: Path, *, text: bool, segment_bytes: float, segment_seconds: float) -> None:
        self._folder, self._text = folder, text
        self._segment_bytes, self._segment_seconds = segment_bytes, segment_seconds
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._path: Path | None = None
        self._opened = self._synced = now()
        self._size = 0
        self._number = 0
        self._looked_at: dict[Path, tuple[int, datetime.datetime | None]] = {}
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def write(self, record: Ended, *, prompt: str, response: str) -> None:
        """Append a record; descriptors and text are added here.

        Raises:
            OSError: when the disk does not take it.
        """
        whole: Described = {
            **record,
            "prompt_descriptors": describe(prompt),
            "response_descriptors": describe(response),
        }
        if self._text:
            whole = Logged(**whole, prompt=redacted(prompt), response=redacted(response))
        line = json.dumps(whole, ensure_ascii=False, allow_nan=False).encode(errors="replace") + b"\n"
        with self._lock:
            self._append(line)

    def _append(self, line: bytes) -> None:
        moment = now()
        age = abs((moment - self._opened).total_seconds())
        if self._descriptor is not None and (self._size >= self._segment_bytes or age >= self._segment_seconds):
            self._close()
        if self._descriptor is None:
            self._open(moment)
        assert self._descriptor is not None  # noqa: S101  just opened
        written = os.write(self._descriptor, line)
        self._size += written
        if written < len(line):  # the disk is full: what follows must not continue a torn line
            self._close()
            raise OSError(28, "no space for the request log", str(self._path))
        if abs((moment - self._synced).total_seconds()) >= _SYNC_SECONDS:
            os.fdatasync(self._descriptor)
            self._synced = moment

    def _open(self, moment: datetime.datetime) -> None:
        while self._descriptor is None:
            self._number += 1
            name = f"requests-{moment:%Y%m%dT%H%M%S}-{os.getpid()}-{self._number}.jsonl"
            self._path = self._folder / name
            with contextlib.suppress(FileExistsError):
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
                self._descriptor = os.open(self._path, flags, 0o600)
                fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        self._opened, self._size = moment, 0

    def close(self) -> None:
        """Close the open segment; the next record opens another."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            with contextlib.suppress(OSError):
                os.fdatasync(descriptor)
            os.close(descriptor)

    def expire(self, before: datetime.datetime) -> int:
        """Delete the text of all records older than `before`, in every segment of the folder; return how many.

        Segments that another living process still writes are left to that one. What says no time may be of any age
        and goes too. Writers do not wait for this.

        Raises:
            OSError, ValueError, MoteurError: a segment cannot be read or replaced; all others are cleaned.
        """
        open_one = self._path if self._text and self._descriptor is not None else None
        if open_one is not None and _is_before(_oldest_text(open_one), before):
            with self._lock:
                if self._path == open_one:
                    self._close()
        count, failures = 0, list[Exception]()
        for path in segments(self._folder):
            try:
                count += 0 if _in_use(path) else self._expire(path, before)
            except (OSError, ValueError, MoteurError) as error:  # the other segments must be cleaned all the same
                failures.append(error)
        if failures:
            raise failures[0]
        return count

    def _expire(self, path: Path, before: datetime.datetime) -> int:
        """Delete the old text of a closed segment, which is read again only when there is some."""
        size = path.stat().st_size
        known, oldest = self._looked_at.get(path, (-1, None))
        if known != size:
            oldest = _oldest_text(path)
            self._looked_at[path] = size, oldest
        return _strip(path, before) if _is_before(oldest, before) else 0


def segments(folder: Path) -> list[Path]:
    """All segments, oldest first."""
    found = [(match.groups(), path) for path in folder.glob("requests-*.jsonl") if (match := _NAME.match(path.name))]
    return [path for _, path in sorted(found, key=lambda one: (one[0][0], int(one[0][1]), int(one[0][2])))]


def read(folder: Path, *, since: datetime.datetime | None = None) -> Iterator[Logged]:
    """All records from `since` on, segment by segment; lines that a crash has torn, or without time, are left out."""
    for path in segments(folder):
        for record in _records(path):
            if since is None or _time(record) >= since:
                yield record


def beyond(folder: Path, known: Mapping[str, int]) -> Iterator[tuple[str, Logged]]:
    """(name of its segment, record) of all but the first `known[name]` records of each segment.

    What `read` leaves out does not count, so that the counts hold while lines are appended and old text is deleted.
    """
    for path in segments(folder):
        for record in itertools.islice(_records(path), known.get(path.name, 0), None):
            yield path.name, record


def latest(folder: Path) -> Iterator[Logged]:
    """All records, the newest first; what is not asked for is not read."""
    for path in reversed(segments(folder)):
        yield from reversed(list(_records(path)))


def _records(path: Path) -> Iterator[Logged]:
    return (record for record in _lines(path) if record is not None)


def _lines(path: Path) -> Iterator[Logged | None]:
    """The record of each line; None for one that is torn, or whose time is not ISO 8601 with a zone."""
    try:
        with path.open("rb") as lines:
            for line in lines:
                yield _record(line)
    except FileNotFoundError:
        return


def _record(line: bytes) -> Logged | None:
    try:
        record: Any = json.loads(line)
        return cast("Logged", record) if isinstance(record, dict) and _time(record).tzinfo is not None else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _time(record: Any) -> datetime.datetime:
    return datetime.datetime.fromisoformat(record["time"])


def _oldest_text(path: Path) -> datetime.datetime | None:
    """When the oldest text of a segment was written; None when it holds none."""
    unknown = datetime.datetime.min.replace(tzinfo=datetime.UTC)
    ages = [
        unknown if record is None else _time(record) for record in _lines(path) if record is None or _has_text(record)
    ]
    return min(ages, default=None)


def _has_text(record: Logged) -> bool:
    return not record.keys().isdisjoint(TEXT)


def _is_before(oldest: datetime.datetime | None, before: datetime.datetime) -> bool:
    return oldest is not None and oldest < before


def _strip(path: Path, before: datetime.datetime) -> int:
    count = 0
    kept = list(_records(path))
    for record in kept:
        if _time(record) < before and _has_text(record):
            count += 1
            for name in TEXT:
                record.pop(name, None)
    files.write_jsonl(path, kept)
    path.chmod(0o600)
    return count


def _in_use(path: Path) -> bool:
    """Whether a living process writes this segment: its lock dies with it."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False

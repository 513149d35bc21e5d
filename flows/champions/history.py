"""Who put which version live, when, why, and on what verdict: one JSON object a line, only ever appended.

Every line holds the sha256 of the line before it, and a small file beside it, the head, says how many lines there are
and what the last one is, so that a line that is changed or taken out anywhere is noticed (`moteur verify`). A line
counts when it is whole and on the disk; half a line, left by a crash, is passed over. The head is written after the
line: a crash between the two leaves a head that is one line behind, which is no fault.
"""

import getpass
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Literal

from pipelines.adapters import files, git
from pipelines.artifacts import State
from pipelines.errors import ArtifactError, ParamsError

PATH = State.PROMOTION.path / "history.jsonl"
HEAD = State.PROMOTION.path / "history.head.json"

Action = Literal["promote", "refuse", "rollback", "revert"]
LIVE: tuple[Action, ...] = ("promote", "rollback")
"""Actions after which `to_version` is live."""

RESTORE = (
    f"restore it and {HEAD.name} from a backup; without one, move both aside, and `moteur rollback --to VERSION` with"
    " the champion's number begins a new one"
)
SEAL = (
    "look through `moteur history`; when nothing is missing there, `moteur rollback --to VERSION` with the champion's"
    " number writes it again"
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One event."""

    id: str
    """The same event is never written twice."""
    time: str
    """ISO 8601, UTC."""
    who: str
    action: Action
    from_version: int | None
    """The champion before."""
    to_version: int
    """The champion after; of a refusal or reverted move, the version that did not become it."""
    manifest_sha256: str
    """Of `to_version`."""
    why: str
    verdict: str
    """What the gate said, in words; empty where nobody asked it."""
    verdict_sha256: str
    before: str = ""
    """SHA-256 of the line before, empty in the first."""

    @property
    def moment(self) -> datetime:
        """When, with its time zone."""
        return datetime.fromisoformat(self.time)


def someone(root: Path) -> str:
    """Who acts: git's user.name, or the login."""
    try:
        said = subprocess.run(
            ["git", "config", "user.name"],  # noqa: S607  the user's git
            cwd=root,
            env=git.environment(),
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        said = ""
    try:
        return said or getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def append(root: Path, entry: Entry, *, seal: bool = False) -> Entry:
    """Add an entry and bring it to the disk; one with the same id is left as it is. Returns the entry as it stands.

    What is missing at the end stays noticed: the entry is then chained to the line that should be there. With `seal` a
    person has looked at the history, and a head that is missing is written again.

    Call it under the lock of `flows.champions.succession`.
    """
    lines, path, head = list(_lines(root)), root / PATH, _head(root)
    wrong = _end(lines, head)
    for _, known in lines:
        if known.id == entry.id:
            if not wrong:
                _write_head(root, lines[-1][0], len(lines))
            return known
    before = head.sha256 if head and wrong else _sha256(lines[-1][0]) if lines else ""
    chained = Entry(**{**asdict(entry), "before": before})
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(asdict(chained), ensure_ascii=False).encode()
    with path.open("ab") as file:
        torn = file.tell() > 0 and not path.read_bytes().endswith(b"\n")
        file.write((b"\n" if torn else b"") + line + b"\n")
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(path.parent)
    if head or not wrong or seal:
        _write_head(root, line, len(lines) + 1)
    return chained


def _sha256(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Head:
    """Where the history ends."""

    entries: int
    sha256: str
    """Of the last line."""


def _head(root: Path) -> Head | None:
    """None when it is missing, or is none."""
    try:
        head = Head(**files.read_json(root / HEAD))
    except (ArtifactError, TypeError):
        return None
    return head if type(head.entries) is int and head.entries > 0 and isinstance(head.sha256, str) else None


def _write_head(root: Path, line: bytes, entries: int) -> None:
    files.write_json(root / HEAD, asdict(Head(entries=entries, sha256=_sha256(line))))


def _end(lines: Sequence[tuple[bytes, Entry]], head: Head | None) -> str:
    """How the end of the history differs from what the head says; empty where it does not, or is ahead of it."""
    if head is None:  # the first entry may have been written before a crash, and no head
        return f"{HEAD} is missing or torn, so nothing says where {PATH} ends" if len(lines) > 1 else ""
    missing = head.entries - len(lines)
    if missing > 0:
        verb = "is" if missing == 1 else "are"
        return f"{PATH}: the last {missing} of {head.entries} entries {verb} missing"
    if _sha256(lines[head.entries - 1][0]) != head.sha256:
        return f"{PATH}: entry {head.entries} is not the one that was written there"
    return ""


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(root: Path) -> list[Entry]:
    """Every entry, oldest first."""
    return [entry for _, entry in _lines(root)]


def _lines(root: Path) -> Iterator[tuple[bytes, Entry]]:
    try:
        content = (root / PATH).read_bytes()
    except FileNotFoundError:
        return
    for line in content.split(b"\n"):
        try:
            yield line, Entry(**json.loads(line))
        except (ValueError, TypeError):
            continue


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something because of which the records of who is champion cannot be believed."""

    bad: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.bad}: {self.remedy}"


def faults(root: Path) -> list[Fault]:
    """Where the chain of lines is broken, and what is missing at its end."""
    lines, head = list(_lines(root)), _head(root)
    found, before = [], ""
    for line, entry in lines:
        if entry.before != before:
            bad = (
                f"{PATH}: what stood before the entry of {entry.time} ({entry.action} {entry.to_version}) was changed"
                " or taken out"
            )
            found.append(Fault(bad=bad, remedy=RESTORE))
        before = _sha256(line)
    if wrong := _end(lines, head):
        found.append(Fault(bad=wrong, remedy=RESTORE if head else SEAL))
    return found


@dataclass(frozen=True, kw_only=True)
class Reign:
    """A version was live from one event to the next."""

    version: int
    start: datetime
    end: datetime | None
    """None: to this day."""
    entry: Entry


def reigns(entries: Sequence[Entry]) -> list[Reign]:
    """Who was live from when to when, oldest first.

    The order of the file counts. A clock that was set back does not make time run backwards: an event is not earlier
    than the one before it.
    """
    events: list[tuple[datetime, Entry]] = []
    for entry in entries:
        if entry.action in LIVE:
            moment = max(entry.moment, events[-1][0]) if events else entry.moment
            events.append((moment, entry))
    ends: list[datetime | None] = [moment for moment, _ in events]
    return [
        Reign(version=entry.to_version, start=start, end=end, entry=entry)
        for (start, entry), end in zip(events, [*ends[1:], None][: len(events)], strict=True)
    ]


def live_during(found: Sequence[Reign], start: datetime, end: datetime) -> list[Reign]:
    """The reigns that overlap [start, end), empty ones left out; `start == end` asks about one moment."""
    last = max(end, start + timedelta(microseconds=1))
    return [
        reign
        for reign in found
        if reign.start < last and (reign.end is None or (reign.end > start and reign.end > reign.start))
    ]


FORMATS = ("%d %B %Y", "%d %b %Y", "%B %d %Y", "%b %d %Y", "%d.%m.%Y")
YEARLESS = ("%d %B", "%d %b", "%B %d", "%b %d")


def period(text: str, today: date, option: str = "--at") -> tuple[datetime, datetime]:
    """The day or moment that `text`, given by `option`, means, in the time zone of this machine, as [start, end).

    Reads 2026-03-03, 2026-03-03T14:05 (with or without a zone), 3 March 2026, 3.3.2026, and 3 March: the last one that
    has been.

    Raises:
        ParamsError: for anything else.
    """
    words = " ".join(text.replace(",", " ").split())
    if (day := _day(words, today)) is not None:
        start = datetime.combine(day, time()).astimezone()
        return start, datetime.combine(day + timedelta(days=1), time()).astimezone()
    try:
        moment = datetime.fromisoformat(words)
    except ValueError:
        raise ParamsError(f"{option} {text}: give a day (2026-03-03, 3 March) or a moment (2026-03-03T14:05)") from None
    moment = moment if moment.tzinfo else moment.astimezone()
    return moment, moment


def _day(words: str, today: date) -> date | None:
    try:
        return date.fromisoformat(words)
    except ValueError:
        pass
    for form in FORMATS:
        if (found := _parsed(words, form)) is not None:
            return found
    for form in YEARLESS:
        for year in range(today.year, today.year - 8, -1):
            found = _parsed(f"{words} {year}", f"{form} %Y")
            if found is not None and found <= today:
                return found
    return None


def _parsed(words: str, form: str) -> date | None:
    try:
        return datetime.strptime(words, form).date()  # noqa: DTZ007  a day has no zone
    except ValueError:
        return None


def entry_from(values: Any, where: Path) -> Entry:
    """An entry out of JSON.

    Raises:
        ArtifactError: when it is none.
    """
    try:
        return Entry(**values)
    except TypeError as error:
        raise ArtifactError(f"{where} holds no entry of the history ({error}).") from None

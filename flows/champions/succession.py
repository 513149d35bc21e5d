"""Who is champion: the aliases are moved here and nowhere else, one move at a time, and a crash never leaves two of it.

MLflow moves one alias with one write and has nothing that moves three together. So a move first writes down what it is
about to do (the journal, on the disk before the first alias), then does it, then enters it in the history, and then
takes the journal away. Whoever comes next and finds a journal finishes the move, or takes it back when the new champion
cannot be loaded. Between any two writes `champion` names one version whose copy has been hashed.
"""

import uuid
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flows.champions import history
from flows.champions.history import Action, Entry, Fault
from pipelines.adapters import files, locks
from pipelines.adapters.registry import Alias, Registry, Version
from pipelines.artifacts import State
from pipelines.errors import ArtifactError, ResourceError

JOURNAL = State.PROMOTION.path / "journal.json"
LOCK = State.PROMOTION.path / "lock"
WITHDRAWN = "withdrawn"
"""Tag of a version that was rolled back: why, and when."""

WAIT_SECONDS = 60.0
"""A move takes a second or two; who waits longer than this waits for something that hangs."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One write to the registry."""

    alias: Alias
    version: int | None
    """None: the alias is taken away."""


@dataclass(frozen=True, kw_only=True)
class Move:
    """One change of champion, as the journal holds it."""

    entry: Entry
    """What the history will say."""
    before: dict[str, int]
    """Alias -> version."""
    steps: tuple[Step, ...]
    """In the order in which they are done."""
    tags: dict[int, dict[str, str]] = field(default_factory=dict)
    """Version -> tags that it gets."""


class ChampionMovedError(Exception):
    """The champion is no longer the one that the move was prepared against."""

    def __init__(self, champion: int | None) -> None:
        super().__init__(f"the champion is now {champion}")
        self.champion = champion


def holding(root: Path, wait: float = WAIT_SECONDS) -> AbstractContextManager[None]:
    """Hold the lock of all moves.

    Raises:
        ResourceError: when another process holds it for longer than `wait` seconds.
    """
    path = root / LOCK

    def busy(_holder: str) -> ResourceError:
        return ResourceError(
            f"another promotion or rollback has held {path} for {wait:g} s: see what it is doing, end it, and run the"
            " command again; what it left half done is then finished."
        )

    return locks.holding(path, wait=wait, busy=busy)


def entry(
    version: Version,
    action: Action,
    *,
    champion: int | None,
    who: str,
    why: str,
    verdict: str = "",
    verdict_sha256: str = "",
) -> Entry:
    """What the history says about an event now."""
    return Entry(
        id=uuid.uuid4().hex,
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        who=who,
        action=action,
        from_version=champion,
        to_version=version.number,
        manifest_sha256=version.manifest_sha256,
        why=why,
        verdict=verdict,
        verdict_sha256=verdict_sha256,
    )


def crown(registry: Registry, root: Path, event: Entry) -> Entry:
    """Make the challenger `event.to_version` champion; the champion becomes the previous one. Hold the lock.

    Raises:
        ChampionMovedError: when the champion is not `event.from_version`.
        ArtifactError: when the version cannot be loaded.
    """
    aliases = _prepared(registry, root, event)
    steps = [Step(alias="champion", version=event.to_version)]
    if event.from_version is not None:
        steps.insert(0, Step(alias="previous_champion", version=event.from_version))
    if aliases.get("challenger") == event.to_version:
        steps.append(Step(alias="challenger", version=None))
    tags = _pardoned(registry, event.to_version)
    return _do(registry, root, Move(entry=event, before=aliases, steps=tuple(steps), tags=tags))


def restore(registry: Registry, root: Path, event: Entry, *, previous: int | None) -> Entry:
    """Make an earlier version champion again; the one that leaves is marked as withdrawn. Hold the lock.

    Raises:
        ChampionMovedError, ArtifactError: as in `crown`.
    """
    aliases = _prepared(registry, root, event)
    steps = [Step(alias="champion", version=event.to_version)]
    if previous is not None or "previous_champion" in aliases:
        steps.append(Step(alias="previous_champion", version=previous))
    if aliases.get("challenger") in (event.from_version, event.to_version) and "challenger" in aliases:
        steps.append(Step(alias="challenger", version=None))
    tags = _pardoned(registry, event.to_version)
    if event.from_version is not None:
        tags[event.from_version] = {WITHDRAWN: f"{event.time[:16]} UTC by {event.who}: {event.why}"}
    return _do(registry, root, Move(entry=event, before=aliases, steps=tuple(steps), tags=tags))


def _pardoned(registry: Registry, version: int) -> dict[int, dict[str, str]]:
    """The mark of a version that was rolled back is taken off when it is made champion all the same."""
    return {version: {WITHDRAWN: ""}} if registry.version(version).tags.get(WITHDRAWN) else {}


def _prepared(registry: Registry, root: Path, event: Entry) -> dict[str, int]:
    recover(registry, root)
    aliases = registry.aliases()
    if aliases.get("champion") != event.from_version:
        raise ChampionMovedError(aliases.get("champion"))
    loadable(registry, event.to_version)
    return aliases


def loadable(registry: Registry, version: int) -> None:
    """Fetch and hash a version.

    Raises:
        ArtifactError: when it cannot be loaded.
    """
    with TemporaryDirectory(prefix="moteur-succession-") as scratch:
        registry.fetch(version, Path(scratch) / "release")


def _do(registry: Registry, root: Path, move: Move) -> Entry:
    files.write_json(root / JOURNAL, _written(move))
    try:
        return _finish(registry, root, move)
    except ResourceError as error:
        raise ResourceError(
            f"{error} The move to version {move.entry.to_version} has begun, and it may be champion already: the next"
            " `moteur promote`, `rollback` or `verify` that reaches the registry finishes it."
        ) from None


def _finish(registry: Registry, root: Path, move: Move) -> Entry:
    """Every write may be done again, so that it does not matter after which one the last attempt stopped."""
    for step in move.steps:
        _set(registry, step)
    for number, tags in move.tags.items():
        for name, value in tags.items():
            registry.set_tag(number, name, value)
    return _close(root, move.entry)


def _set(registry: Registry, step: Step) -> None:
    if registry.aliases().get(step.alias) != step.version:
        registry.set_alias(step.alias, step.version)


def _close(root: Path, event: Entry) -> Entry:
    written = history.append(root, event)
    (root / JOURNAL).unlink(missing_ok=True)
    return written


def recover(registry: Registry, root: Path) -> str | None:
    """Finish or take back a move that was cut off; say what was done, None when there was nothing. Hold the lock.

    It always comes to an end, so that a rollback never waits for a version that is lost.

    Raises:
        ArtifactError: when the journal is torn.
    """
    if not (root / JOURNAL).exists():
        return None
    move = _read(root / JOURNAL)
    target, before = move.entry.to_version, move.before.get("champion")
    champion = registry.aliases().get("champion")
    if champion not in (target, before):
        why = f"meanwhile somebody made version {champion} champion, so the move to {target} was left"
        return _reverted(root, move, why)
    try:
        loadable(registry, target)
    except ArtifactError as error:
        _take_back(registry, move)
        return _reverted(root, move, f"version {target} could not be loaded: {error}")
    _finish(registry, root, move)
    return f"Finished a move that had been cut off: version {target} is champion."


def _take_back(registry: Registry, move: Move) -> None:
    """Set the aliases as they were; one whose version was deleted meanwhile, to none."""
    there = {version.number for version in registry.versions()}
    aliases: list[Alias] = ["champion", *(step.alias for step in move.steps if step.alias != "champion")]
    for alias in aliases:
        before = move.before.get(alias)
        _set(registry, Step(alias=alias, version=before if before in there else None))


def _reverted(root: Path, move: Move, why: str) -> str:
    event = replace(move.entry, id=f"{move.entry.id}-reverted", action="revert", why=why)
    _close(root, event)
    return f"Took back a move that had been cut off: {why}."


def _written(move: Move) -> dict[str, Any]:
    return {**asdict(move), "tags": {str(number): tags for number, tags in move.tags.items()}}


def _read(path: Path) -> Move:
    values = files.read_json(path)
    try:
        return Move(
            entry=history.entry_from(values["entry"], path),
            before=dict(values["before"]),
            steps=tuple(Step(**step) for step in values["steps"]),
            tags={int(number): dict(tags) for number, tags in values["tags"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(
            f"{path} is torn ({type(error).__name__}: {error}). `moteur history` and the registry say who is champion:"
            " remove the file when they agree."
        ) from None


def faults(root: Path, champion: int | None) -> list[Fault]:
    """Why the records of who is champion cannot be believed. Hold the lock: a move writes one after the other."""
    found = history.faults(root)
    last = earlier(history.read(root), ())
    if last != champion:
        found.append(
            Fault(
                bad=f"the history says that version {last} is live, the registry says {champion}",
                remedy="find out who moved the alias; `moteur rollback --to VERSION` sets it and records it",
            )
        )
    return found


def earlier(entries: Sequence[Entry], leave_out: Collection[int | None]) -> int | None:
    """The version that was champion last, apart from those in `leave_out`."""
    for reign in reversed(history.reigns(entries)):
        if reign.version not in leave_out:
            return reign.version
    return None

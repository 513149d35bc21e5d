"""From a release on the disk to the champion: register, examine beside the champion, judge, move the aliases.

`register` copies the release into the registry with its lineage and its exam. `promote` lets challenger and champion
sit the challenger's exam, each in a sandbox process, holds the outcome against the gate, keeps the verdict with the
version, and only then makes it champion. `rollback` takes an earlier champion back; it hashes it, but asks it nothing,
and takes seconds. Examining takes minutes and holds no lock, so that a rollback never waits for it; when the champion
has changed meanwhile, the comparison is made again with the new one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flows.champions import history, succession, verification
from flows.champions.gate import Examine, Gate, Say
from flows.champions.history import Action, Entry
from flows.champions.succession import WITHDRAWN, ChampionMovedError
from pipelines.adapters import exams, files, lineage
from pipelines.adapters.alerts import Outbox
from pipelines.adapters.registry import RESEAT, Registry, Version, open_registry
from pipelines.artifacts import Artifact, State
from pipelines.core.judging import cards
from pipelines.errors import ArtifactError, ResourceError
from pipelines.params import Params

ROUNDS = 4
"""A champion that changes more often than this while one challenger is examined is a sign that something is wrong."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a promotion or rollback came to."""

    version: int
    moved: bool
    """It is champion now and was not before."""
    already: bool = False
    """It was champion before, and is."""
    words: str
    entry: Entry | None
    """What the history says; None where there was nothing to do."""
    verdict: dict[str, Any] | None = None
    """The verdict as it is kept with the version."""


def register(root: Path, *, source: Path | None = None, say: Say = print) -> Version:
    """Copy the release of the workspace `source` into the registry of `root`, with lineage and exam, as the challenger.

    The exam is drawn from the data of `source`, and is as large as the `promotion` of `root` wants it.

    Raises:
        ArtifactError: when the release, or anything that DVC recorded about it, is not what it was.
        DataError: when the workspace has no exam to draw.
        ResourceError: when MLflow does not answer.
    """
    place = source or root
    settings = _params(root).promotion  # what is judged does not set how it is judged
    bad = [finding for finding in verification.workspace(place) if finding.bad]
    if bad:
        raise ArtifactError(
            f"{len(bad)} things in {place} are not what was recorded, so nothing is registered:\n  "
            + "\n  ".join(f"{finding.bad}; {finding.remedy}" for finding in bad)
        )
    found = open_registry(root=root)
    with TemporaryDirectory(prefix="moteur-exam-") as scratch:
        exam = Path(scratch) / exams.NAME
        exams.draw(
            place / Artifact.VALIDATED,
            exam,
            examples_per_task=settings.examples_per_task,
            documents=settings.documents,
        )
        version = found.register(place / Artifact.RELEASE, tags(place), exam=exam)
    with succession.holding(root):
        succession.recover(found, root)
        if version.number not in found.aliases().values():
            found.set_alias("challenger", version.number)
    say(f"Version {version.number} is {Artifact.RELEASE} with manifest sha256 {version.manifest_sha256[:12]}...")
    return version


def _params(place: Path) -> Params:
    from pipelines.stage import load_params

    return load_params(place / "params.yaml")


def tags(place: Path) -> dict[str, str]:
    """What is known about the release of a workspace: commit, dvc.lock, data, headline figures."""
    code = lineage.code_version(place)
    figures = files.read_json(place / Artifact.RELEASE / "figures.json")
    data = {
        path: md5
        for entry in lineage.locked(place).values()
        for path, md5 in entry["outs"].items()
        if path.startswith("data/")
    }
    return {
        "git.commit": str(code["commit"]),
        "git.dirty": str(code["dirty"]).lower(),
        "dvc.lock": lineage.lock_hash(place),
        **{f"data.{path}": md5 for path, md5 in data.items()},
        **{
            f"figure.{stage}.{name}": cards.written(value)
            for stage, found in cards.headlines(figures).items()
            for name, value in found.items()
            if value is not None
        },
    }


def promote(
    root: Path,
    *,
    version: int | None = None,
    source: Path | None = None,
    who: str | None = None,
    why: str = "",
    again: bool = False,
    say: Say = print,
    examine: Examine | None = None,
) -> Outcome:
    """Gate a version and, when it passes, make it champion.

    Args:
        root: The workspace whose registry, journal and history are used.
        version: A registered version; None: the release of `source` is registered first.
        source: The workspace with the release and its data; the gate is that of `root`. Default: `root`.
        who: For the history. Default: git's user.name, or the login.
        why: For the history.
        again: Let a version stand that was rolled back before.
        say: Told what goes on, a line at a time.
        examine: How a release sits an exam. Default: in a sandbox process.

    Raises:
        ArtifactError: when the version does not exist, or the workspace's release is not what was recorded.
        ResourceError: when MLflow does not answer; a move that had begun is finished by the next command.
    """
    number = version if version is not None else register(root, source=source, say=say).number
    found = open_registry(root=root)
    params = _params(root)  # a profile of the source does not set its own gate
    gate = Gate(found, params, examine, say)
    for _ in range(ROUNDS):
        with succession.holding(root):
            if done := succession.recover(found, root):
                say(done)
            challenger, champion = found.version(number), found.alias("champion")
            faults = [str(fault) for fault in succession.faults(root, champion.number if champion else None)]
        if champion is not None and champion.number == number:
            return _stands(found, champion, gate, faults)
        document = gate.judge(challenger, champion, faults, again=again)
        record = _Record(who=who or history.someone(root), why=why, document=document)
        try:
            with succession.holding(root):
                return _settle(found, root, challenger, champion, record)
        except ChampionMovedError as moved:
            say(f"The champion has changed to version {moved.champion}: the comparison is made again.")
    raise ResourceError(
        f"the champion changed {ROUNDS} times while version {number} was examined: see `moteur history`, and run"
        f" `moteur promote {number}` when it is quiet."
    )


def _stands(found: Registry, champion: Version, gate: Gate, faults: Sequence[str]) -> Outcome:
    """The champion is to be promoted: nothing to do, unless its verdict was lost, without which nobody follows it.

    Raises:
        ArtifactError: when it cannot be loaded, or has no exam that it could be asked again.
    """
    number = champion.number
    succession.loadable(found, number)
    words = f"Version {number} is champion already."
    try:
        known = found.read_verdict(number)
    except ArtifactError:
        known = None
    if known is not None:
        return Outcome(version=number, moved=False, already=True, words=words, entry=None)
    document = gate.judge(champion, None, faults, again=True)
    if not document["exam_sha256"]:
        raise ArtifactError(f"{words} It has neither verdict nor exam: {document['words']} {RESEAT}")
    found.write_verdict(number, document)
    words = f"{words} Its verdict was lost, so it was judged again. {document['words']}"
    return Outcome(version=number, moved=False, already=True, words=words, entry=None, verdict=document)


@dataclass(frozen=True, kw_only=True)
class _Record:
    who: str
    why: str
    document: dict[str, Any]

    def entry(self, challenger: Version, champion: Version | None, action: Action) -> Entry:
        return succession.entry(
            challenger,
            action,
            champion=champion.number if champion else None,
            who=self.who,
            why=self.why,
            verdict=self.document["words"],
            verdict_sha256=self.document["sha256"],
        )


def _settle(found: Registry, root: Path, challenger: Version, champion: Version | None, record: _Record) -> Outcome:
    """Keep the verdict; then move the aliases, or enter the refusal. Under the lock."""
    document, number = record.document, challenger.number
    succession.recover(found, root)
    now = found.aliases()
    if now.get("champion") != (champion.number if champion else None):
        raise ChampionMovedError(now.get("champion"))
    found.write_verdict(number, document)
    if document["passed"]:
        if document["manifest_sha256"] != found.version(number).manifest_sha256:
            raise ArtifactError(f"version {number} was changed after it was gated: nothing was promoted.")
        written = succession.crown(found, root, record.entry(challenger, champion, "promote"))
        before = f" in place of version {champion.number}" if champion else ", the first one"
        words = f"Version {number} is champion{before}. {document['words']}"
        return Outcome(version=number, moved=True, words=words, entry=written, verdict=document)
    written = history.append(root, record.entry(challenger, champion, "refuse"))
    if now.get("challenger") == number:
        found.set_alias("challenger", None)
    words = f"Version {number} is refused. {document['words']}"
    return Outcome(version=number, moved=False, words=words, entry=written, verdict=document)


def rollback(
    root: Path,
    *,
    to: int | None = None,
    of: int | None = None,
    who: str | None = None,
    why: str = "",
    say: Say = print,
) -> Outcome:
    """Make an earlier champion champion again; the one that leaves is marked, and the gate refuses it from then on.

    Args:
        root: The workspace whose registry, journal and history are used.
        to: A version that once passed the gate. Default: the previous champion.
        of: Roll back only while this version is champion; for whoever acts on what it saw a moment ago.
        who: For the history. Default: git's user.name, or the login.
        why: For the history and the mark.
        say: Told what goes on.

    Raises:
        ArtifactError: when there is no champion or nothing to go back to, or the version cannot be loaded or never
            passed.
        ResourceError: when MLflow does not answer.
    """
    found = open_registry(root=root)
    with succession.holding(root):
        if done := succession.recover(found, root):
            say(done)
        champion = found.aliases().get("champion")
        if champion is None and to is None:
            raise ArtifactError(
                "there is no champion to roll back: `moteur promote` makes one, and `moteur rollback --to VERSION`"
                " takes one back that was live."
            )
        if of is not None and champion != of:
            words = f"Version {champion} is champion, not {of}: nothing was rolled back."
            return Outcome(version=champion or of, moved=False, words=words, entry=None)
        entries = history.read(root)
        target = found.version(_target(found, entries, champion, to))
        faults = succession.faults(root, champion)
        if target.number == champion and not faults:
            return Outcome(version=champion, moved=False, words=f"Version {champion} is champion already.", entry=None)
        _refuse_ungated(target, entries)
        event = succession.entry(
            target,
            "rollback",
            champion=champion,
            who=who or history.someone(root),
            why=why or "no reason given",
            verdict=target.tags.get("gate.words", ""),
            verdict_sha256=target.tags.get("gate.verdict_sha256", ""),
        )
        if target.number == champion:
            return _confirmed(found, root, event, entries)
        previous = succession.earlier(entries, _withdrawn(found) | {champion, target.number})
        written = succession.restore(found, root, event, previous=previous)
    words = f"Version {target.number} is champion again{f'; version {champion} is withdrawn' if champion else ''}."
    title = f"Version {champion} was rolled back" if champion else f"Version {target.number} is champion again"
    Outbox(root / State.ALERTS).put(f"rollback/{written.id}", title, f"{words} By {written.who}: {written.why}.")
    return Outcome(version=target.number, moved=True, words=words, entry=written)


def _confirmed(found: Registry, root: Path, event: Entry, entries: Sequence[Entry]) -> Outcome:
    """Somebody stands for the champion that the registry names, where the history said otherwise. Hold the lock."""
    succession.loadable(found, event.to_version)
    written = history.append(root, replace(event, from_version=succession.earlier(entries, ())), seal=True)
    left = "".join(f" {fault}." for fault in succession.faults(root, event.to_version))
    words = f"Version {event.to_version} is champion, and the history says so now.{left}"
    return Outcome(version=event.to_version, moved=False, words=words, entry=written)


def _target(found: Registry, entries: Sequence[Entry], champion: int | None, to: int | None) -> int:
    if to is not None:
        return to
    previous = found.aliases().get("previous_champion")
    if previous is None or previous == champion:
        previous = succession.earlier(entries, _withdrawn(found) | {champion})
    if previous is None:
        raise ArtifactError(
            f"version {champion} has no predecessor to go back to: name one that passed the gate,"
            " `moteur rollback --to VERSION`."
        )
    return previous


def _withdrawn(found: Registry) -> set[int]:
    return {version.number for version in found.versions() if version.tags.get(WITHDRAWN)}


def _refuse_ungated(target: Version, entries: Sequence[Entry]) -> None:
    """A release that was live once may come back, in any copy, whatever the gate says of it beside a later one."""
    was_live = any(
        reign.version == target.number or reign.entry.manifest_sha256 == target.manifest_sha256
        for reign in history.reigns(entries)
    )
    if target.tags.get("gate.verdict") != "passed" and not was_live:
        raise ArtifactError(
            f"version {target.number} never passed the gate, so it cannot go live by a rollback: `moteur promote"
            f" {target.number}` asks the gate."
        )

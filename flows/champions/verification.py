"""`moteur verify`: hash again what was made, kept and promoted; name every bad object and how to mend it."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from flows import terminal
from flows.champions import history, succession
from pipelines.adapters import cache, files, release
from pipelines.adapters.registry import ALIASES, Registry, is_made, open_registry
from pipelines.artifacts import Artifact
from pipelines.errors import ArtifactError


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One place that was looked at."""

    place: str
    bad: str
    """What is wrong; empty where all is well."""
    remedy: str = ""


def workspace(root: Path, *, mend: bool = False) -> list[Finding]:
    """DVC's cache and the release in the workspace."""
    return [*dvc(root, mend=mend), *bundle(root)]


def dvc(root: Path, *, mend: bool = False) -> list[Finding]:
    """The objects that dvc.lock needs; with `mend` bad ones are replaced where a good copy is found."""
    try:
        faults = cache.check(root)
        count = len(cache.outs(root))
    except ArtifactError as error:
        return [Finding(place="DVC's cache", bad=str(error), remedy="see there")]
    if mend and faults:
        left = cache.mend(root, faults)
        return [_object(fault, again=True) for fault in left] or [
            Finding(place=f"DVC's cache: bad objects were replaced, {count} outputs are whole", bad="")
        ]
    return [_object(fault) for fault in faults] or [Finding(place=f"DVC's cache: {count} outputs", bad="")]


def _object(fault: cache.Fault, *, again: bool = False) -> Finding:
    rerun = f"`moteur run --from {fault.item.stage}` makes it again"
    remedy = (
        f"taken out of the cache, for no good copy was found: {rerun}"
        if again
        else f"`moteur verify --mend`, or {rerun}"
    )
    return Finding(place="DVC's cache", bad=str(fault), remedy=remedy)


def bundle(root: Path) -> list[Finding]:
    """models/release against its manifest, and the manifest against the report and dvc.lock."""
    folder, name = root / Artifact.RELEASE, Artifact.RELEASE.value
    remedy = "`moteur run --from deployment` makes it again"
    if not folder.is_dir():
        return [Finding(place=name, bad=f"{name} is missing", remedy="`moteur run` makes it")]
    try:
        bad = release.verify(folder)
        reported = files.read_json(root / Artifact.DEPLOYMENT_REPORT).get("manifest_sha256")
        if reported != files.sha256(folder / release.MANIFEST):
            bad.append(f"its manifest is not the one of {Artifact.DEPLOYMENT_REPORT}")
        recorded = {item.path: item.md5 for item in cache.outs(root)}.get(name)
        if not bad and recorded != cache.digest(folder):
            bad.append("it is not the one that dvc.lock records")
    except ArtifactError as error:
        bad = [str(error)]
    return [Finding(place=name, bad=text, remedy=remedy) for text in bad] or [Finding(place=name, bad="")]


def registry(found: Registry, root: Path, *, every: bool = False, mend: bool = False) -> list[Finding]:
    """The copies behind the aliases (or of every version), their verdicts, and the history against the registry.

    With `mend` a bad copy is replaced where an intact one of the same release is found.
    """
    with succession.holding(root):
        aliases = found.aliases()
        told = _history(root, aliases.get("champion"))
    names: dict[int, list[str]] = {}
    for alias in ALIASES:
        if alias in aliases:
            names.setdefault(aliases[alias], []).append(alias)
    if every:
        for version in found.versions():
            names.setdefault(version.number, [])
    return [*(_version(found, root, number, known, mend=mend) for number, known in sorted(names.items())), *told]


def _version(found: Registry, root: Path, number: int, aliases: list[str], *, mend: bool) -> Finding:
    place = f"registry, version {number}" + (f" ({', '.join(aliases)})" if aliases else "")
    try:
        succession.loadable(found, number)
    except ArtifactError as error:
        if not (source := _replaced(found, root, number) if mend else None):
            other = "no intact copy was found: make this release again and repeat this" if mend else MEND
            return Finding(place=place, bad=str(error), remedy=f"{other}, or `moteur rollback --to VERSION`")
        place += f": its copy was replaced by the one in {source}"
    try:
        found.read_verdict(number)
    except ArtifactError as error:
        return Finding(place=place, bad=str(error), remedy=f"`moteur promote {number}` asks the gate again")
    return Finding(place=place, bad="")


MEND = "`moteur verify --mend`"


def _replaced(found: Registry, root: Path, number: int) -> str | None:
    """Put an intact copy of the same release in the place of a bad one; say where it was, None when there is none."""
    try:
        digest = found.version(number).manifest_sha256
    except ArtifactError:
        return None
    with TemporaryDirectory(prefix="moteur-verify-") as scratch:
        for source, copy in _copies(found, root, number, digest, Path(scratch) / "release"):
            try:
                found.replace(number, copy)
            except ArtifactError:
                continue
            return source
    return None


def _copies(found: Registry, root: Path, number: int, digest: str, scratch: Path) -> Iterator[tuple[str, Path]]:
    """Places that may hold the release with this manifest, and a folder with what they hold."""
    yield Artifact.RELEASE.value, root / Artifact.RELEASE
    for other in found.versions():
        if other.number != number and other.manifest_sha256 == digest:
            with suppress(ArtifactError):
                yield f"version {other.number}", found.fetch(other.number, scratch)
    for objects in cache.folders(root):
        manifest = objects.get(release.MANIFEST)
        if manifest and manifest.is_file() and files.sha256(manifest) == digest:
            shutil.rmtree(scratch, ignore_errors=True)
            for name in [*release.listed(manifest), release.MANIFEST]:
                with suppress(OSError, KeyError):
                    (scratch / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(objects[name], scratch / name)
            yield "DVC's cache", scratch


def _history(root: Path, champion: int | None) -> list[Finding]:
    count = len(history.read(root))
    return [
        Finding(place=str(history.PATH), bad=fault.bad, remedy=fault.remedy)
        for fault in succession.faults(root, champion)
    ] or [Finding(place=f"{history.PATH}: {count} {'entry' if count == 1 else 'entries'}", bad="")]


def show(root: Path, *, mend: bool, every: bool) -> int:
    """Look at everything, print it, and return how many things are bad."""
    console = terminal.console()
    bad = sum(_say(console, finding) for finding in workspace(root, mend=mend))
    if is_made(root):
        found = open_registry(root=root)
        findings = [*_unfinished(found, root, console), *registry(found, root, every=every, mend=mend)]
        bad += sum(_say(console, finding) for finding in findings)
    else:
        _say(console, Finding(place="registry: nothing has been registered yet", bad=""))
    console.print("Everything is as it was recorded." if not bad else f"{bad} bad.")
    return bad


def _unfinished(found: Registry, root: Path, console: Console) -> list[Finding]:
    """Finish a move that was cut off."""
    try:
        with succession.holding(root):
            if done := succession.recover(found, root):
                console.print(done, markup=False, soft_wrap=True)
    except ArtifactError as error:
        return [Finding(place=str(succession.JOURNAL), bad=str(error), remedy="see there")]
    return []


def _say(console: Console, finding: Finding) -> bool:
    if finding.bad:
        console.print(f"bad   {finding.bad}", style="red", markup=False, soft_wrap=True)
        console.print(f"      mend: {finding.remedy}", markup=False, soft_wrap=True)
    else:
        console.print(f"good  {finding.place}", markup=False, soft_wrap=True)
    return bool(finding.bad)

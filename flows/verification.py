"""`moteur verify`: hash again what was made, kept and promoted; name every bad object and how to mend it."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from flows import history, succession
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
            Finding(place=f"DVC's cache: {len(faults)} objects replaced, {count} outputs whole", bad="")
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


def registry(found: Registry, root: Path, *, every: bool = False) -> list[Finding]:
    """The copies behind the aliases (or of every version), their verdicts, and the history against the registry."""
    aliases = found.aliases()
    names: dict[int, list[str]] = {}
    for alias in ALIASES:
        if alias in aliases:
            names.setdefault(aliases[alias], []).append(alias)
    if every:
        for version in found.versions():
            names.setdefault(version.number, [])
    findings = [_version(found, number, known) for number, known in sorted(names.items())]
    return [*findings, *_history(root, aliases.get("champion"))]


def _version(found: Registry, number: int, aliases: list[str]) -> Finding:
    place = f"registry, version {number}" + (f" ({', '.join(aliases)})" if aliases else "")
    try:
        succession.loadable(found, number)
        found.read_verdict(number)
    except ArtifactError as error:
        other = "`moteur rollback`" if "champion" in aliases else "register the release again with `moteur promote`"
        return Finding(place=place, bad=str(error), remedy=other)
    return Finding(place=place, bad="")


def _history(root: Path, champion: int | None) -> list[Finding]:
    place = str(history.PATH)
    bad = history.faults(root)
    entries = history.read(root)
    reigns = history.reigns(entries)
    last = reigns[-1].version if reigns else None
    if last != champion:
        bad.append(f"the history says that version {last} is live, the registry says {champion}")
    remedy = "find out who moved the alias; `moteur rollback --to VERSION` sets it and records it"
    return [Finding(place=place, bad=text, remedy=remedy) for text in bad] or [
        Finding(place=f"{place}: {len(entries)} {'entry' if len(entries) == 1 else 'entries'}", bad="")
    ]


def show(root: Path, *, mend: bool, every: bool) -> int:
    """Look at everything, print it, and return how many things are bad."""
    console = Console(highlight=False)
    bad = sum(_say(console, finding) for finding in workspace(root, mend=mend))
    if is_made(root):
        found = open_registry(root=root)
        with succession.holding(root):
            if done := succession.recover(found, root):
                console.print(done, markup=False, soft_wrap=True)
        bad += sum(_say(console, finding) for finding in registry(found, root, every=every))
    else:
        _say(console, Finding(place="registry: nothing has been registered yet", bad=""))
    console.print("Everything is as it was recorded." if not bad else f"{bad} bad. Nothing is promoted meanwhile.")
    return bad


def _say(console: Console, finding: Finding) -> bool:
    if finding.bad:
        console.print(f"bad   {finding.bad}", style="red", markup=False, soft_wrap=True)
        console.print(f"      mend: {finding.remedy}", markup=False, soft_wrap=True)
    else:
        console.print(f"good  {finding.place}", markup=False, soft_wrap=True)
    return bool(finding.bad)

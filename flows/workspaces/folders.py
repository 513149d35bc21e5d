"""Workspaces: a folder of its own for a run with a profile, with the code copied and DVC's cache shared.

The checkout stays as it is: params.yaml is merged in the copy, and outputs appear there. A second run brings the copy
up to date and keeps what was made.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from flows.workspaces import profiles
from pipelines.adapters import files, git, lineage, yaml_text
from pipelines.artifacts import Artifact, State
from pipelines.errors import ParamsError, ResourceError

MADE = "# Made by `moteur run --profile`"
"""How a params.yaml begins that the next run with its profile writes again."""
SOURCES, BY_PEOPLE = "data/sources", (Artifact.FEEDBACK_BY_PEOPLE,)
NEVER = {".git", ".venv", ".moteur", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}


def find(start: Path) -> Path:
    """The folder at or above `start` that holds dvc.yaml and params.yaml.

    Raises:
        ParamsError: when there is none.
    """
    for folder in [start.resolve(), *start.resolve().parents]:
        if (folder / "dvc.yaml").is_file() and (folder / "params.yaml").is_file():
            return folder
    raise ParamsError(
        f"{start.resolve()} is not in a Moteur checkout (no dvc.yaml and params.yaml here or above):"
        " change into the checkout, or give --workspace DIR"
    )


def is_one(folder: Path) -> bool:
    """True for a folder that can be run in: one that `make` made, or a checkout."""
    return (folder / "dvc.yaml").is_file() and (folder / "params.yaml").is_file()


def make(start: Path, folder: Path | None, profile: Path | None, assignments: list[str]) -> Path:
    """Make or update the workspace for `profile` from the checkout around `start`; return its folder.

    Raises:
        ParamsError: for a wrong profile, variable or folder.
    """
    checkout = find(start)
    if profile is None:
        if folder is None:
            raise ParamsError("a workspace needs a folder: give --workspace DIR")
        return prepare(checkout, folder, None)
    from pipelines.stage import load_params

    load_params(checkout / "params.yaml")
    over = profiles.read(profile, profiles.variables(assignments))
    base = yaml_text.load((checkout / "params.yaml").read_text(encoding="utf-8"))
    return prepare(checkout, folder or default(checkout, profile), profiles.merge(base, over, f"profile {profile}"))


def prepare(checkout: Path, folder: Path, values: Mapping[str, Any] | None) -> Path:
    """Make or update the workspace `folder` from `checkout`, with `values` as its params.yaml; return it.

    Raises:
        ParamsError: when the folder holds something else.
        ResourceError: when the disk is full.
    """
    folder = folder.resolve()
    origin = folder / State.ORIGIN
    if folder == checkout:
        raise ParamsError(f"--workspace {folder} is the checkout itself: name another folder")
    if folder.exists() and any(folder.iterdir()) and not origin.exists():
        raise ParamsError(f"--workspace {folder} is not empty and no workspace of ours: name an empty or new folder")
    try:
        copied = _update(checkout, folder, _remembered(origin), values)
        if values is not None:
            _write_params(folder / "params.yaml", values)
        _set_up_dvc(checkout, folder)
    except OSError as error:
        if error.errno == 28:
            raise ResourceError(f"No space for the workspace {folder}: free some, or give --workspace DIR.") from error
        raise
    files.write_json(origin, {**lineage.code_version(checkout), "files": copied})
    return folder


def _remembered(origin: Path) -> list[str]:
    try:
        return list(json.loads(origin.read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError):
        return []


def _update(checkout: Path, folder: Path, before: list[str], values: Mapping[str, Any] | None) -> list[str]:
    """Bring the checkout's files, and the params.yaml unless there are `values` of its own; return their names."""
    own = set(_own_data(checkout, values))
    wanted = sorted({item for item in [*_tracked(checkout), *own] if (checkout / item).is_file()})
    for name in set(before) - set(wanted):
        (folder / name).unlink(missing_ok=True)
    for name in wanted:
        source, target = checkout / name, folder / name
        if (values is not None and name == "params.yaml") or name == "dvc.lock" or _same(source, target):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if name in own:
            link(source, target)
        else:
            shutil.copy2(source, target)
    return wanted


def link(source: Path, target: Path) -> None:
    """The user's own data may be large: they are copied only where they cannot be linked."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def bring_own_data(checkout: Path, folder: Path) -> None:
    """Put the user's own data, which git ignores, into a clone of the checkout."""
    for name in _own_data(checkout, None):
        source, target = checkout / name, folder / name
        if source.is_file() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            link(source, target)


def _own_data(checkout: Path, values: Mapping[str, Any] | None) -> Iterator[str]:
    """The user's own data, which git ignores: by the params `values`, or those of the checkout."""
    if values is None and (checkout / "params.yaml").is_file():
        values = yaml_text.load((checkout / "params.yaml").read_text(encoding="utf-8"))
    root = (checkout / str((values or {}).get("ingestion", {}).get("root", SOURCES))).resolve()
    made = [(checkout / place).resolve() for place in (*Artifact, State.ROOT) if place not in BY_PEOPLE]
    found = {checkout / SOURCES, *(checkout / place for place in BY_PEOPLE)}
    if root.is_relative_to(checkout.resolve()) and not any(place.is_relative_to(root) for place in made):
        found.add(checkout / root.relative_to(checkout.resolve()))
    for folder in sorted(found):
        for item in folder.rglob("*"):
            yield item.relative_to(checkout).as_posix()


def _same(source: Path, target: Path) -> bool:
    if not target.is_file():
        return False
    one, other = source.stat(), target.stat()
    return one.st_size == other.st_size and one.st_mtime_ns == other.st_mtime_ns


def _tracked(checkout: Path) -> Iterator[str]:
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if (checkout / ".git").exists():
        found = subprocess.run(  # noqa: S603
            listing, cwd=checkout, env=git.environment(), capture_output=True, text=True, check=False
        )
        if found.returncode == 0:
            yield from (name for name in found.stdout.split("\0") if name)
            return
    yield from _unignored(checkout)


def _unignored(checkout: Path) -> Iterator[str]:
    """The same choice without git, by the patterns of .gitignore."""
    from pathspec import GitIgnoreSpec

    ignore = checkout / ".gitignore"
    lines = ignore.read_text(encoding="utf-8").splitlines() if ignore.exists() else []
    inner = checkout / ".dvc" / ".gitignore"
    lines += [f"/.dvc{line}" for line in inner.read_text(encoding="utf-8").splitlines()] if inner.exists() else []
    spec = GitIgnoreSpec.from_lines(lines)
    for base, folders, names in os.walk(checkout):
        here = Path(base).relative_to(checkout)
        folders[:] = sorted(
            item for item in folders if item not in NEVER and not spec.match_file(f"{(here / item).as_posix()}/")
        )
        for name in sorted(names):
            path = (here / name).as_posix()
            if not spec.match_file(path):
                yield path


def _write_params(path: Path, values: Mapping[str, Any]) -> None:
    text = f"{MADE}: the checkout's params.yaml with the profile's overrides.\n"
    text += yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=120)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _set_up_dvc(checkout: Path, folder: Path) -> None:
    from dvc.config import Config

    settings = Config(str(checkout / ".dvc"))
    cache = settings.get("cache", {}).get("dir") or str(checkout / ".dvc" / "cache")
    (folder / ".dvc").mkdir(parents=True, exist_ok=True)
    text = f"[core]\n    no_scm = true\n[cache]\n    dir = {Path(cache).resolve()}\n"
    local = folder / ".dvc" / "config.local"
    if not local.exists() or local.read_text(encoding="utf-8") != text:
        local.write_text(text, encoding="utf-8")


def adopt(root: Path) -> None:
    """Let DVC work in a checkout that came without git (an unpacked archive)."""
    local = root / ".dvc" / "config.local"
    if not _in_git(root) and not local.exists():
        local.parent.mkdir(parents=True, exist_ok=True)
        local.write_text("[core]\n    no_scm = true\n", encoding="utf-8")


def _in_git(root: Path) -> bool:
    return (root / ".git").exists()


def default(checkout: Path, profile: Path) -> Path:
    """Where the workspace of a profile lies when the user names no other place."""
    return checkout / State.WORKSPACES / profile.stem

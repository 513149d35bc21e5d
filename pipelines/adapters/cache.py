"""DVC's cache, hashed again: DVC itself trusts an object that is read-only and does not notice when its bytes rot.

An object of DVC 3 lies at `files/md5/ab/cdef...` under the md5 of its content; a folder is an object whose name ends in
`.dir`, a JSON list of the files in it. md5 is DVC's choice of name and no protection against forgery; the release has
its manifest for that.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.adapters import git, lineage
from pipelines.errors import ArtifactError


@dataclass(frozen=True, kw_only=True)
class Item:
    """One object that dvc.lock needs."""

    stage: str
    path: str
    """Where it belongs in the workspace, relative."""
    md5: str
    """With `.dir` for a folder's list."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One object that is not what its name says."""

    items: tuple[Item, ...]
    """Everything that has this content; at least one."""
    file: Path
    """In the cache."""
    what: str

    @property
    def item(self) -> Item:
        """One of them."""
        return self.items[0]

    def __str__(self) -> str:
        named = ", ".join(f"{item.path} of the stage {item.stage}" for item in self.items[:3])
        more = f" and {len(self.items) - 3} more" if len(self.items) > 3 else ""
        return f"{self.file} ({named}{more}) {self.what}"


def folder(root: Path) -> Path:
    """Where the objects of the workspace lie."""
    from dvc.config import Config

    settings = Config(str((root / ".dvc").resolve()), validate=False)
    named = settings.get("cache", {}).get("dir")
    if named is None:
        return root / ".dvc" / "cache" / "files" / "md5"
    return root / ".dvc" / str(named) / "files" / "md5"


def outs(root: Path) -> list[Item]:
    """The outputs in dvc.lock.

    Raises:
        ArtifactError: when dvc.lock is missing or torn.
    """
    lock = root / lineage.LOCK
    if not lock.exists():
        raise ArtifactError(f"{lock} is missing: run `moteur run`, which records what it makes.")
    return [
        Item(stage=name, path=path, md5=md5)
        for name, entry in lineage.locked(root).items()
        for path, md5 in entry["outs"].items()
    ]


def check(root: Path) -> list[Fault]:
    """Hash every object that dvc.lock needs; say which are missing or not what their names say.

    Raises:
        ArtifactError: when dvc.lock is missing or torn.
    """
    objects, heads = folder(root), outs(root)
    lists = [item for item in heads if item.md5.endswith(".dir")]
    torn = _faults(objects, lists)
    sound = [item for item in lists if item.md5 not in {fault.item.md5 for fault in torn}]
    members = [member for item in sound for member in _members(objects, item)]
    return torn + _faults(objects, [*(item for item in heads if item not in lists), *members])


def _faults(objects: Path, items: Iterable[Item]) -> list[Fault]:
    """What is wrong with the objects of `items`, each hashed once, whatever it is called."""
    named: dict[str, list[Item]] = {}
    for item in items:
        named.setdefault(item.md5, []).append(item)
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        found = pool.map(lambda names: _fault(objects, tuple(names)), named.values())
        return [fault for fault in found if fault]


def _place(objects: Path, md5: str) -> Path:
    return objects / md5[:2] / md5[2:]


def _fault(objects: Path, items: tuple[Item, ...]) -> Fault | None:
    md5 = items[0].md5
    file = _place(objects, md5)
    try:
        digest = _md5(file)
    except FileNotFoundError:
        return Fault(items=items, file=file, what="is missing")
    except OSError as error:
        return Fault(items=items, file=file, what=f"cannot be read ({error.strerror})")
    if digest == md5.removesuffix(".dir"):
        return None
    return Fault(items=items, file=file, what=f"has rotted: its md5 is {digest}")


def _members(objects: Path, item: Item) -> Iterator[Item]:
    if item.md5.endswith(".dir"):
        for entry in json.loads(_place(objects, item.md5).read_bytes()):
            yield Item(stage=item.stage, path=f"{item.path}/{entry['relpath']}", md5=entry["md5"])


def folders(root: Path) -> Iterator[dict[str, Path]]:
    """Every folder that the cache holds, of this run or an earlier one: name in the folder -> object; not hashed."""
    objects = folder(root)
    for file in sorted(objects.glob("*/*.dir")):
        try:
            yield {str(entry["relpath"]): _place(objects, entry["md5"]) for entry in json.loads(file.read_bytes())}
        except (OSError, ValueError, LookupError, TypeError):  # a list that has rotted, which `check` names
            continue


def _md5(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def digest(path: Path) -> str:
    """The name that DVC gives a file or folder."""
    if not path.is_dir():
        return _md5(path)
    return hashlib.md5(_listing(path), usedforsecurity=False).hexdigest() + ".dir"


def _listing(path: Path) -> bytes:
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    entries = [{"md5": _md5(path / name), "relpath": name} for name in names]
    return json.dumps(entries, sort_keys=True).encode()


def mend(root: Path, faults: list[Fault]) -> list[Fault]:
    """Replace bad objects by the workspace's own copy or by the remote's; return those that stay bad.

    What a list names can only be looked at when the list is whole again, so that is done then. A bad object for which
    nothing is found is taken out of the cache, so that DVC cannot hand it out: run its stage again.
    """
    left: list[Fault] = []
    seen: set[Path] = set()
    while faults:
        left += _mend(root, faults)
        seen |= {fault.file for fault in faults}
        lists = any(fault.item.md5.endswith(".dir") for fault in faults)
        faults = [fault for fault in check(root) if fault.file not in seen] if lists else []
    return left


def _mend(root: Path, faults: list[Fault]) -> list[Fault]:
    objects = folder(root)
    for fault in faults:
        copies = (_content(root / item.path, item.md5) for item in fault.items)
        content = next((copy for copy in copies if copy is not None), None)
        fault.file.unlink(missing_ok=True)
        if content is not None:
            _put(content, fault.file)
    left = [fault for fault in faults if _fault(objects, fault.items)]
    if left and _remotes(root):
        for stage in sorted({item.stage for fault in left for item in fault.items}):
            _fetch(root, stage)
        left = [fault for fault in left if _fault(objects, fault.items)]
    return left


def _content(source: Path, md5: str) -> Any:
    """The path or bytes with this md5 in the workspace; None when there are none."""
    try:
        if md5.endswith(".dir"):
            listing = _listing(source)
            return listing if hashlib.md5(listing, usedforsecurity=False).hexdigest() == md5[:-4] else None
        return source if _md5(source) == md5 else None
    except OSError:
        return None


def _put(content: Path | bytes, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    if isinstance(content, bytes):
        fresh.write_bytes(content)
    else:
        shutil.copyfile(content, fresh)
    fresh.chmod(0o444)
    fresh.replace(file)


def _remotes(root: Path) -> bool:
    from dvc.config import Config

    return bool(Config(str((root / ".dvc").resolve()), validate=False).get("core", {}).get("remote"))


def _fetch(root: Path, stage: str) -> None:
    subprocess.run(  # noqa: S603  DVC of this environment
        [sys.executable, "-m", "dvc", "fetch", stage], cwd=root, env=git.environment(), capture_output=True, check=False
    )

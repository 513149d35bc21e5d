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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

    item: Item
    file: Path
    """In the cache."""
    what: str

    def __str__(self) -> str:
        return f"{self.file} ({self.item.path} of the stage {self.item.stage}) {self.what}"


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
    import yaml

    lock = root / "dvc.lock"
    try:
        stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"]
        return [
            Item(stage=name, path=out["path"], md5=out["md5"])
            for name, entry in stages.items()
            for out in entry.get("outs", [])
        ]
    except FileNotFoundError:
        raise ArtifactError(f"{lock} is missing: run `moteur run`, which records what it makes.") from None
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{lock} is torn ({type(error).__name__}): `git checkout dvc.lock`, or remove it and run `moteur run`; the"
            " cache keeps what was made."
        ) from None


def check(root: Path) -> list[Fault]:
    """Hash every object that dvc.lock needs; say which are missing or not what their names say.

    Raises:
        ArtifactError: when dvc.lock is missing or torn.
    """
    objects = folder(root)
    found: dict[str, Fault] = {}
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        heads = outs(root)
        for fault in pool.map(lambda item: _fault(objects, item), heads):
            if fault:
                found[fault.item.md5] = fault
        inner = {item.md5: item for head in heads if head.md5 not in found for item in _members(objects, head)}
        for fault in pool.map(lambda item: _fault(objects, item), inner.values()):
            if fault:
                found[fault.item.md5] = fault
    return list(found.values())


def _place(objects: Path, md5: str) -> Path:
    return objects / md5[:2] / md5[2:]


def _fault(objects: Path, item: Item) -> Fault | None:
    file = _place(objects, item.md5)
    try:
        digest = _md5(file)
    except FileNotFoundError:
        return Fault(item=item, file=file, what="is missing")
    except OSError as error:
        return Fault(item=item, file=file, what=f"cannot be read ({error.strerror})")
    if digest == item.md5.removesuffix(".dir"):
        return None
    return Fault(item=item, file=file, what=f"has rotted: its md5 is {digest}")


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

    A bad object for which nothing is found is taken out of the cache, so that DVC cannot hand it out: run its stage
    again.
    """
    objects = folder(root)
    for fault in faults:
        source = root / fault.item.path
        content = _content(source, fault.item.md5)
        fault.file.unlink(missing_ok=True)
        if content is not None:
            _put(content, fault.file)
    left = [fault for fault in faults if _fault(objects, fault.item)]
    if left and _remotes(root):
        for stage in sorted({fault.item.stage for fault in left}):
            _fetch(root, stage)
        left = [fault for fault in left if _fault(objects, fault.item)]
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
        [sys.executable, "-m", "dvc", "fetch", stage], cwd=root, capture_output=True, check=False
    )

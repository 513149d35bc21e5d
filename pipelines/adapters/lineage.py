"""Where a run comes from: the commit of the code, the hash of dvc.lock, the hashes of the data."""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

from pipelines.adapters import git
from pipelines.artifacts import State
from pipelines.errors import ArtifactError

LOCK = "dvc.lock"


def code_version(root: Path = Path()) -> dict[str, Any]:
    """`{"commit": sha or "", "dirty": bool}` of the checkout at `root`, or of the one it was copied from."""
    origin = root / State.ORIGIN
    if origin.exists():
        values = json.loads(origin.read_text(encoding="utf-8"))
        return {"commit": values["commit"], "dirty": values["dirty"]}
    commit = _git(root, "rev-parse", "HEAD")
    dirty = _git(root, "status", "--porcelain", "--untracked-files=no") if commit else ""
    return {"commit": commit.strip(), "dirty": bool(dirty.strip())}


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603
            ["git", *arguments],  # noqa: S607  the user's git
            cwd=root,
            env=git.environment(),
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def lock_hash(root: Path = Path()) -> str:
    """SHA-256 of dvc.lock; empty when there is none."""
    lock = root / LOCK
    return hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else ""


def locked(root: Path = Path()) -> dict[str, dict[str, dict[str, str]]]:
    """Stage -> `deps` and `outs` -> path -> content hash, as dvc.lock has them; nothing when there is none.

    Raises:
        ArtifactError: when dvc.lock is torn.
    """
    import yaml

    lock = root / LOCK
    if not lock.exists():
        return {}
    try:
        stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"]
        return {
            name: {
                "deps": {item["path"]: item.get("md5", "") for item in entry.get("deps", [])},  # a URL has none
                "outs": {item["path"]: item["md5"] for item in entry.get("outs", [])},
            }
            for name, entry in stages.items()
        }
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{lock} is torn ({type(error).__name__}): `git checkout dvc.lock`, or remove it and run `moteur run`; the"
            " cache keeps what was made."
        ) from None

"""Where a run comes from: the commit of the code, the hash of dvc.lock, the hashes of the data."""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

from pipelines.adapters import git
from pipelines.artifacts import State


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
    lock = root / "dvc.lock"
    return hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else ""


def locked(root: Path = Path()) -> dict[str, dict[str, dict[str, str]]]:
    """Stage -> `deps` and `outs` -> path -> content hash, as dvc.lock has them."""
    import yaml

    lock = root / "dvc.lock"
    if not lock.exists():
        return {}
    stages = (yaml.safe_load(lock.read_text(encoding="utf-8")) or {}).get("stages", {})
    return {
        name: {kind: {item["path"]: item.get("md5", "") for item in entry.get(kind, [])} for kind in ("deps", "outs")}
        for name, entry in stages.items()
    }

"""A workspace at a pinned commit: a clone of the checkout with its data and DVC's cache, in which a retraining works.

The checkout is only read. What is not committed there is left out, so that the result can be traced to one commit.
"""

import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import psutil

from flows import process
from flows.workspaces import folders
from pipelines.adapters import git as gits
from pipelines.adapters.secrets import environment_secrets
from pipelines.artifacts import State
from pipelines.core.text.secrets import redact
from pipelines.errors import ArtifactError, ParamsError

IDENTITY = ("-c", "user.name=Moteur", "-c", "user.email=moteur@localhost")
GRACE_SECONDS = 30.0


def git(folder: Path, *arguments: str, seconds: float | None = None) -> str:
    """Run git in `folder` and return what it printed.

    Raises:
        ArtifactError: with git's last line when it fails, or has not ended after this many seconds.
    """
    environment = {**gits.environment(), "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = process.capture(["git", *arguments], environment, folder=folder, seconds=seconds)
    except TimeoutError as error:
        raise ArtifactError(f"git {arguments[0]} failed in {folder}: {error}") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise ArtifactError(f"git {arguments[0]} failed in {folder}: {redact(said, environment_secrets())}")
    return done.stdout.strip()


def head(checkout: Path) -> str:
    """The commit that a retraining is pinned to.

    Raises:
        ParamsError: when the checkout has no commit, or is a copy in which a profile runs.
    """
    if (checkout / State.ORIGIN).exists():
        raise ParamsError(
            f"{checkout} is a workspace, a copy of a checkout: `moteur retrain` in the checkout, with --profile or"
            " retraining.profile"
        )
    try:
        return git(checkout, "rev-parse", "--verify", "HEAD")
    except (ArtifactError, FileNotFoundError):
        raise ParamsError(
            f"{checkout} has no git commit, and a retraining is pinned to one: git init, git add -A, git commit"
        ) from None


def left_out(checkout: Path) -> int:
    """How many files of the checkout differ from its last commit: the retraining does not see that."""
    return len(git(checkout, "status", "--porcelain").splitlines())


def make(checkout: Path, folder: Path, commit: str) -> None:
    """Clone `commit` into `folder`, which does not exist, share the cache, and bring the user's own data.

    The folder appears whole or not at all.

    Raises:
        ArtifactError: when git fails.
    """
    fresh = _part(folder)
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.parent.mkdir(parents=True, exist_ok=True)
    git(checkout, "clone", "--quiet", "--no-checkout", "--no-tags", "--local", str(checkout), str(fresh))
    git(fresh, "checkout", "--quiet", "--detach", commit)
    git(fresh, "remote", "remove", "origin")
    share_cache(checkout, fresh)
    folders.bring_own_data(checkout, fresh)
    fresh.rename(folder)


def _part(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.part")


def remove(folder: Path) -> None:
    """Remove a clone, and what is left of one that was not finished; DVC's cache, which it shares, stays."""
    for one in (folder, _part(folder)):
        shutil.rmtree(one, ignore_errors=True)


def share_cache(checkout: Path, folder: Path) -> None:
    """Let DVC in `folder` use the checkout's cache and, wherever they lie, its remotes."""
    from dvc.config import Config

    theirs = Config(str(checkout / ".dvc"))
    local = checkout / ".dvc" / "config.local"
    if local.exists():
        shutil.copy2(local, folder / ".dvc" / "config.local")
    with Config(str(folder / ".dvc")).edit("local") as ours:
        ours.setdefault("cache", {})["dir"] = str(cache(checkout))
        for name, remote in theirs.get("remote", {}).items():
            if "://" not in remote["url"]:
                ours.setdefault("remote", {}).setdefault(name, {})["url"] = str(Path(remote["url"]).resolve())


def cache(checkout: Path) -> Path:
    """DVC's cache folder of the checkout."""
    from dvc.config import Config

    found = Config(str(checkout / ".dvc")).get("cache", {}).get("dir")
    return Path(found or checkout / ".dvc" / "cache").resolve()


def data_remote(folder: Path) -> str | None:
    """Name of DVC's default remote; None when there is none."""
    from dvc.config import Config

    name: str | None = Config(str(folder / ".dvc")).get("core", {}).get("remote")
    return name


def code_remote(checkout: Path) -> str | None:
    """URL of the git remote `origin`, or of the only other one; None when there is none."""
    names = git(checkout, "remote").split()
    name = "origin" if "origin" in names else names[0] if len(names) == 1 else None
    return git(checkout, "remote", "get-url", name) if name else None


def commit(folder: Path, paths: Sequence[str], message: str) -> str:
    """Commit `paths` of the clone as they are; return the commit. Nothing new is no error."""
    there = [path for path in paths if (folder / path).exists()]
    git(folder, "add", "--force", "--", *there)
    if git(folder, "diff", "--cached", "--name-only"):
        git(folder, *IDENTITY, "-c", "commit.gpgsign=false", "commit", "--quiet", "--no-verify", "-m", message)
    return git(folder, "rev-parse", "HEAD")


def push(checkout: Path, folder: Path, name: str, seconds: float | None = None) -> str:
    """Push the clone's commit to the branch `name`; return where it went.

    Without a remote it is kept in the checkout's repository under refs/moteur/, which is no branch: nothing of the
    user's changes, and nothing is lost when the clone is removed.

    Raises:
        ArtifactError: when git fails, or has not ended after this many seconds.
    """
    url = code_remote(checkout)
    target = f"refs/heads/{name}" if url else f"refs/moteur/{name}"
    git(folder, "push", "--quiet", "--no-verify", url or str(checkout), f"HEAD:{target}", seconds=seconds)
    return f"{redact(url) if url else 'this repository'} ({target})"


def evict(folder: Path, grace: float = GRACE_SECONDS) -> int:
    """End every process that works in `folder`: what a killed retraining left behind must not write beside the next.

    They are asked first, so that a stage saves its state. Returns how many there were.
    """
    inside = _inside(folder)
    for one in inside:
        _signal(one, signal.SIGTERM)
    _, alive = psutil.wait_procs(inside, timeout=grace)
    for one in alive:
        _signal(one, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=grace)
    return len(inside)


def _signal(one: psutil.Process, number: int) -> None:
    try:
        one.send_signal(number)
    except psutil.Error:
        return


def _inside(folder: Path) -> list[psutil.Process]:
    found = []
    for one in psutil.process_iter():
        try:
            if one.pid != os.getpid() and Path(one.cwd()).is_relative_to(folder.resolve()):
                found.append(one)
        except (psutil.Error, OSError):
            continue
    return found


def heal(folder: Path) -> None:
    """Remove what a killed DVC left in a clone that nobody works in: its locks, and a dvc.lock that is torn."""
    for name in ("rwlock", "rwlock.lock", "lock"):
        (folder / ".dvc" / "tmp" / name).unlink(missing_ok=True)
    lock = folder / "dvc.lock"
    if lock.exists() and not _whole(lock):
        lock.unlink()
        if "dvc.lock" in git(folder, "ls-files", "dvc.lock"):
            git(folder, "checkout", "--", "dvc.lock")


def _whole(lock: Path) -> bool:
    import yaml

    try:
        return "stages" in (yaml.safe_load(lock.read_text(encoding="utf-8")) or {})
    except (yaml.YAMLError, UnicodeDecodeError, TypeError):
        return False

"""What a retraining made goes public, in an order in which nothing is live before it can be had again.

dvc push, verify, git push to runs/<id>, register, gate, move the alias. The last three are `flows.champions.promotion`.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from flows import process
from flows.champions import history
from flows.workspaces import clones
from pipelines.adapters import git
from pipelines.adapters.secrets import environment_secrets
from pipelines.artifacts import Artifact
from pipelines.core.text.secrets import redact
from pipelines.errors import ArtifactError, MoteurError, ResourceError

CODE = ("dvc.lock", "dvc.yaml", "params.yaml", "reports")


class NotPublished(MoteurError):  # noqa: N818  it is an outcome, and reads as one
    """What was made could not be stored where it can be had again, or not be registered or judged."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """With a remote."""

    retries: int
    """How often a push that failed is tried again."""
    seconds: float
    """One try may take this long."""


@dataclass(frozen=True, kw_only=True)
class Handover:
    """What the gate said."""

    result: Literal["promoted", "refused", "unchanged"]
    """promoted: live, since now or since an attempt that was killed before it wrote that down. unchanged: the release
    is the one that was live before, byte for byte, so nothing was asked and nothing moved."""
    words: str


def push_data(workspace: Path, patience: Patience, say: Callable[[str], None]) -> None:
    """`dvc push` to the default remote; nothing where there is none.

    Raises:
        NotPublished: when it keeps failing.
    """
    name = clones.data_remote(workspace)
    if name is None:
        say("  no DVC remote is set: the data stay in this machine's cache (dvc remote add --default NAME URL)")
        return
    command = [sys.executable, "-m", "dvc", "push", "--quiet"]
    _persistently(lambda: _run(command, workspace, patience.seconds), f"dvc push to {name}", patience.retries, say)
    say(f"  pushed the data to {name}")


def verify(workspace: Path, say: Callable[[str], None]) -> None:
    """Hash the release again, byte by byte, as its manifest has it; nothing where the graph makes no release.

    Raises:
        ArtifactError: when a file differs.
    """
    if not (workspace / Artifact.RELEASE).is_dir():
        return
    command = [sys.executable, "-m", "pipelines.adapters.release", "verify", Artifact.RELEASE.value]
    if fault := _run(command, workspace):
        raise ArtifactError(f"the release in {workspace} is not what its manifest says: {fault}. Nothing went live.")
    say("  the release is what its manifest says")


def push_code(checkout: Path, workspace: Path, name: str, patience: Patience, say: Callable[[str], None]) -> None:
    """Commit dvc.lock, params and reports in the workspace and push them to `runs/<name>`.

    Raises:
        NotPublished: when it keeps failing.
    """
    clones.commit(workspace, CODE, f"Retraining {name}")
    went: list[str] = []

    def attempt() -> str:
        try:
            went.append(clones.push(checkout, workspace, f"runs/{name}", patience.seconds))
        except ArtifactError as error:
            return str(error)
        return ""

    _persistently(attempt, f"git push to runs/{name}", patience.retries, say)
    say(f"  pushed the commit to {went[-1]}")


def register(checkout: Path, workspace: Path, say: Callable[[str], None]) -> int | None:
    """Register the release; return its version, or None where the graph makes no release."""
    if not (workspace / Artifact.RELEASE).is_dir():
        say("  the graph makes no release, so there is nothing to register")
        return None
    with _waiting_for_services():
        return int(_promotion().register(checkout, source=workspace, say=say).number)


def judge(
    checkout: Path, workspace: Path, version: int, name: str, because: str, say: Callable[[str], None]
) -> Handover:
    """Judge a version that the retraining `name` registered, and let it go live if it is good enough."""
    with _waiting_for_services():
        why = f"{_author(name)}{because}"
        outcome = _promotion().promote(checkout, version=version, source=workspace, why=why, say=say)
    if outcome.already and not _made_live(checkout, version, name):
        return Handover(result="unchanged", words=outcome.words)
    return Handover(result="promoted" if outcome.moved or outcome.already else "refused", words=outcome.words)


def _author(name: str) -> str:
    """How the reason of a promotion begins, so that the history says which retraining it was."""
    return f"retraining {name}, "


def _made_live(checkout: Path, version: int, name: str) -> bool:
    """Whether an attempt of this retraining made the version champion and was killed before it wrote that down."""
    return any(
        entry.action == "promote" and entry.to_version == version and entry.why.startswith(_author(name))
        for entry in history.read(checkout)
    )


@contextmanager
def _waiting_for_services() -> Iterator[None]:
    """A registry that does not answer is no verdict on the model: the next retraining goes on here."""
    try:
        yield
    except ResourceError as error:
        raise NotPublished(f"{error} `moteur retrain` goes on here when it answers.") from error


def _promotion() -> Any:
    """The gate and the registry; they bring MLflow, so they are loaded late."""
    from flows.champions import promotion

    return promotion


def _persistently(attempt: Callable[[], str], what: str, retries: int, say: Callable[[str], None]) -> None:
    """Try until `attempt` gives no fault, with a doubling wait."""
    for number in range(retries + 1):
        if not (fault := attempt()):
            return
        if number < retries:
            wait = 2.0**number
            say(f"  {what} failed ({fault}); again in {wait:g} s")
            time.sleep(wait)
    raise NotPublished(
        f"{what} failed {retries + 1} times: {fault}. Nothing went live. When the store is back, `moteur retrain`"
        " goes on here: what was trained is not trained again."
    )


def _run(command: list[str], workspace: Path, seconds: float | None = None) -> str:
    """Run a command in the workspace; the empty string, or the last line it said when it failed."""
    try:
        done = process.capture(command, git.environment(), folder=workspace, seconds=seconds)
    except TimeoutError as error:
        return str(error)
    if done.returncode == 0:
        return ""
    said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
    return redact(said, environment_secrets())

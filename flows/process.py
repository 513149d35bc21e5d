"""One child in a process group of its own, that dies with everything it started."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import psutil

GRACE_SECONDS = 60.0
"""A stage has this long to save its state after SIGTERM; what lives then is killed."""
CAPTURE_GRACE_SECONDS = 5.0
"""The same for a command that has nothing to save."""


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    grace: float = GRACE_SECONDS,
    *,
    folder: Path | None = None,
    output: IO[bytes] | None = None,
) -> int:
    """Run `command` and return its exit code; on any exception end its whole group first.

    It works in `folder` (default: the current one) and writes to `output` (default: our terminal).
    """
    child = subprocess.Popen(  # noqa: S603
        command, cwd=folder, env=dict(environment), start_new_session=True, stdout=output, stderr=output
    )
    try:
        return child.wait()
    except BaseException:
        end(child, grace)
        raise


def capture(
    command: Sequence[str], environment: Mapping[str, str], *, folder: Path, seconds: float | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run `command` in `folder` and return what it said; on any exception end its whole group first.

    Nobody can be asked for a password: it has no terminal.

    Raises:
        TimeoutError: when it has not ended after this many seconds.
    """
    child = subprocess.Popen(  # noqa: S603
        command,
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    try:
        said, complained = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        end(child, CAPTURE_GRACE_SECONDS)
        raise TimeoutError(f"it had not ended after {seconds:g} s") from None
    except BaseException:
        end(child, CAPTURE_GRACE_SECONDS)
        raise
    return subprocess.CompletedProcess(command, child.returncode, said, complained)


def end(child: "subprocess.Popen[Any]", grace: float) -> None:
    """Ask the group to end: SIGTERM to what `child` started, SIGINT to itself, and SIGKILL after `grace` seconds.

    DVC ignores SIGINT while a stage runs and leaves in order when the stage has ended; SIGTERM would kill it at once
    and leave the stage alone with its locks.
    """
    for member in members(child.pid):
        _send(member, signal.SIGINT if member.pid == child.pid else signal.SIGTERM)
    deadline = time.monotonic() + grace
    while members(child.pid) and time.monotonic() < deadline:
        child.poll()
        time.sleep(0.05)
    for member in members(child.pid):
        _send(member, signal.SIGKILL)
    child.wait()


def members(group: int) -> list[psutil.Process]:
    """The living processes of a process group."""
    found = []
    for process in psutil.process_iter(["status"]):
        try:
            if os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, PermissionError):
            continue
    return found


def _send(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.Error:
        return

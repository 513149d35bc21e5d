"""Locks between processes: a file that one of them holds, which the kernel frees when it dies, however it dies."""

import fcntl
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pipelines.errors import ResourceError

POLL_SECONDS = 0.02


class BusyError(ResourceError):
    """Another process holds the lock."""

    def __init__(self, holder: str) -> None:
        super().__init__(f"process {holder} holds the lock")
        self.holder = holder
        """Its id, or "unknown"."""


@contextmanager
def holding(path: Path, *, wait: float = math.inf, busy: Callable[[str], Exception] = BusyError) -> Iterator[None]:
    """Hold the lock `path`, which says our process id meanwhile and stays where it is; its folder is made.

    Processes that are started meanwhile do not hold it. One that is forked holds it until the block ends, or, if we are
    killed in it, until it ends itself.

    Args:
        path: The file.
        wait: For another process to let go (seconds). Default: as long as it takes.
        busy: Makes the error that is raised when that time is over, from the id of the other process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as lock:
        _take(lock, wait, busy)
        with suppress(OSError):  # on a full disk a lock without a name is a lock all the same
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n".encode())
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)


def held(path: Path) -> bool:
    """Whether a process holds the lock; many may look at once, but who takes it meanwhile must wait for a moment."""
    if not path.exists():
        return False
    with path.open("rb") as lock:
        return not _taken(lock, fcntl.LOCK_SH)


def _take(lock: IO[bytes], wait: float, busy: Callable[[str], Exception]) -> None:
    if wait == math.inf:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return
    deadline = time.monotonic() + wait
    while not _taken(lock, fcntl.LOCK_EX):
        if time.monotonic() >= deadline:
            lock.seek(0)
            raise busy(lock.read().decode(errors="replace").strip() or "unknown")
        time.sleep(POLL_SECONDS)


def _taken(lock: IO[bytes], kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

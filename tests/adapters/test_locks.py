"""Locks: one process at a time, freed by every end, with the name of who holds them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.adapters import locks
from pipelines.adapters.locks import BusyError
from pipelines.errors import DataError

ROOT = Path(__file__).parents[2]

HOLDER = """
import pathlib, sys, time
from pipelines.adapters import locks
with locks.holding(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_is_held_once_says_by_whom_and_is_free_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "new/lock"
    assert not locks.held(path)
    with locks.holding(path, wait=0):
        assert locks.held(path)
        with pytest.raises(BusyError) as caught, locks.holding(path, wait=0):
            pass
    assert caught.value.holder == path.read_text().strip() == str(os.getpid())
    assert not locks.held(path)


def test_the_error_is_the_callers(tmp_path: Path) -> None:
    def busy(holder: str) -> DataError:
        return DataError(f"{holder} is here")

    path = tmp_path / "lock"
    with (
        locks.holding(path),
        pytest.raises(DataError, match=f"^{os.getpid()} is here$"),
        locks.holding(path, wait=0.05, busy=busy),
    ):
        pass


def test_what_fails_under_a_lock_frees_it(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locks.holding(tmp_path / "lock"):
        raise ZeroDivisionError
    assert not locks.held(tmp_path / "lock")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_dies_frees_its_lock_and_who_waits_gets_it(tmp_path: Path, number: int) -> None:
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=-1, stdout=-1, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match=f"process {child.pid} holds"), locks.holding(path, wait=0):
            pass
        child.send_signal(number)
        with locks.holding(path):
            assert path.read_text() == f"{os.getpid()}\n"


def test_processes_that_are_forked_or_started_meanwhile_keep_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    reading, writing = os.pipe()
    with locks.holding(path):
        forked = os.fork()
        if not forked:
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
        started = subprocess.Popen(["/bin/cat"], stdin=-1)
    assert not locks.held(path)
    os.close(writing)
    os.close(reading)
    os.waitpid(forked, 0)
    started.communicate()

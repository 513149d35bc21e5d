"""Rows 2 and 8: DVC is killed with its stage, or finds the repository locked when its stage ends. Nothing is lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.flows import toy

HOLDER = """
import sys
from dvc.repo import Repo
with Repo() as repo, repo.lock:
    print("held", flush=True)
    sys.stdin.read()
"""
LONGER_THAN_DVC_WAITS = 4.0
"""Without --wait-for-lock DVC gives up after three seconds (seconds)."""


def repro(root: Path) -> "subprocess.Popen[str]":
    """The command of a lifecycle's task, in a process group of its own."""
    words = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--quiet", "--single-item", "ingestion"]
    return subprocess.Popen(
        words, cwd=root, env=toy.environment(), stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def said(child: "subprocess.Popen[str]", word: str) -> bool:
    assert child.stderr is not None
    return any(word in line for line in iter(child.stderr.readline, ""))


@pytest.fixture
def expected(tmp_path: Path) -> bytes:
    """The dvc.lock of a run that nothing disturbed."""
    root = toy.make(tmp_path / "clean", git=False, stages=1)
    (root / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")
    assert toy.dvc(root, "repro", "--quiet").returncode == 0
    return (root / "dvc.lock").read_bytes()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = toy.make(tmp_path / "checkout", git=False, stages=1)
    (root / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")
    return root


def test_row_2_dvc_and_its_stage_killed_the_next_run_heals_the_locks_and_ends_the_same(
    checkout: Path, expected: bytes
) -> None:
    (checkout / "behaviour").write_text("ingestion hang")
    child = repro(checkout)
    assert said(child, "hanging")
    assert (checkout / ".dvc/tmp/rwlock").read_text() != "{}"
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
    assert not (checkout / "dvc.lock").exists()
    (checkout / "behaviour").unlink()
    again = repro(checkout)
    _, text = again.communicate(timeout=60)
    assert again.returncode == 0, text
    assert (checkout / "dvc.lock").read_bytes() == expected


def test_row_8_the_repository_locked_as_the_stage_ends_is_waited_for_and_the_result_is_kept(
    checkout: Path, expected: bytes
) -> None:
    (checkout / "behaviour").write_text("ingestion linger")
    child = repro(checkout)
    assert said(child, "lingering")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER], cwd=checkout, env=toy.environment(), stdin=-1, stdout=-1, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    (checkout / "go").touch()
    deadline = time.monotonic() + 60
    while not (checkout / "reports/ingestion.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(LONGER_THAN_DVC_WAITS)  # the fault itself: a lock that is held for so long
    assert child.poll() is None
    assert not (checkout / "dvc.lock").exists()
    holder.communicate("")
    _, text = child.communicate(timeout=60)
    assert child.returncode == 0, text
    assert (checkout / "dvc.lock").read_bytes() == expected

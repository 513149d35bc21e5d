"""A child and all it started end together."""

import sys
from pathlib import Path

import psutil
import pytest

from flows import process

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {child!r}])
open({path!r}, "w").write(str(child.pid))
child.wait()
"""


def test_the_exit_code_is_the_childs() -> None:
    assert process.run([sys.executable, "-c", "raise SystemExit(7)"], {}) == 7


@pytest.mark.parametrize("grace", [30.0, 0.2])
def test_a_grandchild_ends_too_and_is_killed_when_it_does_not_listen(tmp_path: Path, grace: float) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);" if grace < 1 else "import time;"
    path = tmp_path / "pid"
    code = PARENT.format(child=f"{deaf} print(1, flush=True); time.sleep(600)", path=str(path))
    child = process.subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=-1)
    assert child.stdout is not None
    assert child.stdout.readline() == b"1\n"
    grandchild = psutil.Process(int(path.read_text()))
    process.end(child, grace)
    psutil.wait_procs([grandchild], timeout=10)
    assert not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE
    assert child.returncode is not None

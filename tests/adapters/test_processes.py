"""Groups of real processes: what they agree about, and what ends them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.adapters import processes
from pipelines.adapters.processes import Place
from pipelines.errors import ResourceError
from tests.learning import ROOT

MEMBER = """
import json, os, signal, sys, time
from contextlib import suppress
from pipelines.adapters import processes
from pipelines.errors import MoteurError
processes.end_with_the_first()
import torch
rank = processes.place().rank
said = {{}}
try:
    with processes.joined("unused", 2, seconds=float(sys.argv[1])) as group:
{body}
except MoteurError as error:
    said["error"] = f"{{type(error).__name__}}: {{error}}"
print(json.dumps(said))
"""
AGREE = """
        sums = torch.tensor([1.0 + rank, 10.0])
        group.add_up(sums)
        tensors = group.firsts_tensors({"a": torch.arange(3), "b": torch.ones(1, 2)} if rank == 0 else {})
        said = {
            "sums": sums.tolist(),
            "any": [group.any(flag=rank == 1), group.any(flag=False)],
            "firsts": [group.firsts(0.1 + rank), group.firsts(["x", None] if rank == 0 else "other")],
            "tensors": {name: tensor.tolist() for name, tensor in tensors.items()},
        }
        group.require_same("same")
        group.require_same(f"digest {rank}")
"""
HANGS = """
        group.any(flag=False)
        rank and time.sleep(60)
        group.any(flag=False)
"""
DIES = HANGS.replace("time.sleep(60)", "os.kill(os.getpid(), signal.SIGKILL)")


def members(folder: Path, body: str, seconds: float = 60.0) -> "list[subprocess.Popen[str]]":
    """Two processes with the variables of torchrun that find each other by a file."""
    group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", processes.MEETING: str(folder / "meeting")}
    common = os.environ | group | {"PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, "-c", MEMBER.format(body=body), str(seconds)],
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


def said(member: "subprocess.Popen[str]") -> dict:
    assert member.stdout is not None
    return json.loads(member.stdout.readline())


def test_processes_add_up_and_take_what_the_first_gives_and_notice_different_inputs(tmp_path):
    first, second = members(tmp_path, AGREE)
    ours, theirs = said(first), said(second)
    assert ours == theirs
    assert ours.pop("error").startswith(
        "DataError: Processes [1] of 2 have other settings, tokens or another tokenizer"
    )
    assert ours == {
        "sums": [3.0, 20.0],
        "any": [True, False],
        "firsts": [0.1, ["x", None]],
        "tensors": {"a": [0, 1, 2], "b": [[1.0, 1.0]]},
    }


@pytest.mark.parametrize(("body", "seconds"), [(HANGS, 2.0), (DIES, 60.0)], ids=["hangs", "dies"])
def test_a_process_that_hangs_or_dies_ends_the_others_with_an_error(tmp_path, body, seconds):
    first, second = members(tmp_path, body, seconds)
    words = "ResourceError: A process of the 2 that train together is gone, or has not answered for"
    assert said(first)["error"].startswith(words)
    second.kill()


def test_a_process_that_another_one_started_ends_with_it_even_if_that_is_killed(tmp_path):
    meeting = {processes.MEETING: str(tmp_path / "meeting")}
    code = "from pipelines.adapters import processes; processes.end_with_the_first(); print(1, flush=True); import time"
    starter = f"""
import subprocess, sys, time
code = "{code}; time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""
    first = subprocess.Popen(
        [sys.executable, "-c", starter],
        env=os.environ | meeting | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout is not None
    child = int(first.stdout.readline())
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert _is_gone(child)


def _is_gone(pid: int) -> bool:
    import psutil

    try:
        process = psutil.Process(pid)
        return process.status() == psutil.STATUS_ZOMBIE or process.wait(timeout=30) is None
    except psutil.NoSuchProcess:
        return True


def test_where_a_process_stands_is_what_torchrun_says_or_the_first_of_those_it_starts(monkeypatch):
    assert processes.place(4) == Place(rank=0, size=4, local_rank=0, local_size=4)
    for name, value in {"RANK": 5, "WORLD_SIZE": 8, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 4}.items():
        monkeypatch.setenv(name, str(value))
    assert processes.place() == Place(rank=5, size=8, local_rank=1, local_size=4)


def test_a_process_that_does_not_even_start_is_named_with_its_last_words(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    words = r"Process 1 of the 2 that train together ended with exit code 1 \(.*No module"
    with pytest.raises(ResourceError, match=words), processes.joined("there_is_no_such_stage", 2):
        raise AssertionError


def test_one_process_is_its_own_group_and_loads_nothing():
    code = """
import sys
from pipelines.adapters import processes
with processes.joined("pretraining", 1) as group:
    assert (group.rank, group.size, group.any(flag=True), group.firsts(3)) == (0, 1, True, 3)
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)

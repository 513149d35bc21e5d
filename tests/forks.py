"""A stage in one real process after the other, each killed at its moment: for tests of what a kill leaves behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.learning import ROOT

RUNNER = """
# Loads what the stage loads once, then runs it in one forked process after the other. Each is killed so many
# milliseconds after a checkpoint of at least the given step has appeared; 0: after its start.
import json, os, pathlib, runpy, signal, sys, time
import safetensors.torch, torch, transformers
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast
stage = sys.argv[1]
sys.argv = [stage]

def reached(step):
    found = pathlib.Path(".moteur/checkpoints", stage).glob("*/0*")
    return step == 0 or any(int(folder.name) >= step for folder in found)

for step, delay in json.loads(sys.stdin.read()):
    child = os.fork()
    if child == 0:
        runpy.run_module(f"pipelines.{stage}", run_name="__main__")
    ended, status = 0, 0
    while step is not None and not ended and not reached(step):
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.002)
    if step is not None and not ended:
        time.sleep(delay / 1000)
        os.kill(child, signal.SIGKILL)
    if not ended:
        _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""
TO_THE_END = (None, 0)


def run(workspace: Path, stage: str, kills: list[tuple[int | None, int]]) -> list[int]:
    """Run the stage once for each kill, (step of a checkpoint, milliseconds after it); return the exit codes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, stage],
        cwd=workspace,
        env=environment,
        input=json.dumps(kills),
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(line) for line in done.stdout.split()]

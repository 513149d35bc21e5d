"""Kill -9 at random moments, run again, compare: python -m benchmarks.kills [--count 20] [--only pretraining ...].

In a small workspace each stage that trains is run once to its end. Then it starts anew, each time in a process of its
own, is killed with SIGKILL, at a moment drawn from its whole duration or, every third time, while it writes a
checkpoint or its model, and is run again until it ends. Its outputs must then be those of the first run, by sha256.
Rows that are not run again stay in the results as they are. A training of which no kill left a checkpoint behind shows
nothing of resuming: it ends the run.
"""

import argparse
import os
import random
import runpy
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flows.workspaces import profiles
from pipelines.adapters import files
from pipelines.adapters.checkpoints import MANIFEST
from pipelines.artifacts import Artifact, State

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "kills.json"
SPLITS = ("train", "valid", "test")
PREPARED = ("ingestion", "data_validation", "tokenization", "pretraining", "finetuning", "feedback", "reward_modeling")
SMALL: dict[str, Any] = {
    "threads": 1,
    "ingestion": {
        kind: {split: [{"uri": f"tales://?stories={200 if split == 'train' else 30}&seed=7"}] for split in SPLITS}
        for kind in ("corpus", "instructions")
    },
    "model": {"hidden_size": 32, "num_heads": 2, "intermediate_size": 64},
    "pretraining": {"batch_size": 4, "max_tokens": 20_000, "evaluate_every": 5, "checkpoint_every": 3},
    "finetuning": {"epochs": 0.4, "evaluation_records": 8, "max_new_tokens": 4, "checkpoint_every": 1},
    "feedback": {"num_prompts": 32, "responses_per_prompt": 2, "max_new_tokens": 8},
    "reward_modeling": {"epochs": 4.0, "checkpoint_every": 1},
    "ppo": {
        "iterations": 6,
        "prompts_per_iteration": 8,
        "minibatch_size": 4,
        "max_new_tokens": 8,
        "checkpoint_every": 1,
        "evaluation_prompts": 8,
    },
}
ADAPTERS: dict[str, Any] = {"method": "lora", "microbatch_size": 2, "ptx_coefficient": 0.5, "learning_rate": 0.001}
DIVERGING: dict[str, Any] = {"max_tokens": 200_000, "learning_rate": 0.5, "warmup_share": 0.1, "patience": 2}
"""Validation gets worse from some step on: that ends the training, and weights from before are saved."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """A stage under some settings, and what it makes."""

    stage: str
    models: tuple[Artifact, ...]
    curves: tuple[Artifact, ...]
    settings: Mapping[str, Any]
    checkpoints: tuple[str, ...] = ()
    """Besides those under the name of the stage."""

    def outputs(self) -> dict[str, str]:
        """Digest of each file, None of which may differ."""
        made = [path for model in self.models for path in sorted(model.path.rglob("*"))]
        made += [*(curve.path for curve in self.curves), Artifact[f"{self.stage.upper()}_REPORT"].path]
        return {path.as_posix(): files.sha256(path) for path in made if path.is_file()}

    def forget(self) -> None:
        """As if it had never run."""
        for folder in (*(model.path for model in self.models), *self._folders, *self._half_models()):
            shutil.rmtree(folder, ignore_errors=True)
        for path in (*(curve.path for curve in self.curves), Artifact[f"{self.stage.upper()}_REPORT"].path):
            path.unlink(missing_ok=True)

    def writes(self) -> bool:
        """Whether a checkpoint or a model is being written."""
        try:
            half = [
                *(half for folder in self._folders for half in folder.glob("**/.0*")),
                *self._half_models(),
            ]
        except FileNotFoundError:  # an old checkpoint was removed meanwhile, which ends the writing of a new one
            return True
        return bool(half)

    def has_checkpoint(self) -> bool:
        """Whether there is a whole one to go on from."""
        return any(path.parent.name.isdigit() for folder in self._folders for path in folder.glob(f"*/*/{MANIFEST}"))

    def _half_models(self) -> list[Path]:
        return [half for model in self.models for half in files.holders(model.path)]

    @property
    def _folders(self) -> list[Path]:
        return [State.CHECKPOINTS.path / name for name in (self.stage, *self.checkpoints)]


POLICY: dict[str, Any] = {
    "stage": "ppo",
    "models": (Artifact.POLICY,),
    "curves": (Artifact.PPO_CURVE, Artifact.PPO_AXIS),
}
BASE: dict[str, Any] = {
    "stage": "pretraining",
    "models": (Artifact.BASE,),
    "curves": (Artifact.PRETRAINING_CURVE,),
}
TRAININGS = {
    "ppo": Training(**POLICY, settings={}),
    "ppo, LoRA, microbatches and pretraining text": Training(**POLICY, settings={"ppo": ADAPTERS}),
    "reward_modeling": Training(
        stage="reward_modeling",
        models=(Artifact.REWARD, Artifact.HELD_OUT_REWARD),
        curves=(Artifact.REWARD_MODELING_CURVE,),
        settings={},
        checkpoints=("held_out_model_reward_modeling",),
    ),
    "finetuning": Training(
        stage="finetuning", models=(Artifact.SFT,), curves=(Artifact.FINETUNING_CURVE,), settings={}
    ),
    "pretraining": Training(**BASE, settings={}),
    "pretraining that stops early": Training(**BASE, settings={"pretraining": DIVERGING}),
    "pretraining by two processes": Training(**BASE, settings={"pretraining": {"processes": 2}}),
}


def main(count: int, names: Sequence[str]) -> None:
    """Prepare, kill, compare, print, write."""
    import torch  # noqa: F401  once, before the forks
    import transformers  # noqa: F401
    import trl  # noqa: F401

    from pipelines.core.judging import kl_axis

    kl_axis.chosen = lambda axis, **_limits: axis[-1]  # the instruction model, which may be worth more, shows no resume

    with tempfile.TemporaryDirectory(prefix="moteur-kills-") as scratch:
        os.chdir(scratch)
        write_params({})
        for stage in needed(names):
            status = ended(started(stage))
            if status != 0:
                raise SystemExit(f"{stage} ended with {status} in the workspace that was to be prepared; see log.txt")
        print(f"{'':46} {'kills':>6} {'in writes':>10} {'identical':>10}")
        for name in names:
            row: Mapping[str, Any] = {}
            for row in killed(TRAININGS[name], count, random.Random(f"kills:{name}")):
                keep(name, row)
            print(f"{name:46} {row['kills']:6} {row['in_writes']:10} {row['identical']:10}", flush=True)
        os.chdir(ROOT)


def keep(name: str, row: Mapping[str, Any]) -> None:
    """Write one row of the results; the others stay as they are."""
    rows = {**(files.read_json(RESULTS) if RESULTS.exists() else {}), name: dict(row)}
    files.write_json(RESULTS, {name: rows[name] for name in TRAININGS if name in rows})


def needed(names: Sequence[str]) -> tuple[str, ...]:
    """The stages that have to run before these trainings can."""
    stages = [TRAININGS[name].stage for name in names]
    last = max(PREPARED.index(stage) if stage in PREPARED else len(PREPARED) for stage in stages)
    return PREPARED[: last + 1]


def write_params(changes: Mapping[str, Any]) -> None:
    """params.yaml of the workspace: the repository's, the smoke profile, what is small here, `changes`."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    smoke = yaml.safe_load((ROOT / "profiles/smoke.yaml").read_text(encoding="utf-8"))
    for over in (smoke, SMALL, changes):
        values = profiles.merge(values, over, "benchmarks/kills.py")
    Path("params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")


def started(stage: str) -> int:
    """The id of a process that runs a stage in the working directory."""
    child = os.fork()
    if child == 0:
        with Path("log.txt").open("a", encoding="utf-8") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        sys.argv = [stage]
        try:
            runpy.run_module(f"pipelines.{stage}", run_name="__main__")
        except SystemExit as end:
            os._exit(int(end.code or 0))
        except BaseException:
            traceback.print_exc()
        os._exit(99)  # this process must not go on as its parent
    return child


def ended(child: int) -> int:
    """The exit code of a process, once it has ended; negative: the signal that ended it."""
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def killed(training: Training, count: int, draw: random.Random) -> Iterator[dict[str, Any]]:
    """Kill the stage this many times, each time beginning anew.

    The row so far, with the identical ends, comes after each kill, once one has left a checkpoint to go on from.
    """
    write_params(training.settings)
    training.forget()
    began = time.monotonic()
    if ended(started(training.stage)) != 0:
        raise SystemExit(f"{training.stage} does not end well when nobody kills it")
    duration = time.monotonic() - began
    expected = training.outputs()
    weights = expected[(training.models[0].path / "model.safetensors").as_posix()]
    kills = in_writes = identical = resumed = 0
    while kills < count:
        training.forget()
        in_write = kill(training, draw, duration, wait_for_write=kills % 3 == 2)
        if in_write is None:
            continue  # it was faster
        kills, in_writes, resumed = kills + 1, in_writes + in_write, resumed + training.has_checkpoint()
        identical += ended(started(training.stage)) == 0 and training.outputs() == expected
        if resumed:
            yield {"kills": kills, "in_writes": in_writes, "identical": identical, "sha256_of_weights": weights}
    if not resumed:
        raise SystemExit(
            f"None of {kills} kills of {training.stage} left a checkpoint to go on from: every run began anew, and"
            f" nothing of resuming was seen. Lower {training.stage}.checkpoint_every in SMALL, or raise --count."
        )
    training.forget()
    write_params({})
    if training.stage in PREPARED and ended(started(training.stage)) != 0:  # as those after it found it
        raise SystemExit(f"{training.stage} does not end well when nobody kills it")


def kill(training: Training, draw: random.Random, duration: float, *, wait_for_write: bool) -> bool | None:
    """Start the stage and kill it: whether that was within a write; None: it had ended before."""
    child = started(training.stage)
    until = time.monotonic() + draw.random() * duration
    while True:
        gone, status = os.waitpid(child, os.WNOHANG)
        if gone:
            if os.waitstatus_to_exitcode(status) != 0:
                raise SystemExit(f"{training.stage} ended with status {status} by itself; see log.txt")
            return None
        now = time.monotonic()
        if now >= until and (not wait_for_write or training.writes()):
            break
        time.sleep(0.0002 if wait_for_write and now >= until else min(0.01, max(0.0, until - now)))
    in_write = training.writes()
    os.kill(child, signal.SIGKILL)
    ended(child)
    return in_write


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20, help="kills of each training")
    parser.add_argument("--only", nargs="+", choices=TRAININGS, default=list(TRAININGS), help="these trainings")
    given = parser.parse_args()
    main(given.count, given.only)

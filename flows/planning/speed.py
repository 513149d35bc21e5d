"""How fast this machine trains, measured by a few steps in a process of its own, and kept."""

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flows import process
from pipelines.adapters import files, git, vocabulary
from pipelines.artifacts import State
from pipelines.core.learning import pace
from pipelines.errors import MoteurError
from pipelines.params import Model, Params


class NotMeasured(MoteurError):  # noqa: N818  it is an outcome, and reads as one
    """The process that measures ended with an error."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Of training."""

    parameters: int
    """Of the model that was trained."""
    tokens_per_second: float
    flops_per_second: float
    """6 for each parameter and token."""


def known(params: Params, shape: Model | None = None) -> Speed | None:
    """What was measured before for this shape and these settings; None where nothing was."""
    found = _kept().get(_key(params, shape or params.model))
    return Speed(**found) if found else None


def measured(params: Params, shape: Model | None = None) -> Speed:
    """Measure now (ten seconds, most of it imports), and keep it.

    Raises:
        NotMeasured: when the steps cannot be made, and for what is not a causal Llama in one process.
    """
    if other := _other(params):
        raise NotMeasured(
            f"The speed of training is measured for a causal Llama in one process, all of a batch at once, but {other}:"
            ' write the speed yourself into pretraining.budget in params.yaml, as in "10 minutes at 32 GFLOP/s"'
        )
    model = (shape or params.model).model_dump()
    command = [sys.executable, "-m", "pipelines.speed", json.dumps(model)]
    root = Path(__file__).resolve().parents[2]
    paths = os.pathsep.join(item for item in (str(root), os.environ.get("PYTHONPATH", "")) if item)
    done = process.capture(command, {**git.environment(), "PYTHONPATH": paths}, folder=Path())
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise NotMeasured(f"The speed of training could not be measured: {said[-1]}")
    speed = Speed(**json.loads(done.stdout.splitlines()[-1]))
    files.write_json(State.SPEED.path, {**_kept(), _key(params, shape or params.model): asdict(speed)})
    return speed


def _other(params: Params) -> str | None:
    settings = params.pretraining
    if settings.processes > 1:
        return f"pretraining.processes is {settings.processes}"
    if settings.microbatch_size is not None:
        return f"pretraining.microbatch_size is {settings.microbatch_size}"
    return params.ends_with_base


def _kept() -> dict[str, dict[str, Any]]:
    try:
        return dict(json.loads(State.SPEED.path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _key(params: Params, shape: Model) -> str:
    facts = {"vocab_size": vocabulary.size(params), "model": shape.model_dump()}
    return json.dumps({**pace.settings(params), **facts}, sort_keys=True)

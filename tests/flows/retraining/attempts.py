"""What the tests of retrainings share: records made by hand, and a lifecycle that ends as they want."""

from pathlib import Path
from typing import IO

import pytest

from flows.retraining import records
from flows.retraining import run as retraining
from flows.retraining.records import Record
from pipelines import stage
from pipelines.adapters.alerts import NullOutbox
from tests.flows import toy


def silent(_: str) -> None:
    pass


def recorded(root: Path) -> list[Record]:
    return records.read(root)


def lifecycle_that_ends_with(code: int, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Stand in for the process of the lifecycle; returns the commands it was given."""
    commands: list[list[str]] = []

    def run(command: list[str], environment: object, grace: float, *, folder: Path, output: IO[bytes] | None) -> int:
        commands.append(command)
        if output:
            output.write(b"moteur: stage ppo failed (exit code 6).\n\n")
        return code

    monkeypatch.setattr(retraining.process, "run", run)
    return commands


def record(**changed: object) -> Record:
    values = {
        "id": "r",
        "commit": "c",
        "reason": "drift",
        "keys": ["k"],
        "start": None,
        "profile": None,
        "started": 1e6,
    }
    return Record(**(values | changed))  # type: ignore[arg-type]


def accepted_data(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def attempt(checkout: Path, one: Record) -> retraining.Attempt:
    """An attempt with the params of this repository, which tells nobody."""
    params = stage.load_params(toy.ROOT / "params.yaml")
    return retraining.Attempt(
        checkout=checkout, record=one, params=params, say=silent, outbox=NullOutbox(), aside=False
    )

"""The ledger of effort: one line for each time a stage ran, read back; and what was planned for it before."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from pipelines.artifacts import State


class Entry(TypedDict):
    """What one run of one stage cost."""

    run: str
    stage: str
    status: str
    exit_code: int
    ended: str
    seconds: float
    """Of a training that went on from a checkpoint those of the earlier runs too, as far as it had saved them."""
    peak_memory_mib: float
    flops: float
    tokens: int
    objective: str
    customisation: str
    pace: NotRequired[str]
    """Names the settings of pretraining that decide its speed; absent in lines of earlier versions."""


class Planned(TypedDict):
    """What one run of one stage was expected to cost when it began; None: not known."""

    run: str
    stage: str
    tokens: float | None
    flops: float | None
    seconds: float | None


def entries(workspace: Path = Path()) -> list[Entry]:
    """All lines of the ledger in the order of time; a torn last line is left out."""
    return list(_read(workspace / State.EFFORT))


def plan(planned: Iterable[Planned]) -> None:
    """Keep what is planned."""
    State.PLANNED.path.parent.mkdir(parents=True, exist_ok=True)
    with State.PLANNED.path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in planned)


def planned(efforts: Iterable[Entry]) -> dict[str, Planned]:
    """Stage -> what was planned for the run in which it did this; absent where nothing was (a bare `dvc repro`)."""
    kept: dict[tuple[str, str], Planned] = {(line["run"], line["stage"]): line for line in _read(State.PLANNED.path)}
    every = [kept.get((entry["run"], entry["stage"])) for entry in efforts]
    return {line["stage"]: line for line in every if line}


def last_planned() -> str | None:
    """The run that was begun last by `moteur run`."""
    names = [line["run"] for line in _read(State.PLANNED.path)]
    return names[-1] if names else None


def _read(path: Path) -> Iterator[Any]:
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                continue


def last_finished(workspace: Path = Path()) -> dict[str, Entry]:
    """Stage -> its latest run that finished: the one whose outputs are there."""
    return {entry["stage"]: entry for entry in entries(workspace) if entry["status"] == "finished"}


def of_run(run: str) -> dict[str, Entry]:
    """Stage -> what it did in this run; a stage that did not need to run is absent."""
    return {entry["stage"]: entry for entry in entries() if entry["run"] == run}


def reports() -> dict[str, dict[str, Any]]:
    """Stage -> its report, for the reports that exist and can be read."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(State.ROOT.path.parent.glob("reports/*.json")):
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(value, dict):
            found[path.stem] = value
    return found

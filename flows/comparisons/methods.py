"""Compare methods with each other: each in a scratch workspace of its own, resumed method by method, shown on one page.

A scratch workspace is a folder with params.yaml, links to what the method reads, and what it makes. The models, reports
and tracking of the workspace around it are never written to.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from flows import process
from flows.reporting import rendering
from flows.stages import figures, ledger
from flows.workspaces import profiles
from pipelines.adapters import files, git, tracking, yaml_text
from pipelines.artifacts import Artifact, Display, State
from pipelines.errors import ArtifactError, MoteurError

FOLDER = Display.COMPARISONS.path
KEY = "comparison.json"
"""What a scratch workspace was made for; another key, and it is made anew."""


class MethodFailed(MoteurError):  # noqa: N818  it is an outcome, and reads as one
    """A program of a method ended with another exit code than 0, which becomes ours."""

    def __init__(self, what: str, exit_code: int) -> None:
        super().__init__(
            f"{what} failed (exit code {exit_code}), as said above. Run the same command again: methods that are"
            " finished are not run again."
        )
        self.exit_code = exit_code


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one program reported, and what it cost."""

    report: Mapping[str, Any]
    seconds: float
    peak_memory_mib: float
    flops: float
    again: bool
    """It was finished before."""


@dataclass(frozen=True, kw_only=True)
class Scratch:
    """The scratch workspace of one method."""

    folder: Path
    root: Path
    """The workspace around it, whose code runs."""

    def outcome(self, module: str, report: str, *arguments: str) -> Outcome:
        """What `python -m pipelines.<module> <arguments>` reports at `report`; it runs unless it did before.

        Raises:
            MethodFailed: when it ends with an error.
        """
        path = self.folder / report
        again = path.is_file() and module in ledger.last_finished(self.folder)
        if not again:
            paths = [str(self.root), os.environ.get("PYTHONPATH", "")]
            environment = {
                **git.environment(),
                "PYTHONPATH": os.pathsep.join(item for item in paths if item),
                "PYTHONUNBUFFERED": "1",
                tracking.RUN_VARIABLE: self.folder.name,
            }
            command = [sys.executable, "-m", f"pipelines.{module}", *arguments]
            code = process.run(command, environment, folder=self.folder)
            if code != 0:
                raise MethodFailed(f"{module} of {self.folder.name}", code)
        costs = [entry for entry in ledger.entries(self.folder) if entry["stage"] == module]
        last = ledger.last_finished(self.folder)[module]
        return Outcome(
            report=files.read_json(path),
            seconds=last["seconds"],
            peak_memory_mib=max(entry["peak_memory_mib"] for entry in costs),
            flops=last["flops"],
            again=again,
        )


def best(
    names: Sequence[str],
    workspace: Callable[[str], Scratch],
    stage: str,
    loss: Callable[[Mapping[str, Any]], float],
    told: Callable[[Mapping[str, Any]], str],
    say: Callable[[str], None],
) -> tuple[str, Scratch, Outcome]:
    """Run a stage for each candidate; the one with the least `loss` by its report, which is of the split valid.

    Args:
        names: Of the candidates.
        workspace: Where one runs.
        stage: What runs.
        loss: By which it is chosen, from the report of the stage.
        told: What is said of a report.
        say: Prints a line for each candidate.
    """
    tried = []
    for name in names:
        place = workspace(name)
        outcome = place.outcome(stage, Artifact[f"{stage.upper()}_REPORT"].value)
        again = "finished before, " if outcome.again else ""
        say(f"      {name}: {again}valid {told(outcome.report)}, {figures.duration(outcome.seconds)}")
        tried.append((name, place, outcome))
    return min(tried, key=lambda each: loss(each[2].report))


def folder(name: str, *, quick: bool) -> str:
    """Where the scratch workspaces of a comparison lie: a quick look leaves those of the whole one alone."""
    return f"{name}-quick" if quick else name


def reads(root: Path, stage: str) -> list[Path]:
    """The artifacts that dvc.yaml names as deps of a stage."""
    deps = _stage(root, stage)["deps"]
    return [Artifact[found[1]].path for item in deps if (found := re.fullmatch(r"\$\{Artifact\.(\w+)\}", item))]


def _stage(root: Path, name: str) -> dict[str, Any]:
    stages: dict[str, Any] = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return dict(stages[name])


def _sections(root: Path, stage: str) -> list[str]:
    return [str(entry).split(".")[0] for entry in _stage(root, stage)["params"]]


def scratch(
    root: Path,
    comparison: str,
    method: str,
    overrides: Mapping[str, Any],
    inputs: Sequence[Path],
    links: Mapping[str, Path] | None = None,
    *,
    stage: str | None = None,
) -> Scratch:
    """The scratch workspace of a method, as it was left; anew when params, overrides, inputs or code have changed.

    Args:
        root: The workspace.
        comparison: Its name.
        method: Its name, also that of the folder.
        overrides: Over the workspace's params, section by section.
        inputs: What the method reads, relative to the workspace.
        links: Further places in the scratch workspace, and what of the workspace stands there.
        stage: Only this stage of dvc.yaml works there: changes of params that it does not read do not matter.

    Raises:
        ArtifactError: when an input is missing.
    """
    places = {**{path.as_posix(): path for path in inputs}, **(links or {})}
    for path in places.values():
        if not (root / path).exists():
            raise ArtifactError(f"{path} is missing. Run `moteur run` (or `dvc repro`) to make it.")
    base = yaml_text.load((root / "params.yaml").read_text(encoding="utf-8"))
    values = profiles.merge(base, overrides, f"the method {method}")
    matter = values if stage is None else {name: values[name] for name in _sections(root, stage)}
    key = {
        "params": matter,
        "inputs": {name: files.sha256((root / path).resolve()) for name, path in places.items()},
        "code": files.sha256(root / "pipelines", "*.py"),
    }
    place = root / State.COMPARISONS / comparison / re.sub(r"[^\w.-]", "_", method)
    if not (place / KEY).is_file() or json.loads((place / KEY).read_text(encoding="utf-8")) != key:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        (place / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        for name, path in places.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).symlink_to((root / path).resolve())
        files.write_json(place / KEY, key)
    return Scratch(folder=place, root=root)


@dataclass(frozen=True, kw_only=True)
class Table:
    """More figures than fit beside each other in one table."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    """The first cell is the name of the method."""


@dataclass(frozen=True, kw_only=True)
class Page(Table):
    """What a comparison shows."""

    name: str
    title: str
    summary: Sequence[str]
    """Sentences."""
    figures: Mapping[str, str]
    """Heading -> SVG."""
    details: Mapping[str, Table] = field(default_factory=dict)
    """Heading -> a table below the figures; not shown in the terminal."""
    notes: Sequence[str] = field(default=())


def write(page: Page, values: Any) -> Path:
    """Write the figures as JSON and the page as HTML below `reports/comparison`; return the page."""
    files.write_json(FOLDER / f"{page.name}.json", values)
    content = {"page": page, "style": rendering.style("lifecycle.css")}
    return rendering.write(FOLDER / f"{page.name}.html", "comparison.html.jinja", content)


def table(page: Page) -> str:
    """The table for a terminal, columns aligned."""
    rows = [list(page.columns), *map(list, page.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(page.columns))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )

"""What a stage costs that has nothing to learn, and what the real stages import.

    python -m benchmarks.overhead
    python -m benchmarks.overhead --imports        # besides: a small lifecycle, and what each of its stages imports

The lifecycle here is a chain of stages that write a line each through the frame of a stage (pipelines/stage.py). It is
run by `dvc repro` and by `moteur run` with one stage and with many; the difference, divided by the stages between, is
what a stage costs, and what is left is paid once a run. Python and the imports of the frame are part of it, and are
shown by themselves. MLflow is written by a process beside the run; what it takes a stage is measured by itself.

With --imports the profile `smoke` is run once, and then each of its stages with `python -X importtime`: which libraries
our code asks for, which come along with them, and how long each takes.
"""

import argparse
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks import runs
from pipelines.artifacts import Artifact

STAGES = tuple(yaml.safe_load((runs.ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"])
MANY = len(STAGES)
FOLDER = runs.SCRATCH / "overhead"
NOTHING = '''"""Nothing to learn."""
from dataclasses import dataclass
from pathlib import Path
from pipelines import stage
from pipelines.artifacts import Artifact

@dataclass(frozen=True, kw_only=True)
class Report:
    lines: int

def main(params, tracker):
    Path("made").mkdir(exist_ok=True)
    Path("made/{name}.txt").write_text("{name}\\n")
    return Report(lines=1)

if __name__ == "__main__":
    stage.run("{name}", main, report=Artifact["{report}"])
'''
PYTHON, FRAME, STAGE = "python, nothing else", "python and the imports of a stage's frame", "one stage, by itself"
REPRO, RUN = "dvc repro", "moteur run"
SINK = "MLflow, written beside the run"
SHOWN = 10
"""Libraries that have a column: those whose imports take the longest in all stages together."""
LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \| ( *)(\S+)")


def main() -> None:
    """Run everything in turn, print the tables and keep them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="runs of each")
    parser.add_argument("--imports", action="store_true", help="also what the stages of a small lifecycle import")
    settings = parser.parse_args()
    machine = runs.machine()
    turns = runs.alternate(_sides(FOLDER.resolve()), settings.repeats)
    per_stage = [
        runs.Aim(what=f"{way}: seconds a stage beyond Python and imports", found=found, at_most=1.0)
        for way, found in beyond_imports(turns).items()
    ]
    notes: list[str] = []
    comparisons = [
        runs.Comparison(
            title="Stages with nothing to learn",
            runs=turns,
            figure="wall_seconds",
            columns={"wall_seconds": "seconds", "cpu_seconds": "seconds of a core", "peak_mib": "MiB"},
        ),
        runs.Comparison(
            title="What one stage and one run cost",
            runs=costs(turns),
            figure="per_stage",
            columns={
                "per_stage": "seconds a stage",
                "cpu_per_stage": "of a core",
                "per_run": "seconds a run besides",
            },
        ),
    ]
    if settings.imports:
        table, notes = _imports(_finished_workspace())
        comparisons.append(table)
    runs.write(
        "overhead",
        how=f"Chains of 1 and of {MANY} stages, every stage run again; {settings.repeats} runs of each in turn.",
        machine=machine,
        comparisons=comparisons,
        aims=per_stage,
        notes=notes,
    )


def _sides(folder: Path) -> list[runs.Side]:
    """In an order in which MLflow gets what `dvc repro` has just left for it."""
    shutil.rmtree(folder, ignore_errors=True)
    one, many = (_chain(folder / str(count), count) for count in (1, MANY))
    python = sys.executable
    repro, moteur = [python, "-m", "dvc", "repro", "--quiet"], [python, "-m", "flows.cli", "run"]
    return [
        runs.Side(name=PYTHON, command=[python, "-c", "pass"]),
        runs.Side(name=FRAME, command=[python, "-c", NOTHING.partition("@")[0]]),
        runs.Side(name=STAGE, command=[python, f"{STAGES[0]}.py"], folder=one),
        *_both(RUN, [*moteur, "--force"], one, many),
        *_both(REPRO, [*repro, "--force"], one, many),
        *_both(SINK, _SINK, one, many),
        runs.Side(name=f"{REPRO}, nothing to do", command=repro, folder=many),
        runs.Side(name=f"{RUN}, nothing to do", command=moteur, folder=many),
    ]


def _both(name: str, command: list[str], one: Path, many: Path) -> Iterator[runs.Side]:
    yield runs.Side(name=f"{name}, 1 stage", command=command, folder=one)
    yield runs.Side(name=f"{name}, {MANY} stages", command=command, folder=many)


_SINK = [sys.executable, "-m", "pipelines.adapters.mlflow_sink"]


def _chain(folder: Path, count: int) -> Path:
    """A workspace with this many stages, each of which reads what the one before wrote; run once."""
    (folder / "reports").mkdir(parents=True)
    shutil.copy2(runs.ROOT / "params.yaml", folder)
    (folder / ".gitignore").touch()
    before = "params.yaml"
    graph: dict[str, object] = {}
    for name in STAGES[:count]:
        report = Artifact[f"{name.upper()}_REPORT"]
        (folder / f"{name}.py").write_text(NOTHING.format(name=name, report=report.name), encoding="utf-8")
        graph[name] = {
            "desc": "Nothing to learn.",
            "cmd": f"{sys.executable} {name}.py",
            "deps": [before, f"{name}.py"],
            "outs": [f"made/{name}.txt"],
            "metrics": [report.value],
        }
        before = f"made/{name}.txt"
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": graph}, sort_keys=False), encoding="utf-8")
    runs.measured(
        runs.Side(name="dvc init", command=[sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], folder=folder)
    )
    for command in ([sys.executable, "-m", "flows.cli", "run"], _SINK):
        runs.measured(runs.Side(name="the first run", command=command, folder=folder))
    return folder


def costs(turns: runs.Runs) -> runs.Runs:
    """Seconds a stage and, besides, a run: for every way by the difference between many stages and one."""
    found = runs.Runs()
    for way in (REPRO, RUN, SINK):
        for one, many in zip(turns[f"{way}, 1 stage"], turns[f"{way}, {MANY} stages"], strict=True):
            stage, cpu = ((many[name] - one[name]) / (MANY - 1) for name in ("wall_seconds", "cpu_seconds"))
            row = {"per_stage": stage, "cpu_per_stage": cpu, "per_run": one["wall_seconds"] - stage}
            found.setdefault(way, []).append(row)
    return found


def beyond_imports(turns: runs.Runs) -> dict[str, float]:
    """Median seconds a stage less Python with the imports of the frame."""
    needed = runs.middle(turns, FRAME, "wall_seconds")
    return {way: runs.middle(costs(turns), way, "per_stage") - needed for way in (REPRO, RUN)}


def _finished_workspace() -> Path:
    folder = (runs.SCRATCH / "smoke").resolve()
    command = [sys.executable, "-m", "flows.cli", "run", "--profile", "profiles/smoke.yaml", "--workspace", str(folder)]
    subprocess.run(command, cwd=runs.ROOT, check=True, stdout=sys.stderr)  # noqa: S603  our own
    return folder


def _imports(folder: Path) -> tuple[runs.Comparison, list[str]]:
    """Seconds of the imports of each stage, by library, and which library brings which along."""
    rows: dict[str, dict[str, float]] = {}
    bringers: dict[str, set[str]] = defaultdict(set)
    for name in STAGES:
        print(f"imports of {name}", file=sys.stderr)
        command = [sys.executable, "-X", "importtime", "-m", f"pipelines.{name}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)  # noqa: S603  our own
        found = list(imports(done.stderr.splitlines()))
        rows[name] = by_library(found)
        for library, by in {one.library: one.by for one in found}.items():  # of its first module, which comes last
            bringers[library].add(by)
    heaviest = sum((Counter(row) for row in rows.values()), Counter[str]())
    shown = [library for library, _ in heaviest.most_common(SHOWN)]
    table = runs.Comparison(
        title="Seconds of imports in each stage of a small lifecycle, by library",
        runs={name: [{"all": sum(row.values()), **row}] for name, row in rows.items()},
        figure="all",
        columns={"all": "all", **{library: library for library in shown}},
    )
    brought = [
        f"{library} by {' and '.join(sorted(bringers[library]))}"
        for library in shown
        if not bringers[library] & {"", OURS}
    ]
    return table, [f"Not asked for by our code, but brought along: {', '.join(brought)}."] if brought else []


OURS = "pipelines"


@dataclass(frozen=True)
class Import:
    """One module that was imported."""

    library: str
    """The first part of its name."""
    seconds: float
    """Of itself, without what it imports."""
    by: str
    """The library that first imported this one; empty when that was at run time, outside any import."""


def imports(lines: Iterable[str]) -> Iterator[Import]:
    """The modules in what `python -X importtime` writes, where a module stands after those that it imports; last first.

    The standard library is left out.
    """
    above: list[tuple[int, str]] = []
    for found in filter(None, map(LINE.match, reversed(list(lines)))):
        depth, library = len(found[2]), found[3].partition(".")[0]
        while above and above[-1][0] >= depth:
            above.pop()
        importers = [name for _, name in above if name != library and name not in sys.stdlib_module_names]
        above.append((depth, library))
        if library not in sys.stdlib_module_names and library not in ("__main__", "site"):
            yield Import(library, int(found[1]) / 1e6, importers[-1] if importers else "")


def by_library(found: Iterable[Import]) -> dict[str, float]:
    """Seconds of each library, ours among them."""
    seconds: dict[str, float] = defaultdict(float)
    for one in found:
        seconds[one.library] += one.seconds
    return dict(seconds)


if __name__ == "__main__":
    main()

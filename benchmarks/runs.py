"""What the benchmarks share: sides that run in turn, the table of their figures, and the file of results.

A side is one way to do the job, ours or a peer's. Each run is a process of its own that prints its figures as one line
of JSON, the last; sides take turns, so that what slows the machine down for a while slows all of them. Ratios are taken
within a turn; what is told is their median, with the lowest and the highest.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from pipelines.artifacts import State

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SCRATCH = State.ROOT.path / "benchmarks"
"""Corpora, workspaces and the peers' environments."""
WATCH_SECONDS = 0.1
MIB = 2**20

Figures = dict[str, float]
Runs = dict[str, list[Figures]]
"""Name of a side -> the figures of its runs, by turn."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One way to do the job."""

    name: str
    command: Sequence[str]
    folder: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    """Set on top of ours."""


def ours(module: str, *arguments: object) -> list[str]:
    """The command that runs a module of `benchmarks` with our Python."""
    return [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]


def alternate(sides: Iterable[Side], repeats: int, run: Callable[[Side], Figures] | None = None) -> Runs:
    """Run every side once, then every side again, and so on."""
    sides, found = list(sides), Runs()
    for turn in range(repeats):
        for side in sides:
            print(f"{turn + 1}/{repeats} {side.name}", file=sys.stderr, flush=True)
            found.setdefault(side.name, []).append((run or figures)(side))
    return found


def figures(side: Side) -> Figures:
    """Run a side once: what it printed, and what it cost as `wall_seconds`, `cpu_seconds` and `peak_mib`.

    Raises:
        SystemExit: when it fails, with what it said.
    """
    said, cost = measured(side)
    lines = [line for line in said.splitlines() if line.startswith("{")]
    return {**(json.loads(lines[-1]) if lines else {}), **cost}


def measured(side: Side) -> tuple[str, Figures]:
    """What a side writes to its standard output, and what it costs.

    `peak_mib` is the resident memory of the process and all that it started, added up ten times a second (pages that
    processes share count for each), or the kernel's own mark of the largest process where that is higher.
    """
    start, before = time.perf_counter(), _cpu_of_children()
    child = subprocess.Popen(  # noqa: S603  our own, or a peer's
        side.command,
        cwd=side.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **side.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with _peak(child.pid) as peak:
        said, complained = child.communicate()
    wall = time.perf_counter() - start
    if child.returncode:
        sys.exit(f"{side.name} ended with exit code {child.returncode}:\n{complained or said}")
    cost = {"wall_seconds": wall, "cpu_seconds": _cpu_of_children() - before, "peak_mib": max(peak) / MIB}
    return said, cost


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def _peak(pid: int) -> Iterator[list[int]]:
    """A list that gets the largest memory of a process and its children, in bytes, when both are looked at no more."""
    found, over = [0], threading.Event()

    def look() -> None:
        while True:
            with suppress(psutil.Error):
                process = psutil.Process(pid)
                family = [process, *process.children(recursive=True)]
                found.append(sum(_resident(one.pid, "VmRSS") for one in family))
                found.append(max(_resident(one.pid, "VmHWM") for one in family))
            if over.wait(WATCH_SECONDS):
                return

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def _resident(pid: int, mark: str) -> int:
    """Bytes, by a line of /proc/PID/status; 0 when the process is gone, or where there is no /proc."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(mark):
                return int(line.split()[1]) * 1024
    return 0


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The figures of some sides that do the same job."""

    title: str
    runs: Runs
    figure: str
    """What is compared; the first column."""
    columns: Mapping[str, str]
    """Figure -> heading, with its unit."""
    ours: str | None = None
    """The side that the others are held against."""
    lower_is_better: bool = False


@dataclass(frozen=True, kw_only=True)
class Aim:
    """What a figure has to reach."""

    what: str
    found: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool:
        """The figure is within its limit."""
        return (self.at_least is None or self.found >= self.at_least) and (
            self.at_most is None or self.found <= self.at_most
        )

    @property
    def limit(self) -> str:
        """In words."""
        return f"at least {shown(self.at_least)}" if self.at_least is not None else f"at most {shown(self.at_most)}"


def ratios(runs: Runs, ours: str, side: str, figure: str, *, lower_is_better: bool = False) -> list[float]:
    """How many times better ours is than `side`, for each turn."""
    pairs = [
        (one[figure], other[figure])
        for one, other in zip(runs[ours], runs[side], strict=True)
        if figure in one and figure in other
    ]
    return [other / one if lower_is_better else one / other for one, other in pairs]


def middle(runs: Runs, side: str, figure: str) -> float:
    """The median of a figure over the runs of a side."""
    return median(run[figure] for run in runs[side])


def shown(value: float | None) -> str:
    """Three or four figures; thousands are parted."""
    if value is None:
        return ""
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.3f}"


def spread(values: Sequence[float], write: Callable[[float], str] = shown) -> str:
    """The median, with the lowest and the highest where there are several."""
    if not values:
        return ""
    found = write(median(values))
    return found if len(values) == 1 else f"{found} ({write(min(values))} to {write(max(values))})"


def table(comparison: Comparison) -> str:
    """As Markdown: a side a row; the compared figure with its spread, how many times better ours is, the others."""
    others = [name for name in comparison.columns if name != comparison.figure]
    heads = [comparison.columns[comparison.figure], *([f"{comparison.ours} is"] if comparison.ours else [])]
    rows = [["", *heads, *(comparison.columns[name] for name in others)]]
    for side, runs in comparison.runs.items():
        cells = [spread(_column(runs, comparison.figure))]
        if comparison.ours:
            cells.append("" if side == comparison.ours else _times(comparison, side))
        cells += [shown(median(values)) if (values := _column(runs, name)) else "" for name in others]
        rows.append([side, *cells])
    return markdown(rows)


def _column(runs: list[Figures], name: str) -> list[float]:
    return [run[name] for run in runs if name in run]


def _times(comparison: Comparison, side: str) -> str:
    lower = comparison.lower_is_better
    values = ratios(comparison.runs, comparison.ours or "", side, comparison.figure, lower_is_better=lower)
    return f"{spread(values, '{:.2f}'.format)} times" if values else ""


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table; the first row is its head, and what is not in the first column stands on the right."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---|" + "---:|" * (len(rows[0]) - 1), *lines[1:]])


def aims_table(aims: Iterable[Aim]) -> str:
    """As Markdown: what was found beside what it has to reach."""
    rows = [[aim.what, shown(aim.found), aim.limit, "met" if aim.met else "**missed**"] for aim in aims]
    return markdown([["aim", "found", "limit", ""], *rows])


def machine(threads: int | None = None) -> dict[str, Any]:
    """What the figures depend on, and how busy others keep the machine (`busy_cores`, over the next two seconds)."""
    import torch

    from pipelines.adapters import device

    return {
        "cpu": _cpu_model(),
        "cores": cores(),
        "threads": threads or cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "dtype": str(device.precision("auto")).removeprefix("torch."),
        "python": platform.python_version(),
        "torch": version("torch"),
        "transformers": version("transformers"),
        "busy_cores": round(psutil.cpu_percent(interval=2) / 100 * (psutil.cpu_count() or 1), 2),
    }


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0))


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def write(
    name: str,
    *,
    how: str,
    comparisons: Sequence[Comparison],
    machine: Mapping[str, Any],
    aims: Sequence[Aim] = (),
    notes: Sequence[str] = (),
) -> None:
    """Print the tables and keep all figures in benchmarks/results/NAME.json.

    Args:
        name: Of the benchmark's module.
        how: One sentence: what was run, with the settings that the figures depend on.
        comparisons: Their tables, in order.
        machine: As `machine` told it before the runs.
        aims: What has to be reached.
        notes: What a reader has to know besides.
    """
    found = {
        "how": how,
        "machine": dict(machine),
        "comparisons": [asdict(one) for one in comparisons],
        "aims": [asdict(one) for one in aims],
        "notes": list(notes),
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(_rounded(found), indent=1, ensure_ascii=False)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print("\n".join(body(found)))


def body(found: Mapping[str, Any]) -> Iterator[str]:
    """A file of results as Markdown."""
    yield from (found["how"], "")
    for one in found["comparisons"]:
        yield from (f"**{one['title']}**", "", table(Comparison(**one)), "")
    if found["aims"]:
        yield from (aims_table(Aim(**aim) for aim in found["aims"]), "")
    yield from (line for note in found["notes"] for line in (note, ""))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def peer_python(name: str, *packages: str, beside_ours: bool = False) -> Path:
    """The Python of a virtual environment with `packages`, made once.

    Args:
        name: Of its folder below .moteur/benchmarks; it should say the versions.
        packages: What pip installs, from the registry that it is set to.
        beside_ours: Our libraries can be imported, too, and nothing else is brought along.
    """
    folder = SCRATCH.resolve() / name
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.exists():
        venv.create(folder, with_pip=True, clear=True)
        if beside_ours:
            (site,) = folder.glob("lib/python*/site-packages")
            ours = [path for path in sys.path if path.endswith("site-packages")]
            (site / "ours.pth").write_text("\n".join([*ours, ""]), encoding="utf-8")
        options = ["--no-deps"] if beside_ours else []
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *options, *packages]
        subprocess.run(install, check=True)  # noqa: S603  fixed packages into an environment of its own
        done.touch()
    return python

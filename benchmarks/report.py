"""docs/performance.md out of benchmarks/results.

    python -m benchmarks.report                 # from the results that there are
    python -m benchmarks.report pretraining     # run these benchmarks first, in turn; `all`: every one

Results of another machine are shown, too, when they are moved into a folder of their own below benchmarks/results.

What has not been measured is named with the command that measures it. `--data` goes to those that need text of yours.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import runs

PAGE = runs.ROOT / "docs" / "performance.md"
QUESTIONS = {
    "pretraining": "How fast is pretraining?",
    "tinystories": "How much is learnt in three minutes?",
    "tokenization": "How fast are the data stages, and what memory do they take?",
    "overhead": "What does a stage cost that has nothing to learn?",
    "generation": "How fast is batched sampling?",
    "serving": "How fast is the server?",
    "ppo": "How fast is PPO?",
    "two_jobs": "What do two jobs on one machine cost each other?",
    "gpu": "How fast is pretraining on a GPU?",
}
"""Name of a benchmark -> what it asks, in the order of the page."""
NEEDS = {
    "tinystories": "--data",
    "ppo": "a workspace that has been run",
    "serving": "a release",
}
HEAD = """# Performance

Written by `python -m benchmarks.report` from benchmarks/results; each section says how it was measured, and its program
in `benchmarks/` has the details. Where there are several runs, sides take turns, each run in a process of its own: a
figure is the median, with the lowest and the highest run, and "Moteur is 2 times" is the median of the ratios within
each turn, with the lowest and the highest.
"""


def main() -> None:
    """Run what is asked for, then write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"to run first: all, or {', '.join(QUESTIONS)}")
    parser.add_argument("--data", type=Path, help="for tinystories: a folder with pretrain/tinystories.*.txt.gz")
    settings = parser.parse_args()
    names = list(QUESTIONS) if "all" in settings.names else settings.names
    if unknown := set(names) - set(QUESTIONS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(QUESTIONS)}")
    failed = [name for name in names if not _ran(name, settings.data)]
    PAGE.write_text(page(results(runs.RESULTS)), encoding="utf-8")
    print(PAGE)
    if failed:
        sys.exit(f"{', '.join(failed)} could not be measured: see above")


def _ran(name: str, data: Path | None) -> bool:
    """Run one benchmark; true when it ended well, or lacks what it needs."""
    lacking = {
        "tinystories": data is None,
        "ppo": not (Path("models/sft").exists() and Path("models/reward").exists()),
        "serving": not Path("models/release").exists(),
    }
    if lacking.get(name):
        print(f"{name} is left out: it needs {NEEDS[name]}", file=sys.stderr)
        return True
    options: dict[str, list[object]] = {
        "tinystories": ["--data", data],
        "serving": ["--write"],
        "overhead": ["--imports"],
    }
    print(f"== {name}", file=sys.stderr, flush=True)
    return subprocess.run(runs.ours(name, *options.get(name, [])), check=False).returncode == 0  # noqa: S603  our own


def results(folder: Path) -> dict[str, list[Any]]:
    """Name of a benchmark -> its last results, and those of other machines, which lie in a folder for each."""
    files = {name: [folder / f"{name}.json", *sorted(folder.glob(f"*/{name}.json"))] for name in QUESTIONS}
    return {
        name: [json.loads(file.read_text(encoding="utf-8")) for file in several if file.exists()]
        for name, several in files.items()
    }


def page(found: Mapping[str, Sequence[Any]]) -> str:
    """The whole page."""
    return "\n".join([HEAD, *(line for name in QUESTIONS for line in _section(name, found.get(name, [])))])


def _section(name: str, found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from (f"## {QUESTIONS[name]}", "")
    if not found:
        needs = f" (needs {NEEDS[name]})" if name in NEEDS else ""
        yield from (f"Not measured yet: `make bench BENCH={name}`{needs}.", "")
        return
    yield from (f"`benchmarks/{name}.py`. {machine(found[0]['machine'])}", "")
    yield from runs.body(found[0])
    for elsewhere in found[1:]:
        yield from (f"### The same on {elsewhere['machine']['cpu']}", "", machine(elsewhere["machine"]), "")
        yield from runs.body(elsewhere)


def machine(facts: Mapping[str, Any]) -> str:
    """The machine in one sentence, and a warning where it had other work to do."""
    parts = [
        f"{facts['cpu']}, {facts['cores']} cores, {facts['threads']} threads",
        f"{facts['memory_gib']} GiB" if "memory_gib" in facts else "",
        facts.get("gpu") or "no GPU",
        f"fast dtype {facts['dtype']}" if "dtype" in facts else "",
        *(f"{name} {facts[name]}" for name in ("python", "torch", "transformers") if name in facts),
    ]
    busy = facts.get("busy_cores", 0)
    warning = f" **Others kept {busy:g} cores busy when this began: the figures are noise.**" if busy > BUSY else ""
    if "load_average" in facts:  # all that older results know; the work just done for them counts in it
        warning = f" Load average of the minute before: {facts['load_average']:g}."
    return f"{', '.join(filter(None, parts))}.{warning}"


BUSY = 0.5
"""On a quiet machine others keep fewer cores busy."""


if __name__ == "__main__":
    main()

"""`moteur diagnose`, and its part of the report: who is at fault, by reports, curve and probes."""

import csv
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from flows import process, terminal
from pipelines import stage
from pipelines.adapters import files
from pipelines.artifacts import Artifact, State
from pipelines.core.judging import diagnosis, fault_rules
from pipelines.core.judging.diagnosis import Evidence, Verdict
from pipelines.errors import ArtifactError

AT_FAULT = 8
"""Exit code when a stage is at fault."""
COLOURS = {"sound": "green", "suspect": "yellow", "at fault": "red", "follows": "cyan", "unknown": "dim"}
PROBED = (Artifact.VALIDATED, Artifact.BASE, Artifact.SFT, Artifact.PREFERENCES, Artifact.REWARD)
CURVE_COLUMNS = ("kl", "clip_share", "kl_coefficient")


def show(root: Path, *, as_json: bool) -> int:
    """Probe the workspace `root`, print a verdict for each stage, return the exit code."""
    probe(root)
    verdicts = judge(root)
    if as_json:
        print(json.dumps([asdict(verdict) for verdict in verdicts], ensure_ascii=False, indent=2))  # noqa: T201
    else:
        terminal.console().print(table(verdicts))
    return AT_FAULT if any(verdict.state == "at fault" for verdict in verdicts) else 0


def judge(root: Path) -> tuple[Verdict, ...]:
    """A verdict for each stage of the workspace `root`, with the probes that were made of its models."""
    return diagnosis.diagnose(gather(root), fault_rules.RULES, fault_rules.NEEDED)


def probe(root: Path) -> None:
    """Make the probes in a process of their own, and keep them with what they were made from.

    Raises:
        ArtifactError: when the process fails.
    """
    stage.load_params(root / "params.yaml")
    before = fingerprint(root)
    with tempfile.TemporaryDirectory(prefix="moteur-probes-") as scratch:
        found = Path(scratch) / "probes.json"
        command = [sys.executable, "-m", "pipelines.probes", str(found)]
        done = process.capture(command, os.environ, folder=root)
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise ArtifactError(f"The probes could not be made: {said[-1]}")
        files.write_json(_kept(root), {"made_from": before, "probes": files.read_json(found)})


def _kept(root: Path) -> Path:
    return root / State.DIAGNOSIS / "probes.json"


def fingerprint(root: Path) -> str:
    """Changes when a file that the probes read is written again."""
    read = sorted(path for artifact in PROBED for path in (root / artifact).rglob("*") if path.is_file())
    state = [(str(path.relative_to(root)), path.stat().st_size, path.stat().st_mtime_ns) for path in read]
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()


def gather(root: Path) -> Evidence:
    """All that the workspace `root` tells; probes of other models than those that lie there now are left out."""
    import yaml

    reports = {path.stem: value for path in sorted(root.glob("reports/*.json")) if (value := _read(path))}
    refused = {} if "reward_modeling" in reports else _read(root / State.REFUSED / "reward_modeling.json")
    if refused:  # the gate let nothing follow, and DVC took the report away
        reports["reward_modeling"] = refused
        reports.pop("ppo", None)
    kept = _read(_kept(root))
    fresh = kept.get("made_from") == fingerprint(root)
    weight = (yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8")).get("ppo") or {}).get(
        "reward_model_weight"
    )
    return Evidence(
        reports=reports,
        curve=[] if refused else _curve(root / Artifact.PPO_CURVE),
        probes=kept.get("probes", {}) if fresh else {},
        reward_model_weight=weight,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _curve(path: Path) -> list[dict[str, float]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [
                {name: float(row[name]) for name in CURVE_COLUMNS if row.get(name) not in (None, "", "None")}
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, csv.Error):  # as with a torn report: nothing is known
        return []


def state_of(verdict: Verdict) -> str:
    """In words."""
    return f"follows from: {verdict.follows_from}" if verdict.follows_from else verdict.state


def table(verdicts: Sequence[Verdict]) -> Table:
    """Stage, verdict, evidence, what to try."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("stage", "verdict", "evidence", "what to try"):
        shown.add_column(name, overflow="fold", no_wrap=name == "stage")
    for verdict in verdicts:
        colour = COLOURS[verdict.state]
        shown.add_row(
            verdict.stage,
            f"[{colour}]{escape(state_of(verdict))}[/{colour}]",
            escape("\n".join(verdict.evidence)),
            escape("\n".join(verdict.remedies)),
        )
    return shown


def part() -> list[Mapping[str, Any]]:
    """Rows for the page, from the workspace that is the current folder; nothing is probed afresh."""
    return [{**asdict(verdict), "words": state_of(verdict)} for verdict in judge(Path())]

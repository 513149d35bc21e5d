"""Does `moteur diagnose` name the stage in which a fault was planted, and no other?

    python -m benchmarks.diagnosis --seeds 5
    python -m benchmarks.diagnosis --seeds 1 --faults healthy,template --base WORKSPACE

Each fault is planted as it happens in the field, outside of the pipeline's code: in the data or the saved folders of a
copied workspace, in its params, or by a patched function in the process that runs a stage. Stages after it run again,
with params.seed of their own; what comes before is copied. `--base` is a workspace with a finished lifecycle; without
it one is made, which takes as long as `moteur run`, and kept for the next time. A run is right when the faulty stage
is at fault and nobody else is. Results are written after each.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from flows.reporting import diagnosis
from pipelines.adapters import datasets, files
from pipelines.artifacts import Artifact, State
from pipelines.core.judging import diagnosis as rules
from pipelines.core.judging import fault_rules
from pipelines.core.judging.diagnosis import Evidence

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / State.ROOT / "diagnosis_benchmark"
RESULTS = ROOT / "benchmarks" / "results" / "diagnosis.json"
FIRST_SEED = 101
"""Limits were looked at on the default lifecycle's seed only."""
STAGES = ("finetuning", "feedback", "reward_modeling", "ppo", "evaluation")
BEFORE = ("ingestion", "data_validation", "tokenization", "pretraining")
SMALL: dict[str, dict[str, Any]] = {
    "feedback": {"num_prompts": 400},
    "reward_modeling": {
        "epochs": 1.0,
        "gate": {"min_accuracy": 0.0, "min_gain_over_length": -1.0, "max_calibration_error": 1.0},
    },
    "ppo": {"iterations": 6, "prompts_per_iteration": 32, "minibatch_size": 16, "evaluation_prompts": 60},
    "evaluation": {
        "examples_per_task": 16,
        "shots": [0],
        "shot_examples": 8,
        "decodings": [{"name": "greedy"}],
        "decoding_examples": 2,
        "win_rate_prompts": 24,
    },
}
"""Beside the default params. The gate before PPO is off: it would end the runs whose labels are spoilt."""


def shuffled(workspace: Path, draw: random.Random) -> None:
    """Each pair's two responses change places with chance 1/2."""
    _relabel(workspace, lambda _row: draw.random() < 0.5)


def by_length(workspace: Path, draw: random.Random) -> None:
    """The response with more words is the chosen one; a draw decides between equals."""
    _relabel(workspace, lambda row: len(row["chosen"].split()) + draw.random() < len(row["rejected"].split()) + 0.5)


def _relabel(workspace: Path, exchanged: Callable[[dict[str, Any]], bool]) -> None:
    folder = workspace / Artifact.PREFERENCES
    for split in datasets.SPLITS:
        rows = list(datasets.records(folder, "preferences", split))
        files.write_jsonl(
            datasets.file(folder, "preferences", split), [_turned(row) if exchanged(row) else row for row in rows]
        )


def _turned(row: dict[str, Any]) -> dict[str, Any]:
    turned = {**row, "chosen": row["rejected"], "rejected": row["chosen"]}
    if row.get("gold_chosen") is not None:
        turned |= {"gold_chosen": row["gold_rejected"], "gold_rejected": row["gold_chosen"]}
    return turned


def fresh_head(workspace: Path, draw: random.Random) -> None:
    """The head's weights are drawn anew, as a library does that does not find them."""
    import torch
    from safetensors.torch import load_file, save_file

    path = workspace / Artifact.REWARD / "model.safetensors"
    weights = load_file(path)
    head = weights["score.weight"]
    weights["score.weight"] = (
        torch.randn(head.shape, generator=torch.Generator().manual_seed(draw.getrandbits(32))) * 0.02
    )
    save_file(weights, path, metadata={"format": "pt"})


def loss_on_everything() -> None:
    """Patch: the labels of a conversation are all of its tokens."""
    from pipelines.core.learning import mixture

    encode = mixture.encode
    mixture.encode = lambda *given: [  # type: ignore[assignment]
        replace(example, labels=example.input_ids) for example in encode(*given)
    ]


def other_template() -> None:
    """Patch: prompts are written with headings instead of the model's chat template."""
    from pipelines.core.learning import decoding

    def headed(tokenizer: Any, messages: Sequence[dict[str, str]]) -> list[int]:
        text = "".join(f"### {message['role'].title()}:\n{message['content']}\n\n" for message in messages)
        return list(tokenizer.encode(f"{text}### Assistant:\n", add_special_tokens=False))

    decoding.chat_ids = headed  # type: ignore[assignment]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is done, and from which stage on everything runs again."""

    start: str
    guilty: rules.Stage | None
    edit: Callable[[Path, random.Random], None] | None = None
    patch: Callable[[], None] | None = None
    params: dict[str, dict[str, Any]]


FAULTS: dict[str, Fault] = {
    "healthy": Fault(start="feedback", guilty=None, params={}),
    "labels shuffled": Fault(start="reward_modeling", guilty="data", edit=shuffled, params={}),
    "labels by length": Fault(start="reward_modeling", guilty="data", edit=by_length, params={}),
    "loss on the prompt": Fault(
        start="finetuning",
        guilty="sft",
        patch=loss_on_everything,
        params={"finetuning": {"epochs": 0.08, "evaluation_records": 100}, "feedback": {"num_prompts": 150}},
    ),
    "template at evaluation": Fault(start="evaluation", guilty="evaluation", patch=other_template, params={}),
    "reward head lost": Fault(start="ppo", guilty="reward model", edit=fresh_head, params={}),
    "learning rate x100": Fault(start="ppo", guilty="ppo", params={"ppo": {"learning_rate": 0.03}}),
    "KL coefficient 0": Fault(start="ppo", guilty="ppo", params={"ppo": {"kl_coefficient": 0.0}}),
}


def play(name: str, seed: int, base: Path) -> dict[str, Any]:
    """Plant a fault in a copy of `base`, run what comes after it, diagnose; the row of the table."""
    fault = FAULTS[name]
    workspace = HOME / "runs" / f"{name.replace(' ', '_')}-{seed}"
    shutil.rmtree(workspace, ignore_errors=True)
    for part in ("data", "models", "reports", "reward_functions"):
        shutil.copytree(base / part, workspace / part, copy_function=os.link if part == "data" else shutil.copy2)
    preferences = workspace / Artifact.PREFERENCES
    shutil.rmtree(preferences)
    shutil.copytree(base / Artifact.PREFERENCES, preferences)
    stages = STAGES[STAGES.index(fault.start) :]
    for stage in stages:
        (workspace / "reports" / f"{stage}.json").unlink(missing_ok=True)
    (workspace / "params.yaml").write_text(_params({"seed": seed, "threads": 1}, fault.params), encoding="utf-8")
    if fault.edit:
        fault.edit(workspace, random.Random(f"{name}:{seed}"))
    codes = _run(workspace, stages, name)
    diagnosis.probe(workspace)
    evidence = diagnosis.gather(workspace)
    row = {"fault": name, "seed": seed, "guilty": fault.guilty, "exit_codes": codes, **_held(evidence, fault)}
    blind = replace(
        evidence,
        probes={**evidence.probes, "pairs": {**evidence.probes["pairs"], "num_gold": 0}},
        reports=_no_gold(evidence),
    )
    row["right_without_gold"] = _held(blind, fault)["right"]
    shutil.rmtree(workspace)
    return row


def _no_gold(evidence: Evidence) -> dict[str, Any]:
    return {
        stage: {name: value for name, value in report.items() if "gold" not in name}
        for stage, report in evidence.reports.items()
    }


def _held(evidence: Evidence, fault: Fault) -> dict[str, Any]:
    verdicts = rules.diagnose(evidence, fault_rules.RULES, fault_rules.NEEDED)
    blamed = [verdict.stage for verdict in verdicts if verdict.state == "at fault"]
    return {
        "right": blamed == ([fault.guilty] if fault.guilty else []),
        "blamed": blamed,
        "verdicts": {verdict.stage: diagnosis.state_of(verdict) for verdict in verdicts},
        "evidence": {verdict.stage: list(verdict.evidence) for verdict in verdicts if verdict.state != "sound"},
    }


def _params(top: dict[str, Any], changes: dict[str, dict[str, Any]]) -> str:
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for sections in (SMALL, changes):
        for section, keys in sections.items():
            values[section] |= keys
    return yaml.safe_dump({**values, **top}, sort_keys=False)


def _run(workspace: Path, stages: Sequence[str], fault: str) -> dict[str, int]:
    """Run stages in one child, with the patch of the fault; stage -> exit code."""
    command = [sys.executable, "-m", "benchmarks.diagnosis", "--child", fault, "--stages", ",".join(stages)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (workspace / "log.txt").open("w", encoding="utf-8") as log:
        subprocess.run(  # noqa: S603
            command, cwd=workspace, env=environment, stdout=log, stderr=log, check=False
        )
    done = workspace / "codes.json"
    return json.loads(done.read_text(encoding="utf-8")) if done.exists() else {}


def child(fault: str, stages: Sequence[str]) -> None:
    """In the workspace: the stages one after the other, until one fails."""
    import importlib

    from pipelines import stage as frame

    if patch := (FAULTS[fault].patch if fault in FAULTS else None):
        patch()
    codes: dict[str, int] = {}
    for name in stages:
        try:
            frame.run(
                name, importlib.import_module(f"pipelines.{name}").main, report=Artifact[f"{name.upper()}_REPORT"]
            )
        except SystemExit as end:
            codes[name] = int(end.code or 0)
        Path("codes.json").write_text(json.dumps(codes), encoding="utf-8")
        if codes[name]:
            return


def prepared(given: Path | None) -> Path:
    """The workspace that all faults start from; used again unless made of another workspace, other params or code."""
    base = HOME / "base"
    made = base / "made_of.json"
    key = {
        "base": str(given) if given else None,
        "params": _params({}, {}),
        "code": files.sha256(ROOT / "pipelines", "*.py"),
    }
    if not made.exists() or files.read_json(made) != key:
        print(f"Making the base of all runs: {base}/log.txt", flush=True)
        shutil.rmtree(base, ignore_errors=True)
        if given:
            for part in ("data", "models", "reports"):
                shutil.copytree(given / part, base / part)
            stages: Sequence[str] = STAGES[1:]
        else:
            (base / Artifact.FEEDBACK_BY_PEOPLE).mkdir(parents=True)
            (base / "data/sources").mkdir()
            stages = (*BEFORE, *STAGES)
        shutil.copytree(ROOT / Artifact.REWARD_FUNCTIONS, base / Artifact.REWARD_FUNCTIONS)
        (base / "params.yaml").write_text(_params({}, {}), encoding="utf-8")
        codes = _run(base, stages, "none")
        if len(codes) < len(stages) or any(codes.values()):
            raise SystemExit(f"The base could not be made: {codes}; see {base}/log.txt")
        files.write_json(made, key)
    return base


def main() -> None:
    """Run, and write after every run."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--first-seed", type=int, default=FIRST_SEED)
    options.add_argument("--faults", default=",".join(FAULTS))
    options.add_argument("--base", type=Path)
    options.add_argument("--jobs", type=int, default=2)
    options.add_argument("--output", type=Path, default=RESULTS)
    options.add_argument("--child")
    options.add_argument("--stages", default="")
    given = options.parse_args()
    if given.child:
        return child(given.child, given.stages.split(","))
    base = prepared(given.base.resolve() if given.base else None)
    wanted = [(name, given.first_seed + number) for number in range(given.seeds) for name in given.faults.split(",")]
    rows: list[dict[str, Any]] = []
    with ThreadPoolExecutor(given.jobs) as pool:
        for row in pool.map(lambda one: play(*one, base), wanted):
            rows.append(row)
            print(
                f"{row['fault']}, seed {row['seed']}: {'right' if row['right'] else 'WRONG'} {row['verdicts']}",
                flush=True,
            )
            files.write_json(given.output, {"table": summary(rows), "runs": rows})
    for line in summary(rows):
        print(line)
    return None


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row a fault: runs, right ones, and right ones where the gold score was withheld from the rules."""
    return [
        {
            "fault": name,
            "guilty": FAULTS[name].guilty or "nobody",
            "runs": len(own),
            "right": sum(row["right"] for row in own),
            "right_without_gold": sum(row["right_without_gold"] for row in own),
        }
        for name in FAULTS
        if (own := [row for row in rows if row["fault"] == name])
    ]


if __name__ == "__main__":
    main()

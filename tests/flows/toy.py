"""A checkout with three stages of a second, to run the flow for real: each writes what its input and params say.

The file `behaviour` in the checkout, `<stage> <word>`, makes a stage fail, hang, crash or print.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.flows.examples import ROOT

STAGE = '''
"""A toy."""
import sys, time
from dataclasses import dataclass
from pathlib import Path
from pipelines import stage
from pipelines.artifacts import Artifact
from pipelines.errors import DataError, TrainingError

NAME, READS, WRITES = {spec!r}

@dataclass(frozen=True, kw_only=True)
class Report:
    vocab_size: int
    num_quarantined: int = 0

def main(params, tracker):
    behaviour = Path("behaviour").read_text().split() if Path("behaviour").exists() else ["", ""]
    if behaviour[0] == NAME:
        if behaviour[1] == "fail":
            raise DataError("data/sources/a.txt:3 is not UTF-8: save it as UTF-8")
        if behaviour[1] == "diverge":
            raise TrainingError("The loss is nan at step 3: lower ppo.learning_rate (now 1) in params.yaml.")
        if behaviour[1] == "crash":
            raise KeyError("a bug")
        if behaviour[1] == "die":
            import os, signal
            os.kill(os.getpid(), signal.SIGKILL)
        if behaviour[1] == "linger":
            print("lingering", file=sys.stderr, flush=True)
            deadline = time.monotonic() + 120
            while not Path("go").exists() and time.monotonic() < deadline:
                time.sleep(0.02)
        if behaviour[1] == "hang":
            print("hanging", file=sys.stderr, flush=True)
            time.sleep(600)
    text = "".join(sorted(path.read_text() for path in Path(READS).rglob("*.txt")))
    for step in range(3):
        tracker.log({{"loss": 1.0 / (step + 1)}}, step)
    tracker.effort(flops=1e9, tokens=10, objective="none", customisation="none")
    Path(WRITES).mkdir(parents=True, exist_ok=True)
    (Path(WRITES) / "made.txt").write_text(f"{{text}}{{NAME}} {{params.seed}}\\n")
    return Report(vocab_size=len(text))

if __name__ == "__main__":
    stage.run(NAME, main, report=Artifact[NAME.upper() + "_REPORT"])
'''

GRAPH = {
    "ingestion": ("data/sources", "data/raw"),
    "data_validation": ("data/raw", "data/validated"),
    "tokenization": ("data/validated", "data/tokens"),
}


def make(root: Path, *, git: bool = True, database: Path | None = None, stages: int = 3) -> Path:
    """Write the checkout to `root`, with a copy of a migrated MLflow `database`, which takes long to make."""
    (root / "data/sources").mkdir(parents=True)
    (root / "data/sources/a.txt").write_text("hello\n")
    for name in ("params.yaml", ".gitignore", ".dvcignore"):
        shutil.copy2(ROOT / name, root / name)
    shutil.copytree(ROOT / "pipelines", root / "pipelines", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / ".dvc", root / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp", "config.local"))
    lines = ["stages:"]
    for name, (reads, writes) in list(GRAPH.items())[:stages]:
        (root / f"pipelines/{name}.py").write_text(STAGE.format(spec=(name, reads, writes)))
        lines += [
            f"  {name}:",
            f"    desc: Do {name}.",
            f"    cmd: python -m pipelines.{name}",
            f"    deps: [{reads}, pipelines/{name}.py]",
            "    params: [seed]",
            f"    outs: [{writes}]",
            f"    metrics: [reports/{name}.json]",
        ]
    (root / "dvc.yaml").write_text("\n".join(lines) + "\n")
    if database:
        (root / ".moteur").mkdir()
        shutil.copy2(database, root / ".moteur/mlflow.db")
    (root / "profiles").mkdir()
    (root / "profiles/other.yaml").write_text("seed: 11\n")
    if git:
        for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "x"]):
            run_git(root, *command)
    return root


def run_git(root: Path, *arguments: str) -> str:
    """Run git with an identity of its own; return what it printed."""
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout


def environment(**more: str) -> dict[str, str]:
    """As a user's shell: the package is found, MLflow and Prefect are not configured."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PREFECT_", "MOTEUR_"))
    }
    kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "160", **more}


def moteur(root: Path, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run the command line in `root`."""
    return subprocess.run(
        command(*arguments), cwd=root, env=environment(**more), capture_output=True, text=True, check=False
    )


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "flows.cli", *arguments]


def dvc(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run DVC as a user would, without us."""
    words = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(words, cwd=root, env=environment(), capture_output=True, text=True, check=False)


def runs(root: Path) -> list[dict[str, Any]]:
    """What MLflow holds: name, status, tags, params of each run."""
    import mlflow.tracking

    client = mlflow.tracking.MlflowClient(f"sqlite:///{root / '.moteur/mlflow.db'}")
    experiment = client.get_experiment_by_name("moteur")
    if experiment is None:
        return []
    found = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    return [
        {"name": run.info.run_name, "status": run.info.status, "tags": run.data.tags, "params": run.data.params,
         "metrics": run.data.metrics, "id": run.info.run_id}
        for run in found
    ]  # fmt: skip

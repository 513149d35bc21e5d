"""The command line: quick, helpful, errors as sentences."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows import cli
from pipelines.adapters import locks
from pipelines.artifacts import State
from tests.flows import toy
from tests.flows.examples import ROOT

COMMANDS = [
    "run",
    "plan",
    "scaling",
    "status",
    "report",
    "diagnose",
    "chat",
    "promote",
    "rollback",
    "history",
    "verify",
    "serve",
    "drift",
    "up",
    "down",
    "retrain",
    "accept",
    "feedback",
    "feedback import",
    "feedback export",
    "feedback rank",
    "alerts",
]
HEAVY = {"torch", "transformers", "prefect", "mlflow", "dvc", "numpy", "pandas", "matplotlib", "jinja2", "pydantic"}


def imported_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=toy.environment(), capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_command_line_imports_nothing_heavy() -> None:
    assert not imported_by("import flows.cli") & HEAVY


def test_no_flow_brings_in_a_learning_library() -> None:
    paths = [path.relative_to(ROOT).with_suffix("") for path in sorted((ROOT / "flows").rglob("*.py"))]
    modules = [".".join(path.parts) for path in paths if not path.name.startswith("__")]
    looked_at = ", ".join(module for module in modules if not module.startswith("flows.orchestration."))
    assert not imported_by(f"import {looked_at}") & {"torch", "transformers", "trl", "peft", "prefect", "mlflow"}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_examples_of_itself(command: str) -> None:
    text = CliRunner().invoke(cli.app, [*command.split(), "--help"]).output
    examples = re.split("Arguments:|Options:|Commands:", text.split("Examples:")[1])[0].strip().splitlines()
    assert all(f"moteur {command}" in line for line in examples)
    assert len(examples) >= 2


def test_outside_of_a_checkout_a_sentence_and_exit_code_2(tmp_path: Path) -> None:
    done = toy.moteur(tmp_path, "status")
    assert done.returncode == 2
    assert done.stderr.startswith("moteur: ")
    assert "is not in a Moteur checkout" in done.stderr
    assert "Traceback" not in done.stderr


def test_faults_of_params_are_said_together_before_anything_runs(tmp_path: Path) -> None:
    root = toy.make(tmp_path / "checkout", git=False)
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("seed: 7", "seed: x", 1).replace("num_layers:", "num_layer:"))
    done = toy.moteur(root, "run")
    assert done.returncode == 2
    assert "seed is 'x'" in done.stderr
    assert "model.num_layer: no such key; did you mean model.num_layers?" in done.stderr
    assert not (root / ".moteur").exists()


def test_a_variable_without_a_profile_is_refused(tmp_path: Path) -> None:
    done = toy.moteur(tmp_path, "run", "--var", "DATA=/x")
    assert done.returncode == 2
    assert "give --profile FILE too" in done.stderr


def test_a_workspace_that_is_not_there_is_named_and_only_a_run_or_a_plan_makes_it(tmp_path: Path) -> None:
    root = toy.make(tmp_path / "checkout", git=False)
    for command in ("status", "report", "promote", "verify", "drift", "up", "retrain", "alerts"):
        done = toy.moteur(root, command, "--workspace", "typo")
        assert done.returncode == 2, command
        assert "--workspace typo is neither a checkout nor a workspace" in done.stderr
        assert "`moteur run --workspace typo` makes one" in done.stderr
    assert not (root / "typo").exists()


def test_a_torn_lock_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    root = toy.make(tmp_path / "checkout")
    (root / "dvc.lock").write_text("schema: '2.0'\nstages: {ingestion: {cmd")
    done = toy.moteur(root, "status")
    assert done.returncode == 4
    assert "dvc.lock" in done.stderr
    assert "Traceback" not in done.stderr


def test_beside_services_of_the_workspace_or_its_checkout_all_that_a_command_starts_shares_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    monkeypatch.setattr(locks, "held", lambda _lock: True)
    cli.share_the_machine()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    for home, count in ((tmp_path / "elsewhere", None), (tmp_path, "1000"), (ROOT, "1000")):
        monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
        monkeypatch.setattr(locks, "held", lambda lock, home=home: lock == home / State.SUPERVISOR)
        cli.share_the_machine()
        assert os.environ.get("GOMP_SPINCOUNT") == count

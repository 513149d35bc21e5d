"""The environment in which libraries keep to themselves."""

import os
import subprocess
import sys

import pytest

from pipelines.adapters import device, quiet, sandbox


def test_what_the_environment_says_already_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*quiet.VARIABLES, *device.EXCLUSIVE):
        monkeypatch.setenv(name, "as it was")  # taken back after the test
        monkeypatch.delenv(name)
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "info")
    quiet.settle()
    expected = {**quiet.VARIABLES, **device.EXCLUSIVE, "TRANSFORMERS_VERBOSITY": "info"}
    assert {name: os.environ[name] for name in expected} == expected


def test_a_sandbox_calls_nobody_and_says_nothing() -> None:
    environment = sandbox._environment("/nowhere", 1)
    assert {name: environment[name] for name in quiet.ALONE} == quiet.ALONE
    assert environment["TOKENIZERS_PARALLELISM"] == "false"


def test_it_costs_no_library_to_import() -> None:
    code = "import sys; import pipelines.adapters.quiet; print({'torch', 'numpy', 'mlflow', 'yaml'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

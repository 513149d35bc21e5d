"""A stage pays for a library when it uses it, not when it starts."""

import json
import subprocess
import sys

from tests.contracts import source
from tests.contracts.test_graph import STAGES

HEAVY = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "evaluate",
    "tokenizers",
    "great_expectations",
    "mlflow",
    "prefect",
    "dvc",
    "scipy",
)
LOOK = f"""
import importlib, json, sys
found = {{}}
for stage in {STAGES!r}:
    before = set(sys.modules)
    importlib.import_module(f"pipelines.{{stage}}")
    found[stage] = sorted(({{name.partition(".")[0] for name in set(sys.modules) - before}}) & set({HEAVY!r}))
print(json.dumps(found))
"""


def test_no_stage_imports_a_heavy_library_before_it_runs() -> None:
    done = subprocess.run([sys.executable, "-c", LOOK], cwd=source.ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {stage: [] for stage in STAGES}

"""The speed of training, measured by a few real steps."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import speed
from pipelines.core.judging import budgets, sizes
from tests.learning import params

ROOT = Path(__file__).parents[1]
TINY = {"hidden_size": 16, "num_layers": 1, "num_heads": 1, "intermediate_size": 32}


@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_steps_of_the_model_of_the_params_are_timed(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(speed, "SECONDS", 0.05)
    used = params(model=TINY, pretraining={"context": 32, "batch_size": 2, "precision": precision})
    found = speed.main(used)
    assert found["parameters"] == sizes.parameters(used.model, used.tokenization.vocab_size)
    assert found["tokens_per_second"] > 0
    assert found["flops_per_second"] == pytest.approx(
        budgets.training_flops(found["parameters"], found["tokens_per_second"])
    )


def test_a_shape_that_cannot_be_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    command = [sys.executable, "-m", "pipelines.speed", json.dumps({"num_heads": 3})]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "which 3 heads do not divide" in done.stderr

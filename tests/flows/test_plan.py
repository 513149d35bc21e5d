"""The plan: what a run will cost, estimated on this machine."""

from pathlib import Path
from typing import Literal

import pytest

from flows import plan
from pipelines import stage

ROOT = Path(__file__).parents[2]


def test_a_base_model_on_which_nothing_is_built_is_named_with_its_key_and_about_its_size() -> None:
    params = stage.load_params(ROOT / "params.yaml")
    masked = params.model_copy(update={"pretraining": params.pretraining.model_copy(update={"objective": "masked"})})
    assert "parameters (3 layers of 128)." in plan.model_lines(params)[0]
    assert (
        "about as many as the llama of 3 layers of 128 has; pretraining.objective is masked"
        in (plan.model_lines(masked)[0])
    )


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_the_speed_of_the_machine_is_measured_in_the_precision_of_training(
    precision: Literal["auto", "float32"], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    params = stage.load_params(ROOT / "params.yaml")
    params = params.model_copy(update={"pretraining": params.pretraining.model_copy(update={"precision": precision})})
    said = tmp_path / "dtypes"
    spied = f"\nwith open({str(said)!r}, 'w') as spy: print(a.dtype, device.precision('{{precision}}'), file=spy)"
    monkeypatch.setattr(plan, "GEMM", plan.GEMM + spied)
    speed = plan.gemm_speed(params)
    assert speed is not None
    assert speed > 0
    measured, wanted = said.read_text().split()
    assert measured == wanted

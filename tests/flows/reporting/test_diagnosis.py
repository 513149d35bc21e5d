"""`moteur diagnose`: from a folder to verdicts, a table, an exit code."""

import json
from pathlib import Path

import pytest

from flows.reporting import diagnosis
from pipelines.adapters import files
from pipelines.artifacts import Artifact, State
from pipelines.errors import ParamsError
from tests.core.judging.test_diagnosis import CURVE, PROBES, REPORTS


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    for name, report in REPORTS.items():
        files.write_json(tmp_path / "reports" / f"{name}.json", report)
    files.write_csv(tmp_path / Artifact.PPO_CURVE, list(CURVE[0]), [list(row.values()) for row in CURVE])
    (tmp_path / "params.yaml").write_text("ppo: {reward_model_weight: 1.0}\n", encoding="utf-8")
    files.write_json(tmp_path / Artifact.SFT / "config.json", {})
    files.write_json(
        tmp_path / State.DIAGNOSIS / "probes.json",
        {"made_from": diagnosis.fingerprint(tmp_path), "probes": PROBES},
    )
    return tmp_path


def test_a_healthy_folder_is_sound(workspace: Path) -> None:
    assert {verdict.state for verdict in diagnosis.judge(workspace)} == {"sound"}


def test_probes_of_other_models_do_not_count(workspace: Path) -> None:
    files.write_json(workspace / Artifact.SFT / "config.json", {"changed": True})
    states = {verdict.stage: verdict.state for verdict in diagnosis.judge(workspace)}
    assert states == {**dict.fromkeys(("data", "sft", "reward model", "evaluation"), "unknown"), "ppo": "sound"}


def test_a_reward_model_that_the_gate_refused_is_judged_by_the_figures_it_was_refused_for(workspace: Path) -> None:
    (workspace / Artifact.REWARD_MODELING_REPORT).unlink()
    bad = REPORTS["reward_modeling"] | {"held_out_accuracy_low": 0.44, "held_out_accuracy_high": 0.49}
    files.write_json(workspace / State.REFUSED / "reward_modeling.json", bad)
    states = {verdict.stage: verdict.state for verdict in diagnosis.judge(workspace)}
    assert (states["reward model"], states["ppo"]) == ("at fault", "unknown")


def test_a_reward_model_that_was_refused_before_the_one_that_lies_there_is_not_judged(workspace: Path) -> None:
    bad = REPORTS["reward_modeling"] | {"held_out_accuracy_low": 0.44, "held_out_accuracy_high": 0.49}
    files.write_json(workspace / State.REFUSED / "reward_modeling.json", bad)
    assert {verdict.state for verdict in diagnosis.judge(workspace)} == {"sound"}


@pytest.mark.parametrize(
    "content", [b"kl,clip_share\n0.1,0.\x00\n", b"kl\n\xff\n", b"kl\n0.1\ntorn", b"kl_coefficient\n0.1\n"]
)
def test_a_curve_that_is_torn_or_foreign_tells_nothing(workspace: Path, content: bytes) -> None:
    (workspace / Artifact.PPO_CURVE).write_bytes(content)
    assert {verdict.state for verdict in diagnosis.judge(workspace)} <= {"sound", "unknown"}


def test_params_that_cannot_be_read_are_told_before_anything_is_probed(workspace: Path) -> None:
    (workspace / "params.yaml").write_text("ppo: [", encoding="utf-8")
    with pytest.raises(ParamsError, match="is not YAML"):
        diagnosis.probe(workspace)


def test_a_torn_report_makes_its_stage_unknown(workspace: Path) -> None:
    (workspace / Artifact.PPO_REPORT).write_text("{", encoding="utf-8")
    assert {verdict.stage: verdict.state for verdict in diagnosis.judge(workspace)}["ppo"] == "unknown"


@pytest.mark.parametrize(("error", "code"), [(0, 0), (2, diagnosis.AT_FAULT)])
def test_the_exit_code_says_whether_something_is_at_fault(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: int, code: int
) -> None:
    files.write_json(workspace / Artifact.TOKENIZATION_REPORT, {"mask_audit_errors": error})
    monkeypatch.setattr(diagnosis, "probe", lambda _root: None)
    assert diagnosis.show(workspace, as_json=True) == code
    assert json.loads(capsys.readouterr().out)[0]["state"] == ("at fault" if code else "sound")
    assert diagnosis.show(workspace, as_json=False) == code
    assert "reward model" in capsys.readouterr().out

"""The planted faults are the faults they are called."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import diagnosis as bench
from pipelines import probes
from pipelines.adapters import datasets, files
from pipelines.artifacts import Artifact
from pipelines.core.judging.diagnosis import Evidence
from tests.core.judging.test_diagnosis import HEALTHY


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    draw = random.Random(1)
    for split in datasets.SPLITS:
        rows = [row(number, draw) for number in range(200)]
        files.write_jsonl(datasets.file(tmp_path / Artifact.PREFERENCES, "preferences", split), rows)
    return tmp_path


def row(number: int, draw: random.Random) -> dict[str, Any]:
    long, short = "a long text " * 3, "a text "
    chosen, rejected = (long, short) if draw.random() < 0.5 else (short, long)
    return {
        "id": str(number),
        "prompt": f"Tell {number}.",
        "chosen": chosen,
        "rejected": rejected,
        "annotator": "ann",
        "gold_chosen": 0.9,
        "gold_rejected": 0.2,
    }


def looked_at(workspace: Path) -> dict[str, Any]:
    return probes.pairs(list(datasets.records(workspace / Artifact.PREFERENCES, "preferences", "train")))


def test_shuffled_labels_follow_nothing(workspace: Path) -> None:
    assert looked_at(workspace)["gold_agreement"] == 1.0
    bench.shuffled(workspace, random.Random(2))
    assert 0.4 < looked_at(workspace)["gold_agreement"] < 0.6


def test_labels_by_length_follow_length_alone(workspace: Path) -> None:
    bench.by_length(workspace, random.Random(2))
    assert looked_at(workspace)["longer_chosen"] == 1.0


def test_a_right_verdict_blames_the_guilty_stage_and_nobody_else() -> None:
    healthy, kl = bench.FAULTS["healthy"], bench.FAULTS["KL coefficient 0"]
    assert bench._held(HEALTHY, healthy)["right"]
    assert not bench._held(HEALTHY, kl)["right"]
    off = Evidence(
        reports=HEALTHY.reports,
        probes=HEALTHY.probes,
        reward_model_weight=1.0,
        curve=[{**step, "kl_coefficient": 0.0} for step in HEALTHY.curve],
    )
    assert bench._held(off, kl)["right"]
    assert not bench._held(off, healthy)["right"]


def test_the_base_is_made_by_all_stages_and_again_only_for_another_workspace_other_params_or_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []

    def fake(workspace: Path, stages: Sequence[str], _fault: str) -> dict[str, int]:
        assert (workspace / "params.yaml").exists()
        ran.append(len(stages))
        return dict.fromkeys(stages, 0)

    monkeypatch.setattr(bench, "HOME", tmp_path / "home")
    monkeypatch.setattr(bench, "_run", fake)
    base = bench.prepared(None)
    assert bench.prepared(None) == base
    assert ran == [9]
    for part in ("data", "models", "reports"):
        (tmp_path / "finished" / part).mkdir(parents=True)
    bench.prepared(tmp_path / "finished")
    assert ran == [9, 4]
    monkeypatch.setitem(bench.SMALL, "feedback", {"num_prompts": 50})
    bench.prepared(tmp_path / "finished")
    assert ran == [9, 4, 4]
    monkeypatch.setattr(files, "sha256", lambda *_given: "of other code")
    bench.prepared(tmp_path / "finished")
    assert ran == [9, 4, 4, 4]


def test_a_base_that_cannot_be_made_names_the_stage_and_the_log_and_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "HOME", tmp_path)
    monkeypatch.setattr(bench, "_run", lambda *_given: {"ingestion": 0, "data_validation": 3})
    for _again in range(2):
        with pytest.raises(SystemExit, match=r"data_validation': 3.*base/log\.txt"):
            bench.prepared(None)

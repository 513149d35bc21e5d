"""Row 1: fine-tuning is killed with SIGKILL. The end is the same to the bit."""

import signal
from pathlib import Path

from pipelines.artifacts import Artifact
from tests import fixtures, forks
from tests.test_finetuning import SETTINGS

CHANGES = {**SETTINGS, "epochs": 2.0, "checkpoint_every": 2, "evaluation_records": 4}


def outputs(root: Path) -> dict[str, bytes]:
    paths = [Artifact.FINETUNING_REPORT.path, Artifact.FINETUNING_CURVE.path, *sorted((root / Artifact.SFT).iterdir())]
    return {path.name: (root / path).read_bytes() for path in paths}


def test_row_1_fine_tuning_that_is_killed_goes_on_and_ends_as_if_nothing_had_been(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fixtures.write_workspace(tmp_path, stories=60, finetuning=CHANGES)
    assert forks.run(tmp_path, "finetuning", [forks.TO_THE_END]) == [0]
    expected = outputs(tmp_path)
    killed = [-signal.SIGKILL, -signal.SIGKILL, 0]
    assert forks.run(tmp_path, "finetuning", [(2, 0), (6, 15), forks.TO_THE_END]) == killed
    assert outputs(tmp_path) == expected

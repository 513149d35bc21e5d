"""The whole lifecycle, as a user runs it: the smoke profile, and a slice of real data."""

import gzip
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.artifacts import Artifact
from tests import offline
from tests.flows import toy
from tests.flows.examples import ROOT

pytestmark = [pytest.mark.smoke, pytest.mark.timeout(1500)]

STAGES = [
    "ingestion", "data_validation", "tokenization", "pretraining", "finetuning", "feedback", "reward_modeling", "ppo",
    "evaluation", "compression", "deployment",
]  # fmt: skip

TELEMETRY = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GX_ANALYTICS_ENABLED": "false",
}
"""What keeps the libraries of the stages silent; our processes set it, whatever the user's shell says."""


def checkout(folder: Path) -> Path:
    """A copy of this checkout with a cache of its own, as a fresh clone of the working tree has."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in names:
        if name and name != "dvc.lock" and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")
    return folder


def reports(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in (folder / "reports").glob("*.json")}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The workspace after `moteur run --profile profiles/smoke.yaml`, and what was printed.

    Where the machine allows it, without a network.
    """
    folder = tmp_path_factory.mktemp("one")
    root = checkout(folder / "checkout")
    command = toy.command("run", "--profile", "profiles/smoke.yaml")
    environment = {name: value for name, value in toy.environment().items() if name not in TELEMETRY}
    done = offline.run(command, cwd=root, environment=environment, folder=folder / "watched", cut=offline.possible())
    assert done.returncode == 0, done.stdout + done.stderr
    return root / ".moteur/workspaces/smoke", done.stdout


def test_row_50_without_a_network_the_lifecycle_is_whole_and_no_process_wants_to_reach_anybody(
    smoke: tuple[Path, str],
) -> None:
    found = offline.seen(smoke[0].parents[3] / "watched")
    assert [entry for entry in found if "wants" in entry] == []
    ends = [entry for entry in found if "environment" in entry]
    assert {word for entry in ends for word in entry["command"] if word.startswith("pipelines.")} >= {
        f"pipelines.{stage}" for stage in STAGES
    }
    for entry in ends:
        if any(word.startswith("pipelines.") and word.split(".")[1] in STAGES for word in entry["command"]):
            assert {name: entry["environment"].get(name) for name in TELEMETRY} == TELEMETRY, entry["command"]
    if not offline.possible():
        pytest.skip("this machine does not let us take the network away (unshare --net): nothing was reached anyway")


def test_row_50_whoever_wants_to_reach_somebody_is_noticed(tmp_path: Path) -> None:
    reach = "import socket\ntry: socket.create_connection(('{}', 80), 1)\nexcept OSError: pass"
    for name, host in (("name", "example.org"), ("number", "192.0.2.1"), ("here", "127.0.0.1")):
        command = [sys.executable, "-c", reach.format(host)]
        offline.run(
            command, cwd=tmp_path, environment=toy.environment(), folder=tmp_path / name, cut=offline.possible()
        )
    wanted = {name: {entry["wants"] for entry in offline.seen(tmp_path / name) if "wants" in entry}
              for name in ("name", "number", "here")}  # fmt: skip
    assert wanted == {"name": {"example.org"}, "number": {"192.0.2.1", "192.0.2.1:80"}, "here": set()}


def test_every_stage_makes_its_report_with_finite_figures(smoke: tuple[Path, str]) -> None:
    found = reports(smoke[0])
    assert set(STAGES) <= set(found)
    assert 0 < found["pretraining"]["val_bits_per_byte"] < 8
    assert found["pretraining"]["num_parameters"] == pytest.approx(133_440, rel=0.1)
    assert found["tokenization"]["round_trip_errors"] == 0
    assert found["tokenization"]["mask_audit_errors"] == 0
    assert found["data_validation"]["expectations_met"] == found["data_validation"]["expectations_total"]
    assert 0 <= found["reward_modeling"]["held_out_accuracy"] <= 1
    assert math.isfinite(found["ppo"]["kl"])
    assert found["compression"]["chosen"] in {one["name"] for one in found["compression"]["candidates"]}


def test_pretraining_learns_even_in_seconds(smoke: tuple[Path, str]) -> None:
    lines = (smoke[0] / Artifact.PRETRAINING_CURVE).read_text().splitlines()
    column = lines[0].split(",").index("loss")
    losses = [float(line.split(",")[column]) for line in lines[1:]]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_the_models_are_plain_folders_without_code(smoke: tuple[Path, str]) -> None:
    for artifact in (Artifact.BASE, Artifact.SFT, Artifact.POLICY, Artifact.REWARD, Artifact.RELEASE):
        names = {path.name for path in (smoke[0] / artifact).rglob("*")}
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
        assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl", ".py"))]


def test_the_page_and_the_table_are_there(smoke: tuple[Path, str]) -> None:
    page = (smoke[0] / "reports/lifecycle.html").read_text(encoding="utf-8")
    assert 'class="missing"' not in page
    closing = smoke[1].splitlines()[-len(STAGES) - 5 : -3]
    assert [line.split()[0] for line in closing] == ["stage", *STAGES, "all"]


def test_a_second_run_has_nothing_to_do(smoke: tuple[Path, str]) -> None:
    checkout_root = smoke[0].parents[2]
    done = toy.moteur(checkout_root, "run", "--profile", "profiles/smoke.yaml")
    assert done.stdout.startswith("Nothing to do")
    assert toy.dvc(smoke[0], "status", "--quiet").returncode == 0


def test_the_release_answers_in_the_terminal(smoke: tuple[Path, str]) -> None:
    done = toy.moteur(
        smoke[0], "chat", "--prompt", "Write a story with the words: boat, kind.", "--max-new-tokens", "8"
    )
    assert done.returncode == 0, done.stderr


def test_tracked_outputs_hold_no_path_of_this_machine_and_no_clock(smoke: tuple[Path, str]) -> None:
    theirs = {Artifact.FEEDBACK_BY_PEOPLE, Artifact.REWARD_FUNCTIONS}
    tracked = [smoke[0] / artifact for artifact in Artifact if artifact not in theirs]
    texts = [path for root in tracked for path in ([root] if root.is_file() else root.rglob("*"))]
    places = (str(smoke[0]), str(ROOT), os.path.expanduser("~") + "/")  # noqa: PTH111  as text
    clock = re.compile(r"\b20\d\d-\d\d-\d\dT?\s?\d\d:\d\d")
    for path in texts:
        if path.suffix in {".json", ".jsonl", ".csv", ".md", ".jinja"}:
            text = path.read_text(encoding="utf-8")
            assert not [place for place in places if place in text], path
            assert not clock.search(text), path


def test_dvc_repro_in_another_clone_writes_the_same_lock_file(smoke: tuple[Path, str], tmp_path: Path) -> None:
    other = checkout(tmp_path / "elsewhere" / "clone")
    shutil.copy2(smoke[0] / "params.yaml", other / "params.yaml")
    done = toy.dvc(other, "repro", "--quiet")
    assert done.returncode == 0, done.stderr
    assert (other / "dvc.lock").read_text() == (smoke[0] / "dvc.lock").read_text()


def data_folder() -> Path | None:
    places = [os.environ.get("MOTEUR_DATA"), ROOT.parent / "shared" / "data"]
    return next((Path(place) for place in places if place and (Path(place) / "pretrain").is_dir()), None)


def _copy(path: Path, target: Path, rows: slice) -> None:
    (target / path.parent.name).mkdir(exist_ok=True)
    lines = gzip.decompress(path.read_bytes()).decode().splitlines(keepends=True)
    (target / path.parent.name / path.name).write_bytes(gzip.compress("".join(lines[rows]).encode()))


@pytest.fixture(scope="module")
def slice_of_real_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of real data with some rows of each file."""
    source = data_folder()
    if source is None:
        pytest.skip("no real data: set MOTEUR_DATA to a folder with pretrain/, sft/ and preferences/")
    target = tmp_path_factory.mktemp("data")
    for path in sorted(source.glob("pretrain/*.gz")):
        _copy(path, target, slice(4000))
    for path in sorted([*source.glob("sft/*.gz"), *source.glob("preferences/*.gz")]):
        _copy(path, target, slice(None, None, 30))
    return target


def test_real_text_goes_through_the_same_stages(slice_of_real_data: Path, tmp_path: Path) -> None:
    root = checkout(tmp_path / "checkout")
    profile = yaml.safe_load((root / "profiles/smoke.yaml").read_text())
    real = yaml.safe_load((root / "profiles/tinystories.yaml").read_text())
    profile["ingestion"] = real["ingestion"]
    profile["finetuning"] |= real["finetuning"]
    profile["deployment"]["prompts"] = [text for text in real["deployment"]["prompts"] if "Summarise" in text]
    (root / "profiles/slice.yaml").write_text(yaml.safe_dump(profile))
    done = toy.moteur(root, "run", "--profile", "profiles/slice.yaml", "--var", f"DATA={slice_of_real_data}")
    assert done.returncode == 0, done.stdout + done.stderr
    found = reports(root / ".moteur/workspaces/slice")
    assert 0 < found["pretraining"]["val_bits_per_byte"] < 8
    assert found["tokenization"]["round_trip_errors"] == 0
    assert found["deployment"]["verified"] is True

"""The flow, for real, over three toy stages: Prefect, DVC, MLflow, processes and signals."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from flows.stages import graph
from tests.flows import toy


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A checkout in which everything has run once, and what the run printed."""
    root = toy.make(tmp_path_factory.mktemp("ran") / "checkout")
    done = toy.moteur(root, "run")
    assert done.returncode == 0, done.stdout + done.stderr
    return root, done.stdout + done.stderr


def test_a_run_shows_every_stage_in_order_and_ends_with_the_table(ran: tuple[Path, str]) -> None:
    text = ran[1]
    assert text.index("[1/3] ingestion: Do ingestion.") < text.index("[3/3] tokenization: Do tokenization.")
    last = text.splitlines()[-8:]
    assert [line.split()[0] for line in last] == [
        "stage", "ingestion", "data_validation", "tokenization", "all", "Report:", "Curves:", "Talk:",
    ]  # fmt: skip
    assert "Traceback" not in text
    assert "prefect" not in text.lower()


def test_prefect_and_mlflow_say_nothing_and_leave_the_home_alone(ran: tuple[Path, str]) -> None:
    root, text = ran
    assert "mlflow" not in text.replace("mlflow ui", "").replace("mlflow.db", "")
    assert (root / ".moteur/prefect").is_dir()


def test_a_second_run_has_nothing_to_do_and_does_not_start_the_flow(ran: tuple[Path, str]) -> None:
    root, _ = ran
    before = (root / ".moteur/effort.jsonl").read_text()
    done = toy.moteur(root, "run")
    assert done.returncode == 0
    assert done.stdout.startswith("Nothing to do")
    assert done.stdout.count("unchanged") == 3
    assert (root / ".moteur/effort.jsonl").read_text() == before


def test_mlflow_holds_one_run_for_the_lifecycle_and_one_below_it_for_each_stage(ran: tuple[Path, str]) -> None:
    parent, *stages = toy.runs(ran[0])
    assert [run["name"] for run in stages] == ["ingestion", "data_validation", "tokenization"]
    assert all(run["status"] == "FINISHED" for run in (parent, *stages))
    assert all(run["tags"]["mlflow.parentRunId"] == parent["id"] for run in stages)
    assert len(parent["tags"]["mlflow.source.git.commit"]) == 40
    assert parent["tags"]["git.dirty"] == "false"
    assert len(parent["tags"]["dvc.lock"]) == 64
    assert parent["tags"]["out.data/raw"] == stages[1]["tags"]["dep.data/raw"]
    assert parent["params"]["model.hidden_size"] == "128"
    assert stages[0]["metrics"]["loss"] == pytest.approx(1 / 3)


def test_dvc_repro_writes_the_same_lock_file(ran: tuple[Path, str], tmp_path: Path) -> None:
    other = toy.make(tmp_path / "other")
    done = toy.dvc(other, "repro")
    assert done.returncode == 0, done.stderr
    assert (other / "dvc.lock").read_bytes() == (ran[0] / "dvc.lock").read_bytes()
    assert toy.dvc(ran[0], "status", "--quiet").returncode == 0


def test_stages_of_one_dvc_repro_share_a_run(tmp_path: Path) -> None:
    root = toy.make(tmp_path / "checkout", git=False)
    (root / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")
    assert toy.dvc(root, "repro").returncode == 0
    (folder,) = (root / ".moteur/tracking").iterdir()
    assert folder.name.startswith("dvc-")
    assert len(list(folder.glob("*.jsonl"))) == 3


def test_a_checkout_without_git_runs(tmp_path: Path, database: Path, server: str) -> None:
    root = toy.make(tmp_path / "archive", git=False, database=database)
    done = toy.moteur(root, "run", PREFECT_API_URL=server)
    assert done.returncode == 0, done.stderr
    assert (root / "data/tokens/made.txt").exists()


def test_a_profile_runs_beside_the_checkout_and_leaves_it_as_it_was(ran: tuple[Path, str], server: str) -> None:
    root, _ = ran
    before = {path: path.read_bytes() for path in (root / "params.yaml", root / "dvc.lock")}
    (root / "data/sources/own.csv").write_text("what git ignores is there too")
    done = toy.moteur(root, "run", "--profile", "profiles/other.yaml", PREFECT_API_URL=server)
    assert done.returncode == 0, done.stderr
    folder = root / ".moteur/workspaces/other"
    assert (folder / "data/tokens/made.txt").read_text().endswith("tokenization 11\n")
    assert (folder / "data/sources/own.csv").exists()
    assert {path: path.read_bytes() for path in before} == before
    assert not (folder / ".dvc/cache").exists()
    again = toy.moteur(root, "run", "--profile", "profiles/other.yaml", PREFECT_API_URL=server)
    assert again.stdout.startswith("Nothing to do")
    state = toy.moteur(root, "status", "--workspace", str(folder))
    assert "Everything is up to date." in state.stdout
    (root / "data/sources/own.csv").unlink()


@pytest.fixture
def checkout(tmp_path: Path, database: Path) -> Path:
    return toy.make(tmp_path / "checkout", database=database)


def test_a_failing_stage_stops_the_flow_with_its_exit_code_and_the_remedy_last(checkout: Path, server: str) -> None:
    (checkout / "behaviour").write_text("data_validation fail")
    done = toy.moteur(checkout, "run", PREFECT_API_URL=server)
    assert done.returncode == 3
    assert "data_validation: data/sources/a.txt:3 is not UTF-8: save it as UTF-8" in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "moteur: stage data_validation failed (exit code 3)."
        " Correct the data or the limit as said above, then run again."
    )
    assert "Traceback" not in done.stderr + done.stdout
    assert "[3/3]" not in done.stdout
    assert (checkout / "data/raw/made.txt").exists()
    status = {run["name"]: run["status"] for run in toy.runs(checkout)}
    assert status["data_validation"] == "FAILED"
    (checkout / "behaviour").unlink()
    again = toy.moteur(checkout, "run", PREFECT_API_URL=server)
    assert again.returncode == 0
    assert (
        "unchanged" in again.stdout.splitlines()[again.stdout.splitlines().index("[1/3] ingestion: Do ingestion.") + 1]
    )


def test_a_stage_that_is_killed_is_named_as_such(checkout: Path, server: str) -> None:
    (checkout / "behaviour").write_text("ingestion die")
    done = toy.moteur(checkout, "run", PREFECT_API_URL=server)
    assert done.returncode == 1
    assert "stage ingestion failed" in done.stderr
    assert "killed" in done.stderr


def test_a_fault_of_the_code_shows_its_traceback_and_not_prefects(checkout: Path, server: str) -> None:
    (checkout / "behaviour").write_text("ingestion crash")
    done = toy.moteur(checkout, "run", PREFECT_API_URL=server)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert "KeyError: 'a bug'" in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_stage_and_all_that_was_started(checkout: Path, number: int, code: int) -> None:
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background jobs ignore it, and children inherit
    (checkout / "behaviour").write_text("ingestion hang")
    child = subprocess.Popen(
        toy.command("run"),
        cwd=checkout,
        env=toy.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert child.stdout is not None
    assert any("hanging" in line for line in iter(child.stdout.readline, ""))
    family = psutil.Process(child.pid).children(recursive=True)
    assert any("pipelines.ingestion" in " ".join(process.cmdline()) for process in family)
    os.killpg(child.pid, number)
    said, _ = child.communicate(timeout=180)
    assert child.returncode == code, said
    assert "Traceback" not in said
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive
    (checkout / "behaviour").unlink()
    assert toy.dvc(checkout, "repro", "--quiet").returncode == 0


def test_tracking_that_is_down_costs_one_line_and_is_made_good_later(checkout: Path, server: str) -> None:
    done = toy.moteur(checkout, "run", MLFLOW_TRACKING_URI="http://127.0.0.1:9", PREFECT_API_URL=server)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("does not take what we send") == 1
    state = toy.moteur(checkout, "status")
    assert state.returncode == 0
    assert len(toy.runs(checkout)) == 4


def test_from_runs_a_stage_and_all_below_it_again(ran: tuple[Path, str], server: str) -> None:
    root, _ = ran
    lock = (root / "dvc.lock").read_bytes()
    done = toy.moteur(root, "run", "--from", "data_validation", PREFECT_API_URL=server)
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines()[-8:]}
    assert rows["ingestion"] == "unchanged"
    assert rows["data_validation"] != "unchanged"
    assert rows["tokenization"] != "unchanged"
    assert (root / "dvc.lock").read_bytes() == lock


def test_from_an_unknown_stage_lists_the_stages(ran: tuple[Path, str]) -> None:
    done = toy.moteur(ran[0], "run", "--from", "tokenisation")
    assert done.returncode == 2
    assert "--from tokenisation: no such stage; the stages are ingestion, data_validation, tokenization" in done.stderr


def test_a_missing_source_folder_is_said_before_anything_runs(checkout: Path) -> None:
    (checkout / "data/sources/a.txt").unlink()
    (checkout / "data/sources").rmdir()
    done = toy.moteur(checkout, "run")
    assert done.returncode == 3
    assert "ingestion reads data/sources, which does not exist" in done.stderr
    assert "[1/3]" not in done.stdout


def test_while_a_stage_runs_status_says_so_and_a_second_run_or_one_beside_dvc_is_refused(
    checkout: Path, server: str
) -> None:
    assert toy.moteur(checkout, "run", PREFECT_API_URL=server).returncode == 0
    (checkout / "behaviour").write_text("data_validation linger")
    (checkout / "data/sources/a.txt").write_text("more\n")
    words, environment = toy.command("run"), toy.environment(PREFECT_API_URL=server)
    running = subprocess.Popen(words, cwd=checkout, env=environment, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    assert any("lingering" in line for line in iter(running.stderr.readline, ""))
    try:
        shown = toy.moteur(checkout, "status")
        assert shown.returncode == 0, shown.stderr
        rows = {line.split()[0]: line for line in shown.stdout.splitlines() if line.strip()}
        assert "up to date" in rows["ingestion"]
        assert re.search(r"data_validation +running +process \d+ runs it", rows["data_validation"])
        assert "below a changed one" in rows["tokenization"]
        assert shown.stdout.splitlines()[-1] == "A run is going on."
        (newest,) = [line for line in shown.stdout.splitlines() if "going on" in line and line.startswith("run-")]
        assert re.search(r"going on +1 ", newest)
        second = toy.moteur(checkout, "run", PREFECT_API_URL=server)
        assert second.returncode == 5
        assert second.stderr.strip() == (
            f"moteur: `moteur run` is at work here already, as process {running.pid}: wait for it, or stop it"
        )
        running.kill()  # DVC and its stage live on
        running.wait()
        beside = toy.moteur(checkout, "run", PREFECT_API_URL=server)
        assert beside.returncode == 5
        assert "DVC runs the stage data_validation here already" in beside.stderr
    finally:
        (checkout / "go").touch()
        running.kill()
        running.communicate()
    deadline = time.monotonic() + 60
    while graph.load(checkout).running and time.monotonic() < deadline:
        time.sleep(0.1)
    (checkout / "behaviour").unlink()
    done = toy.moteur(checkout, "run", PREFECT_API_URL=server)
    assert done.returncode == 0, done.stderr
    assert (checkout / "data/tokens/made.txt").read_text().startswith("more")

"""Retraining, for real over three toy stages: isolated, one at a time, resumed, published in order."""

import dataclasses
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import yaml

from flows.champions import history
from flows.lifecycle import flow
from flows.retraining import accepted, admission, publication, records, telling
from flows.retraining import run as retraining
from flows.retraining.publication import Patience
from flows.retraining.records import Order
from flows.workspaces import clones, folders
from pipelines import stage
from pipelines.adapters import lineage, rankings
from pipelines.adapters.alerts import NullOutbox, Outbox
from pipelines.adapters.requests import RequestLog
from pipelines.artifacts import Artifact, State
from pipelines.errors import ParamsError, ResourceError
from tests.flows import toy
from tests.flows.retraining.attempts import accepted_data, attempt, lifecycle_that_ends_with, record, recorded, silent


def snapshot(root: Path) -> dict[str, bytes]:
    """Every file of a checkout but what belongs to Moteur's own state and DVC's cache; git's refs are in it."""
    own = (".moteur", ".dvc/cache", ".dvc/tmp", ".git/objects")
    return {
        name: path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not (name := path.relative_to(root).as_posix()).startswith(own)
    }


@pytest.fixture(scope="module")
def retrained(tmp_path_factory: pytest.TempPathFactory, server: str, database: Path) -> tuple[Path, list[str], bool]:
    """A checkout with both remotes and accepted data, retrained twice at once; what was said; if it is untouched."""
    base = tmp_path_factory.mktemp("retrained")
    root = toy.make(base / "checkout", database=database)
    toy.run_git(base, "init", "-q", "--bare", str(base / "code.git"))
    toy.run_git(root, "remote", "add", "origin", str(base / "code.git"))
    (root / ".dvc/config").write_text(
        (root / ".dvc/config").read_text() + "    remote = store\n['remote \"store\"']\n    url = ../../store\n"
    )
    toy.run_git(root, "commit", "-qam", "A remote")
    (root / "data/accepted/corpus").mkdir(parents=True)
    (root / "data/accepted/corpus/new.txt").write_text("new text\n")
    (root / "params.yaml").write_text((root / "params.yaml").read_text().replace("seed: 7", "seed: 8", 1))
    before = snapshot(root)
    environment = toy.environment(PREFECT_API_URL=server)
    both = [
        subprocess.Popen(toy.command("retrain", "--wait"), cwd=root, env=environment, stdout=-1, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    return root, sorted(said, key=lambda text: "waiting for it to end" in text), snapshot(root) == before


def test_a_retraining_refuses_params_with_which_the_lifecycle_makes_no_release(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((toy.ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    values["model"]["architecture"] = "lstm"
    with pytest.raises(
        ParamsError, match=r"makes a release, but model\.architecture is lstm.*set pretraining\.objective"
    ):
        retraining._write(path, values)


def test_the_checkout_stays_as_it_was_and_what_is_not_committed_is_left_out(
    retrained: tuple[Path, list[str], bool],
) -> None:
    root, said, untouched = retrained
    assert untouched
    assert "1 files of the checkout are not committed as they are: they are left out" in said[0]
    made = records.folder(root, recorded(root)[0]) / "data/tokens/made.txt"
    assert made.read_text().splitlines()[-1] == "tokenization 7"


def test_accepted_data_are_among_the_sources_of_the_workspace_alone(retrained: tuple[Path, list[str], bool]) -> None:
    root = retrained[0]
    workspace = records.folder(root, recorded(root)[0])
    values = yaml.safe_load((workspace / "params.yaml").read_text())
    assert values["ingestion"]["corpus"]["train"][-1] == {"uri": "accepted/corpus/new.txt"}
    assert "new text" in (workspace / "data/raw/made.txt").read_text()
    assert "accepted" not in (root / "params.yaml").read_text().split("retraining:")[0]


def test_it_is_published_in_order_and_its_commit_holds_the_lock_of_what_was_pushed(
    retrained: tuple[Path, list[str], bool],
) -> None:
    root, said, _ = retrained
    record, _ = recorded(root)
    assert record.status == "finished"
    assert record.done == ["workspace", "lifecycle", "push data", "verify", "push code", "register", "promote"]
    lock = toy.run_git(root.parent / "code.git", "show", f"runs/{record.id}:dvc.lock")
    digest = yaml.safe_load(lock)["stages"]["tokenization"]["outs"][0]["md5"]
    assert (root.parent / f"store/files/md5/{digest[:2]}/{digest[2:]}").exists()
    report = toy.run_git(root.parent / "code.git", "show", f"runs/{record.id}:reports/tokenization.json")
    assert "vocab_size" in report
    assert said[0].index("pushed the data to store") < said[0].index("pushed the commit to")


def test_the_runs_are_in_the_mlflow_of_the_checkout(retrained: tuple[Path, list[str], bool]) -> None:
    root = retrained[0]
    names = [run["name"] for run in toy.runs(root)]
    assert names[1:4] == ["ingestion", "data_validation", "tokenization"]
    assert not (records.folder(root, recorded(root)[0]) / ".moteur/mlflow.db").exists()


def test_row_9_two_at_once_have_workspaces_of_their_own_and_the_second_waits(
    retrained: tuple[Path, list[str], bool],
) -> None:
    root, said, _ = retrained
    assert ["waiting for it to end" in text for text in said] == [False, True]
    one, other = recorded(root)
    assert one.status == other.status == "finished"
    assert one.ended is not None
    assert one.ended <= (records.folder(root, other) / "params.yaml").stat().st_mtime
    locks = [(records.folder(root, record) / "dvc.lock").read_bytes() for record in (one, other)]
    assert locks[0] == locks[1]


def test_a_failing_stage_ends_it_with_the_exit_code_and_an_alert_and_the_next_begins_anew(
    checkout: Path, server: str
) -> None:
    (checkout / "behaviour").write_text("ingestion fail")
    toy.run_git(checkout, "add", "-A")
    toy.run_git(checkout, "commit", "-qm", "A stage that fails")
    done = toy.moteur(checkout, "retrain", PREFECT_API_URL=server)
    assert done.returncode == 3
    assert "the lifecycle failed in ingestion (exit code 3)" in done.stderr.splitlines()[-1]
    (record,) = recorded(checkout)
    (alert,) = Outbox(checkout / ".moteur/alerts").open()
    assert alert.title == f"Retraining {record.id}: failed"
    assert admission.why_not(Order(), [record], None, 0, 0) == ""
    said = toy.moteur(checkout, "alerts").stdout
    assert "Alerts go to nobody yet" in said
    assert "failed" in said


def test_the_only_at_a_time_says_who_is_at_work(checkout: Path) -> None:
    with (
        retraining._alone(checkout, silent, wait=False),
        pytest.raises(ResourceError, match=f"under way \\(process {os.getpid()}\\)"),
        retraining._alone(checkout, silent, wait=False),
    ):
        pass


def test_a_copy_in_which_a_profile_runs_is_not_retrained(checkout: Path) -> None:
    copy = folders.prepare(checkout, checkout / ".moteur/workspaces/other", None)
    with pytest.raises(ParamsError, match="is a workspace, a copy of a checkout: `moteur retrain` in the checkout"):
        retraining.run(copy, Order(), silent, alerting=NullOutbox())


def test_from_an_unknown_stage_is_refused_before_anything_is_made(checkout: Path) -> None:
    with pytest.raises(ParamsError, match="--from tokenisation: no such stage; the stages are ingestion"):
        retraining.run(checkout, Order(start="tokenisation"), silent)
    assert not recorded(checkout)


def test_a_profile_that_wants_a_gate_of_its_own_is_told_that_it_has_none(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lifecycle_that_ends_with(143, monkeypatch)
    (checkout / "profiles/loose.yaml").write_text("promotion: {min_examples: 1}\n")
    said: list[str] = []
    for profile in ("profiles/other.yaml", "profiles/loose.yaml"):
        with pytest.raises(SystemExit):
            retraining.run(checkout, Order(profile=profile), said.append, alerting=NullOutbox())
    assert [line.strip() for line in said if "gate" in line] == [
        "the promotion of this commit and profile is not that of params.yaml in the checkout, whose gate counts"
    ]


def test_from_a_stage_is_handed_to_the_lifecycle(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = lifecycle_that_ends_with(0, monkeypatch)
    retraining._lifecycle(attempt(checkout, record(start="tokenization")))
    retraining._lifecycle(attempt(checkout, record()))
    assert [command[-3:] for command in commands] == [["run", "--from", "tokenization"], ["-m", "flows.cli", "run"]]


def test_a_lifecycle_that_was_stopped_is_no_failure_and_stays_to_be_taken_up(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lifecycle_that_ends_with(143, monkeypatch)
    with pytest.raises(SystemExit, match="143"):
        retraining.run(checkout, Order(), silent, alerting=NullOutbox())
    (one,) = recorded(checkout)
    assert (one.status, one.done, one.attempts) == ("running", ["workspace"], 0)


def test_one_that_begins_at_a_stage_goes_on_behind_what_it_has_finished(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = lifecycle_that_ends_with(0, monkeypatch)
    one = attempt(checkout, record(start="data_validation"))
    clones.make(checkout, one.workspace, clones.head(checkout))
    made = one.workspace / State.EFFORT
    made.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"run": "r", "stage": name, "status": "finished"} for name in ("ingestion", "data_validation")]
    made.write_text("".join(json.dumps(line) + "\n" for line in lines))
    retraining._lifecycle(one)
    with made.open("a") as file:
        file.write(json.dumps({"run": "r", "stage": "tokenization", "status": "finished"}) + "\n")
    retraining._lifecycle(one)
    assert [command[-2:] for command in commands] == [["--from", "tokenization"], ["flows.cli", "run"]]


def test_what_a_failed_lifecycle_said_last_is_in_the_alert(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lifecycle_that_ends_with(6, monkeypatch)
    with pytest.raises(retraining.Failed) as caught:
        retraining.run(checkout, Order(), silent, aside=True)
    assert caught.value.exit_code == 6
    (alert,) = Outbox(checkout / ".moteur/alerts").open()
    assert "says why: moteur: stage ppo failed (exit code 6)." in alert.body


def test_a_stage_gets_the_time_of_params_to_save_its_state(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (checkout / "params.yaml").read_text()
    (checkout / "params.yaml").write_text(text.replace("stop_seconds: ", "stop_seconds: 9"))
    graces: list[float] = []
    monkeypatch.setattr(retraining.process, "run", lambda _, __, grace, **___: graces.append(grace) or 143)
    with pytest.raises(SystemExit):
        retraining.run(checkout, Order(), silent, alerting=NullOutbox())
    assert graces == [stage.load_params(checkout / "params.yaml").services.stop_seconds + retraining.MARGIN_SECONDS]
    assert graces[0] > 900


def test_a_retraining_that_fails_makes_room_too(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lifecycle_that_ends_with(6, monkeypatch)
    kept = stage.load_params(checkout / "params.yaml").retraining.kept
    for _ in range(kept + 1):
        with pytest.raises(retraining.Failed):
            retraining.run(checkout, Order(), silent, alerting=NullOutbox())
    assert [records.folder(checkout, one).exists() for one in recorded(checkout)] == [False] + [True] * kept


def test_making_room_leaves_what_is_to_go_on_and_takes_half_made_clones(checkout: Path) -> None:
    statuses = ["running", "not published", "failed", "refused", "given up", "promoted"]
    for number, status in enumerate(statuses):
        one = record(id=status, status=status, started=float(number))
        records.save(checkout, one)
        for name in (records.WORKSPACE, f".{records.WORKSPACE}.part"):
            records.folder(checkout, one).with_name(name).mkdir()
    retraining._tidy(checkout, 2)
    left = {path.parent.name for path in (checkout / ".moteur/retrainings").glob("*/*workspace*")}
    assert left == {"running", "not published", "given up", "promoted"}
    assert len(recorded(checkout)) == len(statuses)


def test_a_push_that_fails_is_tried_again_and_then_nothing_goes_live(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    tried = []
    with pytest.raises(publication.NotPublished, match="dvc push to store failed 3 times: down"):
        publication._persistently(lambda: tried.append(1) or "down", "dvc push to store", 2, silent)
    assert len(tried) == 3


def promoting(monkeypatch: pytest.MonkeyPatch, outcome: object) -> list[str]:
    """Stand in for the gate; returns what is asked of it."""
    asked: list[str] = []

    class Gate:
        def register(self, root: Path, *, source: Path, say: object) -> SimpleNamespace:
            asked.append("register")
            return SimpleNamespace(number=4)

        def promote(self, root: Path, *, version: int, source: Path, why: str, say: object) -> object:
            asked.append(f"promote {version}")
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

    monkeypatch.setattr(publication, "_promotion", Gate)
    return asked


@pytest.mark.parametrize(
    ("moved", "already", "status"),
    [(True, False, "promoted"), (False, False, "refused"), (False, True, "promoted")],  # the last was killed after it
)
def test_the_verdict_of_the_gate_is_the_end_of_the_retraining_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: bool, already: bool, status: str
) -> None:
    outcome = SimpleNamespace(moved=moved, already=already, words="Version 4: every rule was looked at.")
    asked = promoting(monkeypatch, outcome)
    one = record(version=4)
    if already:
        made_live(tmp_path, "retraining r, for drift")
    retraining._promote(attempt(tmp_path, one))
    outbox = Outbox(tmp_path / "alerts")
    telling.tell(one, outbox)
    assert asked == ["promote 4"]
    assert (one.status, one.note) == (status, "Version 4: every rule was looked at.")
    assert [alert.title for alert in outbox.alerts()] == [f"Retraining r: {status}"]


def made_live(root: Path, why: str) -> None:
    """The history says that version 4 went live for this reason."""
    facts = {"id": why, "time": "2026-03-02T03:00:00+00:00", "who": "ops", "manifest_sha256": "", "verdict": ""}
    entry = history.Entry(**facts, action="promote", from_version=3, to_version=4, why=why, verdict_sha256="")
    history.append(root, entry)


@pytest.mark.parametrize("why", ["retraining r-2, on schedule", "by hand"])
def test_a_release_that_was_live_before_is_unchanged_which_is_no_refusal_and_no_alert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    words = "Version 4 is champion already."
    promoting(monkeypatch, SimpleNamespace(moved=False, already=True, words=words))
    made_live(tmp_path, why)
    one = record(version=4)
    retraining._promote(attempt(tmp_path, one))
    outbox = Outbox(tmp_path / "alerts")
    telling.tell(one, outbox)
    assert (one.status, one.note, outbox.alerts()) == ("unchanged", words, [])


def test_row_30_a_registry_that_does_not_answer_is_no_verdict_and_the_promotion_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoting(monkeypatch, ResourceError("MLflow does not answer."))
    one = record(version=4)
    with pytest.raises(
        publication.NotPublished, match=r"MLflow does not answer\. `moteur retrain` goes on here"
    ) as caught:
        retraining._promote(attempt(tmp_path, one))
    telling.give_account(tmp_path, one, caught.value, NullOutbox())
    assert one.status in records.UNFINISHED


def test_without_a_git_remote_the_commit_is_kept_beside_the_branches(checkout: Path, tmp_path: Path) -> None:
    clones.make(checkout, tmp_path / "clone", clones.head(checkout))
    (tmp_path / "clone/dvc.lock").write_text("stages: {}\n")
    clones.commit(tmp_path / "clone", ("dvc.lock", "reports"), "made")
    branches = toy.run_git(checkout, "branch", "--all")
    clones.push(checkout, tmp_path / "clone", "runs/r")
    assert toy.run_git(checkout, "show", "refs/moteur/runs/r:dvc.lock") == "stages: {}\n"
    assert toy.run_git(checkout, "branch", "--all") == branches


def test_row_48_a_password_in_the_address_of_a_remote_is_said_to_nobody(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    toy.run_git(checkout, "remote", "add", "origin", "http://moteur:planted-s3cret@127.0.0.1:9/code.git")
    clones.make(checkout, tmp_path / "clone", clones.head(checkout))
    said: list[str] = []
    with pytest.raises(publication.NotPublished) as caught:
        publication.push_code(checkout, tmp_path / "clone", "r", Patience(retries=1, seconds=60), said.append)
    assert "127.0.0.1" in str(caught.value)
    assert "planted-s3cret" not in "\n".join([*said, str(caught.value)])
    assert "planted-s3cret" not in (tmp_path / "clone/.git/config").read_text()


def test_a_push_that_hangs_has_failed_when_its_time_is_over_and_leaves_no_process(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.run_git(checkout, "remote", "add", "origin", "ssh://nowhere.invalid/code.git")
    clones.make(checkout, tmp_path / "clone", clones.head(checkout))
    hanging = tmp_path / "ssh"
    hanging.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 600\n")
    hanging.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(hanging))
    with pytest.raises(publication.NotPublished, match=r"git push failed in .*: it had not ended after 2 s"):
        publication.push_code(checkout, tmp_path / "clone", "r", Patience(retries=0, seconds=2), silent)
    pid = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_hook_of_git_does_not_send_us_to_another_repository(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    toy.run_git(tmp_path / "other", "init", "-q")
    here = clones.head(checkout)
    for name, value in {
        "GIT_DIR": ".git",
        "GIT_WORK_TREE": ".",
        "GIT_INDEX_FILE": ".git/index",
        "GIT_AUTHOR_DATE": "@1 +0000",
    }.items():
        monkeypatch.setenv(name, str(tmp_path / "other" / value) if value.startswith(".") else value)
    assert clones.head(checkout) == lineage.code_version(checkout)["commit"] == here
    assert "dvc.yaml" in set(folders._tracked(checkout))
    clones.make(checkout, tmp_path / "clone", here)
    (tmp_path / "clone/dvc.lock").write_text("stages: {}\n")
    made = clones.commit(tmp_path / "clone", ("dvc.lock",), "made")
    assert clones.git(tmp_path / "clone", "log", "-1", "--format=%H") == made
    assert not clones.git(tmp_path / "clone", "log", "-1", "--format=%aI").startswith("1970")
    assert not retraining.environment(checkout).keys() & {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"}
    assert not flow.environment("run").keys() & {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"}


def test_row_12_a_torn_lock_file_of_a_killed_attempt_is_restored(checkout: Path, tmp_path: Path) -> None:
    (checkout / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    toy.run_git(checkout, "add", "-A")
    toy.run_git(checkout, "commit", "-qm", "A lock")
    clones.make(checkout, tmp_path / "clone", clones.head(checkout))
    (tmp_path / "clone/dvc.lock").write_text("schema: '2.0'\nstages: {ingestion: {cmd")
    (tmp_path / "clone/.dvc/tmp").mkdir(exist_ok=True)
    (tmp_path / "clone/.dvc/tmp/rwlock").write_text('{"write": {')
    clones.heal(tmp_path / "clone")
    assert (tmp_path / "clone/dvc.lock").read_text() == "schema: '2.0'\nstages: {}\n"
    assert not (tmp_path / "clone/.dvc/tmp/rwlock").exists()


def test_what_lies_in_no_folder_of_accepted_data_is_named(tmp_path: Path) -> None:
    (tmp_path / "stories").mkdir()
    (tmp_path / "stories/a.txt").write_text("x")
    with pytest.raises(ParamsError, match=r"stories/a.txt is in no folder of accepted data"):
        accepted.files(tmp_path)


def test_two_files_of_one_name_are_both_brought(tmp_path: Path) -> None:
    names = ["corpus/x.jsonl", "corpus/train/x.jsonl", "feedback/anna/week1.jsonl", "feedback/ben/week1.jsonl"]
    source = accepted_data(tmp_path / "accepted", *names)
    changed = accepted.bring(accepted.files(source), source, tmp_path / "w", {"ingestion": {"root": "data/sources"}})
    brought = {path.relative_to(tmp_path / "w").as_posix() for path in (tmp_path / "w").rglob("*.jsonl")}
    assert brought == {
        "data/sources/accepted/corpus/x.jsonl",
        "data/sources/accepted/corpus/train/x.jsonl",
        "data/feedback/accepted-anna-week1.jsonl",
        "data/feedback/accepted-ben-week1.jsonl",
    }
    uris = {one["uri"] for one in changed["ingestion"]["corpus"]["train"]}
    assert uris == {"accepted/corpus/x.jsonl", "accepted/corpus/train/x.jsonl"}


def test_accepted_feedback_is_read_as_feedback_by_people(tmp_path: Path) -> None:
    source = tmp_path / "accepted"
    (source / "feedback/anna").mkdir(parents=True)
    line = {"id": "r1", "prompt": "p", "responses": ["a", "b"], "ranks": [1, 2], "annotator": "anna", "kind": "human"}
    (source / "feedback/anna/week1.jsonl").write_text(json.dumps(line) + "\n")
    accepted.bring(accepted.files(source), source, tmp_path / "w", {"ingestion": {"root": "data/sources"}})
    found = rankings.load(tmp_path / "w" / Artifact.FEEDBACK_BY_PEOPLE, max_bad_line_share=0.0)
    assert [(one.prompt, one.annotator) for one in found.rankings] == [("p", "anna")]
    (source / "feedback/scores.csv").write_text("p,4\n")
    with pytest.raises(ParamsError, match=r"feedback/scores.csv would not be read: feedback is \*.jsonl"):
        accepted.files(source)


@pytest.mark.parametrize(("reason", "files"), [("schedule", 1), ("drift", 1), ("by hand", 0)])
def test_what_users_sent_is_accepted_by_a_retraining_that_nobody_started_if_params_say_so(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, reason: records.Reason, files: int
) -> None:
    text = (checkout / "params.yaml").read_text()
    text = text.replace("accept_requests: false", "accept_requests: true").replace("text: false", "text: true")
    (checkout / "params.yaml").write_text(text)
    log = RequestLog(checkout / ".moteur/requests", text=True, segment_bytes=1e6, segment_seconds=3600.0)
    asked = {"id": "q", "time": "2026-03-02T03:00:00+00:00", "route": "completions"}
    log.write(asked, prompt="Once a bear found a drum in the barn.", response="It was loud.")
    lifecycle_that_ends_with(143, monkeypatch)
    for _ in range(2):  # the second goes on with the first
        with pytest.raises(SystemExit):
            retraining.run(checkout, Order(reason=reason), silent, alerting=NullOutbox())
    (one,) = recorded(checkout)
    assert one.new_files == files
    taken = list((records.folder(checkout, one) / "data/sources/accepted/corpus").glob("requests-*.jsonl"))
    assert len(taken) == files
    assert all("a drum" in path.read_text() and "loud" not in path.read_text() for path in taken)


def test_two_accepted_files_that_would_become_one_are_named(tmp_path: Path) -> None:
    source = accepted_data(tmp_path / "accepted", "feedback/anna-1.jsonl", "feedback/anna/1.jsonl")
    with pytest.raises(ParamsError, match=r"feedback/anna-1.jsonl would take the place of .*/feedback/anna/1.jsonl"):
        accepted.bring(accepted.files(source), source, tmp_path / "w", {"ingestion": {"root": "data/sources"}})


def test_records_that_cannot_be_read_are_left_out(checkout: Path) -> None:
    records.save(checkout, record())
    (checkout / ".moteur/retrainings/torn").mkdir()
    (checkout / ".moteur/retrainings/torn/record.json").write_text('{"id": "to')
    assert [dataclasses.asdict(one) for one in recorded(checkout)] == [dataclasses.asdict(record())]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

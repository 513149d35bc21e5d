"""Promotion end to end: real releases, sandbox processes and MLflow server; then rollback and what it marks."""

import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from flows.champions import console, history, promotion, succession, verification
from pipelines.adapters import registry
from pipelines.adapters.alerts import Outbox
from pipelines.artifacts import State
from pipelines.core.judging import gates
from pipelines.errors import ArtifactError, DataError
from tests import releases
from tests.flows import toy

GATE = {"infra": {"requests": 3, "max_load_seconds": 60, "max_p99_seconds": 10, "max_memory_mib": 4096,
                  "timeout_seconds": 200, "address_space_mib": 12288}}  # fmt: skip


@pytest.fixture(scope="module")
def told():
    return []


@pytest.fixture(scope="module")
def root(tmp_path_factory, database, told):
    """A workspace whose first release is champion, and whose second, which is broken, was refused."""
    folder = tmp_path_factory.mktemp("promotion")
    bundles = {
        "good": releases.real(folder / "good", seed=0),
        "broken": releases.real(folder / "broken", seed=1, broken=True),
    }
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("MLFLOW_TRACKING_URI", raising=False)
        made = releases.workspace(folder / "workspace", bundles["good"], **GATE)
        (made / State.ROOT).mkdir()
        shutil.copy2(database, made / State.MLFLOW_DATABASE)
        told.append(promotion.promote(made, who="ops", why="the first", say=lambda _: None))
        releases.put(made, bundles["broken"])
        told.append(promotion.promote(made, who="ops", why="try this", say=lambda _: None))
        yield made


@pytest.fixture
def good(root, told):
    """The version that is champion, between the tests."""
    return told[0].version


@pytest.fixture
def broken(root, told):
    """The version that was refused."""
    return told[1].version


def _good(root: Path) -> int:
    return history.read(root)[0].to_version


def found(root: Path) -> registry.Registry:
    return registry.open_registry(root=root)


def test_the_first_release_is_champion_by_floors_alone(root, told, good):
    outcome = told[0]
    assert outcome.moved
    assert outcome.verdict["kind"] == "bootstrap"
    assert outcome.words.startswith(f"Version {good} is champion, the first one. Version {good} passed all")
    assert found(root).aliases() == {"champion": good}


def test_a_release_without_sense_is_refused_beside_the_champion(root, told, good, broken):
    outcome = told[1]
    assert not outcome.moved
    failed = {rule["name"]: rule["words"] for rule in outcome.verdict["rules"] if not rule["passed"]}
    assert "bits per byte beside the champion" in failed
    assert outcome.words.startswith(f"Version {broken} is refused. Version {broken} failed")
    assert found(root).aliases() == {"champion": good}
    entries = history.read(root)
    assert [(entry.action, entry.from_version, entry.to_version) for entry in entries[:2]] == [
        ("promote", None, good),
        ("refuse", good, broken),
    ]
    assert entries[1].verdict == outcome.verdict["words"]


def test_the_verdict_is_kept_with_the_version_and_says_what_was_compared(root, told, good, broken):
    document = found(root).read_verdict(broken)
    assert document == json.loads(json.dumps(told[1].verdict))
    assert document["sha256"] == gates.digest(document)
    assert (document["champion"], document["challenger"]) == (good, broken)
    assert document["exam_tasks"] == {"question_answering": 60, "summarisation": 30}
    assert {rule["group"] for rule in document["rules"]} == {"lineage", "quality", "service"}


def test_a_version_says_where_it_comes_from(root, good):
    tags = found(root).version(good).tags
    assert len(tags["dvc.lock"]) == 64
    assert tags["data.data/validated"].endswith(".dir")
    assert tags["figure.reward_modeling.held_out_accuracy"] == "0.75"
    assert {"git.commit", "git.dirty", "manifest_sha256", "exam_sha256"} <= set(tags)
    assert tags["gate.verdict"] == "passed"


def test_the_release_that_is_live_is_not_promoted_again(root, good):
    outcome = promotion.promote(root, version=good, say=lambda _: None)
    assert outcome.words == f"Version {good} is champion already."
    assert outcome.already
    assert outcome.entry is None


def test_a_workspace_of_a_retraining_does_not_set_its_own_gate(root, tmp_path):
    bundle = releases.small(tmp_path / "eager", "eager")
    exam = found(root).fetch_exam(_good(root), tmp_path / "exam")
    version = found(root).register(bundle, {}, exam=exam)
    text = (root / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("max_new_tokens: ", "max_new_tokens: 1"))
    asked = []

    def examine(folder, paper, params):
        asked.append(params)
        raise ArtifactError("enough")

    promotion.promote(root, version=version.number, source=tmp_path, examine=examine, say=lambda _: None)
    assert asked[0] == promotion._params(root) != promotion._params(tmp_path)


def test_nor_how_large_its_exam_is(root, tmp_path, monkeypatch):
    text = (root / "params.yaml").read_text()
    wanted = promotion._params(root).promotion.documents + 1
    (tmp_path / "params.yaml").write_text(text.replace(f"  documents: {wanted - 1}", f"  documents: {wanted}"))
    monkeypatch.setattr(promotion, "open_registry", lambda **_: None)
    asked = []

    def draw(validated, target, **size):
        asked.append(size["documents"])
        raise DataError("enough")

    monkeypatch.setattr(promotion.exams, "draw", draw)
    with pytest.raises(DataError, match="enough"):
        promotion.register(tmp_path, source=root, say=lambda _: None)
    assert asked == [wanted]


def promoted(root: Path, name: str) -> int:
    """Another version that went live; nobody was asked."""
    bundle = releases.small(root.parent / name, name)
    exam = found(root).fetch_exam(_good(root), root.parent / f"{name}-exam")
    version = found(root).register(bundle, {}, exam=exam)
    assert promotion.promote(root, version=version.number, examine=releases.sitting(1.0), say=lambda _: None).moved
    return version.number


def test_row_36_a_champion_that_does_not_warm_up_is_rolled_back_and_refused_from_then_on(root, good):
    version = promoted(root, "cold")
    assert found(root).aliases() == {"champion": version, "previous_champion": good}
    outcome = promotion.rollback(root, of=version, who="the server", why="failed its warm-up")
    assert (outcome.version, outcome.moved) == (good, True)
    assert found(root).aliases() == {"champion": good}
    assert history.read(root)[-1].why == "failed its warm-up"
    assert Outbox(root / State.ALERTS).open()[-1].title == f"Version {version} was rolled back"
    late = promotion.rollback(root, of=version, who="the server", why="failed its warm-up")
    assert not late.moved
    assert late.words == f"Version {good} is champion, not {version}: nothing was rolled back."
    again = promotion.promote(root, version=version, examine=releases.sitting(1.0), say=lambda _: None)
    assert not again.moved
    assert "it was rolled back on" in again.words
    assert "by the server: failed its warm-up" in again.words
    stands = promotion.promote(root, version=version, again=True, examine=releases.sitting(1.0), say=lambda _: None)
    assert stands.moved
    assert not found(root).version(version).tags["withdrawn"]
    promotion.rollback(root, to=good)
    assert found(root).version(version).tags["withdrawn"]


def test_a_second_rollback_goes_further_back_and_not_forth(root, good):
    one, two = promoted(root, "one"), promoted(root, "two")
    promotion.rollback(root)
    assert found(root).aliases() == {"champion": one, "previous_champion": good}
    promotion.rollback(root)
    assert found(root).aliases() == {"champion": good}
    with pytest.raises(ArtifactError, match=f"version {good} has no predecessor to go back to"):
        promotion.rollback(root)
    assert two > one


def test_a_version_that_never_passed_cannot_come_in_by_a_rollback(root, broken):
    with pytest.raises(ArtifactError, match=f"version {broken} never passed the gate"):
        promotion.rollback(root, to=broken)
    with pytest.raises(ArtifactError, match="has no version 9999"):
        promotion.rollback(root, to=9999)


def test_a_former_champion_may_come_back_though_it_would_not_pass_today(root, good):
    version = promoted(root, "better")
    outcome = promotion.promote(root, version=good, examine=dies, say=lambda _: None)
    assert not outcome.moved
    assert found(root).version(good).tags["gate.verdict"] == "refused"
    assert promotion.rollback(root, of=version).version == good


def dies(folder, paper, params):
    raise ArtifactError(f"{folder} failed in the sandbox: the process ended with code -11")


def test_an_examination_that_fails_is_a_refusal_with_its_reason(root, good):
    bundle = releases.small(root.parent / "dies", "dies")
    exam = found(root).fetch_exam(_good(root), root.parent / "dies-exam")
    version = found(root).register(bundle, {}, exam=exam).number
    outcome = promotion.promote(root, version=version, examine=dies, say=lambda _: None)
    assert not outcome.moved
    assert "ended with code -11" in outcome.words
    assert found(root).aliases()["champion"] == good


def test_a_version_without_an_exam_is_refused(root):
    bundle = releases.small(root.parent / "unasked", "unasked")
    version = found(root).register(bundle, {}).number
    outcome = promotion.promote(root, version=version, examine=releases.sitting(1.0), say=lambda _: None)
    assert not outcome.moved
    assert "was registered without an exam" in outcome.words


def test_everything_is_as_it_was_recorded_until_an_alias_is_moved_by_hand(root, good, broken):
    every = [*verification.workspace(root), *verification.registry(found(root), root)]
    assert [finding.bad for finding in every if finding.bad] == []
    found(root).set_alias("champion", broken)
    (finding,) = [one for one in verification.registry(found(root), root) if one.bad]
    assert finding.bad == f"the history says that version {good} is live, the registry says {broken}"
    found(root).set_alias("champion", good)


def test_the_commands_say_what_they_did(root, good, capsys):
    version = promoted(root, "by hand")
    done = toy.moteur(root, "rollback", "--why", "as a drill")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Version {good} is champion again; version {version} is withdrawn. (")
    capsys.readouterr()
    console.history_of(root, at=None, as_json=True)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["why"] == "as a drill"
    today = history.read(root)[-1].moment.astimezone().date().isoformat()
    console.history_of(root, at=today, as_json=False)
    assert f"version {version} was live for a part of it" in capsys.readouterr().out
    assert verification.show(root, mend=False, every=True) == 0
    assert "Everything is as it was recorded." in capsys.readouterr().out


def test_the_verdict_is_shown_rule_by_rule(root, told, capsys):
    Console(width=160).print(console.table(told[1].verdict))
    shown = capsys.readouterr().out
    assert all(" ".join(rule["words"].split()[:6]) in shown for rule in told[1].verdict["rules"])
    assert shown.count("FAIL") == sum(not rule["passed"] for rule in told[1].verdict["rules"])


def test_the_command_ends_with_7_when_a_release_is_refused(root):
    version = found(root).register(releases.small(root.parent / "unasked too", "unasked too"), {}).number
    done = toy.moteur(root, "promote", str(version), "--why", "nobody asked it")
    assert done.returncode == console.REFUSED, done.stderr
    assert f"Version {version} is refused." in done.stdout
    assert "Is it good?" in done.stdout


def test_a_command_without_a_server_is_a_sentence(root):
    down = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    done = toy.moteur(root, "rollback", **down)
    assert done.returncode == 5
    assert "the registry at http://127.0.0.1:9 does not do what is asked" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_lock_is_held_only_for_the_move(root):
    """While a challenger sits its exam a rollback does not wait."""
    version = promoted(root, "slow")
    bundle = releases.small(root.parent / "meanwhile", "meanwhile")
    exam = found(root).fetch_exam(_good(root), root.parent / "meanwhile-exam")
    late = found(root).register(bundle, {}, exam=exam).number
    sit, rolled = releases.sitting(1.0), []

    def examine(folder, paper, params):
        if not rolled:
            rolled.append(promotion.rollback(root, why="meanwhile", say=lambda _: None))
        return sit(folder, paper, params)

    said: list[str] = []
    outcome = promotion.promote(root, version=late, examine=examine, say=said.append)
    assert rolled[0].moved
    assert outcome.moved
    assert f"The champion has changed to version {rolled[0].version}: the comparison is made again." in said
    assert history.read(root)[-1].from_version == rolled[0].version != version
    succession.loadable(found(root), late)

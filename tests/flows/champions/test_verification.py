"""What was kept is damaged: promotion stops, says what helps, and what it says does help."""

import json
import shutil
from pathlib import Path

import pytest

from flows.champions import history, promotion, succession, verification
from flows.champions.promotion import Outcome
from pipelines.adapters import registry, release
from pipelines.adapters.registry import MANIFEST_TAG, Registry
from pipelines.artifacts import Artifact, State
from pipelines.errors import ArtifactError
from tests import releases


@pytest.fixture
def root(tmp_path, database, monkeypatch) -> Path:
    """A workspace whose first release, version 1, is champion."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    made = releases.workspace(tmp_path / "root", releases.small(tmp_path / "first", "the first"))
    (made / State.ROOT).mkdir()
    shutil.copy2(database, made / State.MLFLOW_DATABASE)
    assert promote(made).version == 1
    return made


@pytest.fixture
def found(root) -> Registry:
    return registry.open_registry(root=root)


def promote(root: Path, version: int | None = None) -> Outcome:
    return promotion.promote(root, version=version, examine=releases.sitting(1.0), say=lambda _: None)


def another(root: Path, name: str = "another") -> None:
    """The workspace makes another release."""
    releases.put(root, releases.small(root.parent / name, name))


def kept(found: Registry, number: int) -> Path:
    """Where the files of a version lie."""
    run = found._client.get_run(found._client.get_model_version("moteur", str(number)).run_id)
    return Path(run.info.artifact_uri.removeprefix("file://"))


def damage(found: Registry, number: int) -> None:
    """A byte of a version rots."""
    file = kept(found, number) / "release" / release.WEIGHTS
    file.write_bytes(file.read_bytes()[:-1] + b"\1")


def bad(found: Registry, root: Path, *, mend: bool = False) -> list[str]:
    return [f"{one.bad} {one.remedy}" for one in verification.registry(found, root, mend=mend) if one.bad]


def test_beside_a_champion_that_is_damaged_nothing_is_promoted_and_what_helps_is_named(root, found):
    damage(found, 1)
    another(root)
    outcome = promote(root)
    assert not outcome.moved
    assert "version 1 in the registry is damaged: model.safetensors has another sha256" in outcome.words
    assert "`moteur verify --all --mend` puts an intact copy in its place" in outcome.words
    with pytest.raises(ArtifactError, match="version 1 in the registry is damaged"):
        promote(root, 1)


@pytest.mark.parametrize("source", ["models/release", "DVC's cache", "version 2"])
def test_a_damaged_champion_is_mended_by_an_intact_copy_of_the_same_release(root, found, source):
    if source == "version 2":
        releases.put(root, root.parent / "first")
        found.register(root / Artifact.RELEASE, {})
    if source != "models/release":
        another(root)
    if source == "version 2":
        shutil.rmtree(root / ".dvc/cache")
    damage(found, 1)
    assert "version 1 in the registry is damaged" in bad(found, root)[0]
    mended = verification.registry(found, root, mend=True)[0]
    assert mended.place == f"registry, version 1 (champion): its copy was replaced by the one in {source}"
    assert mended.bad == ""
    assert bad(found, root) == []
    another(root, "the next")
    assert promote(root).moved


def test_without_an_intact_copy_a_damaged_champion_stays_damaged_and_a_rollback_helps(root, found):
    another(root)
    assert promote(root).version == 2
    damage(found, 2)
    shutil.rmtree(root / Artifact.RELEASE)
    shutil.rmtree(root / ".dvc/cache")
    (words,) = bad(found, root, mend=True)
    assert words.endswith(
        "no intact copy was found: make this release again and repeat this, or `moteur rollback --to VERSION`"
    )
    assert promotion.rollback(root).version == 1
    assert bad(found, root) == []


def test_a_champion_whose_tags_were_changed_gives_way_to_a_new_copy_of_its_release(root, found):
    found._client.set_model_version_tag("moteur", "1", MANIFEST_TAG, "0" * 64)
    outcome = promote(root)
    assert (outcome.version, outcome.moved) == (2, False)
    assert "its tags were changed. Register the same release again" in outcome.words
    assert promotion.rollback(root, to=2).moved
    assert found.aliases() == {"champion": 2}
    assert promote(root, 2).words.startswith("Version 2 is champion already.")
    another(root)
    assert promote(root).moved


def test_a_champion_whose_run_was_deleted_for_good_is_damaged_and_not_a_registry_that_is_down(root, found):
    run = found._client.get_model_version("moteur", "1").run_id
    found._client.delete_run(run)
    found._client._tracking_client.store._hard_delete_run(run)
    with pytest.raises(ArtifactError, match=r"version 1 in the registry lost its run"):
        succession.loadable(found, 1)
    assert promote(root).version == 2
    assert promotion.rollback(root, to=2).moved


@pytest.mark.parametrize("content", [None, '{"passed": true, "sha256": NaN', "[]", '{"sha256": NaN, "passed": NaN}'])
def test_a_champion_whose_verdict_was_lost_is_judged_again_and_can_then_be_followed(root, found, content):
    (file,) = (kept(found, 1) / "verdicts").glob("*.json")
    file.unlink() if content is None else file.write_text(content)
    (words,) = bad(found, root)
    assert words.endswith("`moteur promote 1` asks the gate again")
    another(root)
    outcome = promote(root)
    assert not outcome.moved
    assert "`moteur promote 1` asks the gate again" in outcome.words
    again = promote(root, 1)
    assert again.already
    assert again.words.startswith("Version 1 is champion already. Its verdict was lost, so it was judged again.")
    assert bad(found, root) == []
    assert promote(root, outcome.version).moved


def test_a_release_whose_exam_was_changed_is_registered_again(root, found):
    (kept(found, 1) / "exam.jsonl").write_text("{}")
    outcome = promote(root)
    assert (outcome.version, outcome.moved) == (2, True)


def test_an_alias_that_was_moved_by_hand_stops_promotions_until_somebody_stands_for_it(root, found):
    another(root)
    assert promote(root).version == 2
    found.set_alias("champion", 1)
    words = "the history says that version 2 is live, the registry says 1"
    assert words in bad(found, root)[0]
    another(root, "the next")
    outcome = promote(root)
    assert not outcome.moved
    assert f"{words}: find out who moved the alias; `moteur rollback --to VERSION` sets it" in outcome.words
    confirmed = promotion.rollback(root, to=1, who="ops", why="it was us")
    assert confirmed.words == "Version 1 is champion, and the history says so now."
    assert [(entry.from_version, entry.to_version) for entry in history.read(root)[-1:]] == [(2, 1)]
    assert bad(found, root) == []
    assert promote(root, outcome.version).moved


def test_an_alias_that_was_taken_away_is_set_again_by_a_rollback(root, found):
    found.set_alias("champion", None)
    assert not promote(root, 1).moved
    with pytest.raises(ArtifactError, match=r"there is no champion .* `moteur rollback --to VERSION` takes one back"):
        promotion.rollback(root)
    outcome = promotion.rollback(root, to=1)
    assert (outcome.moved, outcome.words) == (True, "Version 1 is champion again.")
    assert found.aliases() == {"champion": 1}
    assert bad(found, root) == []


def test_a_rollback_whose_alert_cannot_be_kept_has_happened_all_the_same(root, found, capsys):
    another(root)
    assert promote(root).version == 2
    (root / State.ALERTS).write_text("no folder")
    assert promotion.rollback(root).moved
    assert found.aliases() == {"champion": 1}
    assert capsys.readouterr().err.endswith("Version 2 was rolled back\n")


def test_a_torn_journal_is_a_finding_and_the_rest_is_looked_at(root, capsys):
    (root / succession.JOURNAL).write_text('{"entry": {}}')
    assert verification.show(root, mend=False, every=False) == 1
    said = capsys.readouterr().out
    assert "journal.json holds no entry of the history" in said
    assert "good  registry, version 1 (champion)" in said
    assert "meanwhile" not in said


def test_a_verdict_may_not_be_replaced_where_there_is_no_exam(root, found):
    (kept(found, 1) / "exam.jsonl").unlink()
    (file,) = (kept(found, 1) / "verdicts").glob("*.json")
    file.write_text(json.dumps({"passed": True}))
    with pytest.raises(ArtifactError, match="It has neither verdict nor exam"):
        promote(root, 1)
    assert not promote(root).moved
    assert promotion.rollback(root, to=2).moved
    assert promote(root, 2).already
    another(root)
    assert promote(root).moved


@pytest.mark.parametrize("lost", ["an entry", "the head", "both files"])
def test_a_history_that_lost_something_stops_promotions_until_it_is_mended(root, found, lost):
    another(root)
    assert promote(root).version == 2
    path, head = root / history.PATH, root / history.HEAD
    lines = path.read_text().splitlines(keepends=True)
    if lost == "an entry":
        path.write_text(lines[0])
        assert "history.jsonl: the last 1 of 2 entries is missing" in bad(found, root)[0]
    elif lost == "the head":
        head.unlink()
        assert "history.head.json is missing or torn" in bad(found, root)[0]
    else:
        path.unlink()
        head.unlink()
        assert bad(found, root)[0].startswith("the history says that version None is live, the registry says 2 ")
    another(root, "the next")
    assert not promote(root).moved
    if lost == "an entry":  # without a backup
        said = promotion.rollback(root, to=2).words
        assert said.startswith(
            "Version 2 is champion, and the history says so now. .moteur/promotion/history.jsonl: what"
        )
        assert "restore it and history.head.json from a backup; without one, move both aside" in said
        path.unlink()
        head.unlink()
    assert promotion.rollback(root, to=2).words == "Version 2 is champion, and the history says so now."
    assert bad(found, root) == []
    assert promote(root, 3).moved

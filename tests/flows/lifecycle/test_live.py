"""`moteur status`: what is live."""

from pathlib import Path

import pytest

from flows.lifecycle import live
from pipelines.adapters import registry
from pipelines.artifacts import State
from tests import releases


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_where_nothing_can_have_been_registered_there_is_no_word_of_a_champion(tmp_path: Path) -> None:
    assert list(live._champion(tmp_path)) == []


def test_the_champion_is_told_with_its_manifest(tmp_path: Path) -> None:
    found = registry.open_registry(root=tmp_path)
    version = found.register(releases.small(tmp_path / "bundle", "one"), {})
    assert list(live._champion(tmp_path)) == ["Champion: none yet."]
    found.set_alias("champion", version.number)
    assert list(live._champion(tmp_path)) == [f"Champion: version 1 (manifest {version.manifest_sha256[:12]}...)"]


def test_a_registry_that_fails_is_told_and_not_passed_over(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    database = tmp_path / State.MLFLOW_DATABASE
    database.parent.mkdir()
    database.write_bytes(b"no database at all, only text" * 99)
    assert list(live._champion(tmp_path)) == ["Champion: unknown (the registry did not answer)."]


def test_the_command_names_its_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert registry.main(["challenger"]) == 2
    assert "usage: registry champion" in capsys.readouterr().err

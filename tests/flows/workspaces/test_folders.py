"""Workspaces: copied, brought up to date, never touching the checkout."""

import os
from pathlib import Path

import pytest
import yaml

from flows.workspaces import folders
from pipelines.errors import ParamsError
from tests.flows import toy


@pytest.fixture(params=[True, False], ids=["git", "no git"])
def checkout(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return toy.make(tmp_path / "checkout", git=request.param)


def test_a_workspace_holds_the_code_and_not_what_git_ignores(checkout: Path, tmp_path: Path) -> None:
    (checkout / "models").mkdir()
    (checkout / "models/big.bin").write_text("x")
    (checkout / "new.py").write_text("untracked")
    folder = folders.prepare(checkout, tmp_path / "w", None)
    assert (folder / "pipelines/stage.py").exists()
    assert (folder / "new.py").exists()
    assert not (folder / "models").exists()
    assert not (folder / ".git").exists()


def test_times_are_kept_so_that_dvc_need_not_hash_again(checkout: Path, tmp_path: Path) -> None:
    os.utime(checkout / "pipelines/stage.py", (1e9, 1e9))
    folder = folders.prepare(checkout, tmp_path / "w", None)
    assert (folder / "pipelines/stage.py").stat().st_mtime == 1e9


def test_a_second_time_brings_it_up_to_date_and_keeps_what_was_made(checkout: Path, tmp_path: Path) -> None:
    folder = folders.prepare(checkout, tmp_path / "w", None)
    (folder / "models").mkdir()
    (folder / "models/made.txt").write_text("made")
    (folder / "dvc.lock").write_text("the workspace's own")
    (checkout / "pipelines/new.py").write_text("new")
    (checkout / "pipelines/ingestion.py").unlink()
    folders.prepare(checkout, folder, None)
    assert (folder / "pipelines/new.py").exists()
    assert not (folder / "pipelines/ingestion.py").exists()
    assert (folder / "models/made.txt").exists()
    assert (folder / "dvc.lock").read_text() == "the workspace's own"


def test_the_users_own_data_are_there_though_git_ignores_them(checkout: Path, tmp_path: Path) -> None:
    (checkout / "data/sources/own.csv").write_text("1")
    folder = folders.prepare(checkout, tmp_path / "w", None)
    assert (folder / "data/sources/own.csv").read_text() == "1"
    (checkout / "data/sources/own.csv").unlink()
    folders.prepare(checkout, folder, None)
    assert not (folder / "data/sources/own.csv").exists()


@pytest.mark.parametrize("by_profile", [True, False])
def test_data_in_another_folder_that_ingestion_reads_are_there_too(
    checkout: Path, tmp_path: Path, *, by_profile: bool
) -> None:
    (checkout / "data/mine").mkdir()
    (checkout / "data/mine/own.csv").write_text("1")
    values = yaml.safe_load((checkout / "params.yaml").read_text())
    values["ingestion"]["root"] = "data/mine"
    if not by_profile:
        (checkout / "params.yaml").write_text(yaml.safe_dump(values))
    folder = folders.prepare(checkout, tmp_path / "w", values if by_profile else None)
    assert (folder / "data/mine/own.csv").samefile(checkout / "data/mine/own.csv")


def test_a_root_of_ingestion_with_all_that_stages_make_in_it_is_not_copied(checkout: Path, tmp_path: Path) -> None:
    (checkout / "data/raw").mkdir(parents=True)
    (checkout / "data/raw/made.txt").write_text("made")
    folder = folders.prepare(checkout, tmp_path / "w", {"ingestion": {"root": "data"}})
    assert not (folder / "data/raw").exists()


def test_code_is_copied_wherever_the_checkout_lies(tmp_path: Path) -> None:
    checkout = toy.make(tmp_path / "data/sources/checkout")
    folder = folders.prepare(checkout, tmp_path / "w", None)
    assert not (folder / "pipelines/stage.py").samefile(checkout / "pipelines/stage.py")


def test_params_are_written_only_when_they_change(checkout: Path, tmp_path: Path) -> None:
    folder = folders.prepare(checkout, tmp_path / "w", {"seed": 1})
    written = (folder / "params.yaml").stat().st_mtime_ns
    folders.prepare(checkout, folder, {"seed": 1})
    assert (folder / "params.yaml").stat().st_mtime_ns == written
    folders.prepare(checkout, folder, {"seed": 2})
    assert yaml.safe_load((folder / "params.yaml").read_text()) == {"seed": 2}


def test_the_cache_is_the_checkouts(checkout: Path, tmp_path: Path) -> None:
    folder = folders.prepare(checkout, tmp_path / "w", None)
    assert f"dir = {checkout / '.dvc/cache'}" in (folder / ".dvc/config.local").read_text()


def test_a_folder_with_other_things_is_refused(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("x")
    with pytest.raises(ParamsError, match="is not empty and no workspace of ours"):
        folders.prepare(checkout, tmp_path / "full", None)
    assert (tmp_path / "full/thesis.txt").read_text() == "x"


def test_the_checkout_is_no_workspace_of_itself(checkout: Path) -> None:
    with pytest.raises(ParamsError, match="is the checkout itself"):
        folders.prepare(checkout, checkout, None)


def test_the_checkout_is_found_from_a_folder_below(checkout: Path) -> None:
    assert folders.find(checkout / "pipelines") == checkout


def test_outside_of_a_checkout_the_remedy_is_said(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="is not in a Moteur checkout"):
        folders.find(tmp_path)

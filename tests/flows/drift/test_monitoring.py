"""Monitoring: the page, the command, a release that is not what it says."""

import json
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows import cli
from flows.cli import drift as commands
from flows.drift import monitoring, watch
from flows.drift import page as drift_report
from pipelines.adapters import files, references, release
from pipelines.errors import ArtifactError
from tests.flows.drift.documents import check, log, texts, write_batch
from tests.flows.reporting.test_page import Strict


def test_the_page_is_well_formed_asks_for_nothing_outside_and_shows_texts_as_texts(workspace, folder, quick):
    nasty = [text + " <script>alert(1)</script>" for text in texts(80, 6, foreign=1.0)]
    check(folder, data=write_batch(workspace / "nasty.jsonl", nasty))
    page = drift_report.PATH.read_text(encoding="utf-8")
    parser = Strict()
    parser.feed(page)
    assert not parser.open
    assert all(link.startswith("#") for link in parser.links)
    assert not re.search(r"https?://|@import|url\(http", page)
    assert "<script>" not in page
    assert all(f'<section id="{name}">' in page for name in ("tests", "words", "map", "examples", "shape"))
    assert 'class="missing"' not in page


def test_a_release_that_is_not_as_its_manifest_says_is_refused(workspace, folder, tmp_path):
    with pytest.raises(ArtifactError, match="is missing"):
        check(tmp_path / "none", data="tales://")
    with pytest.raises(ArtifactError, match="no documents of kind 'other'"):
        references.read(folder, "other")


def test_the_command_says_what_it_found_and_exits_with_the_state(workspace, folder, quick, monkeypatch):
    monkeypatch.setattr(commands, "enter", lambda _workspace: Path.cwd())
    sea = write_batch(workspace / "sea.jsonl", texts(80, 18, foreign=0.9))
    done = CliRunner().invoke(cli.app, ["drift", "--data", sea, "--release", str(folder)])
    assert done.exit_code == 11
    assert "differs" in done.output
    assert "reports/drift.html" in done.output.replace("\n", "")
    wrong = CliRunner().invoke(cli.app, ["drift", "--data", sea, "--accept"])
    assert wrong.exit_code == 2


def test_the_command_judges_requests_by_the_champion_as_the_watch_does(workspace, folder, quick, monkeypatch):
    champion = workspace / "promoted"
    shutil.copytree(folder, champion)
    release.write_manifest(champion, format=1, name="its successor", weights="int8")
    shutil.copytree(folder, workspace / "models" / "release")
    monkeypatch.setattr(commands, "enter", lambda _workspace: Path.cwd())
    monkeypatch.setattr(watch, "champion", {workspace: champion}.get)
    done = CliRunner().invoke(cli.app, ["drift"])
    assert done.exit_code == 12
    judged = json.loads(monitoring.JSON.read_text())["manifest_sha256"]
    assert judged == files.sha256(champion / release.MANIFEST)


def test_a_workspace_need_not_be_the_current_folder(workspace, folder, tmp_path_factory, monkeypatch):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    log(workspace / ".moteur" / "requests", texts(60, 13), start=1_767_225_600, answered_by=folder, text=False)
    verdict = check(folder, root=workspace)
    assert (verdict.subject, verdict.documents) == ("requests in .moteur/requests", 60)
    assert (workspace / monitoring.JSON).is_file()
    assert (workspace / drift_report.PATH).is_file()
    assert not list(elsewhere.iterdir())

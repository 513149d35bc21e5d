"""Row 13: an object of DVC's cache rots and keeps mode and time. It is found, mended or named, and blocks promotion."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.champions import promotion, verification
from pipelines.adapters import cache
from pipelines.artifacts import Artifact
from pipelines.errors import ArtifactError
from tests import releases
from tests.flows import toy


def dvc(root: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *words],
        cwd=root,
        env=toy.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.fixture(scope="module")
def made_by_dvc(tmp_path_factory) -> Path:
    """A workspace in which DVC itself ran a stage and pushed to a remote."""
    root = tmp_path_factory.mktemp("dvc")
    (root / ".dvc").mkdir()
    (root / ".dvc/config").write_text(
        f"[core]\n    no_scm = true\n    analytics = false\n    remote = r\n['remote \"r\"']\n    url = {root}-remote\n"
    )
    make = "import pathlib; f = pathlib.Path('data/raw/deep'); f.mkdir(parents=True); (f / 'a.txt').write_text('one')"
    make += "; (f.parent / 'b.txt').write_text('two'); pathlib.Path('report.json').write_text('three')"
    (root / "make.py").write_text(make)
    (root / "dvc.yaml").write_text(
        "stages:\n  ingestion:\n    cmd: python make.py\n    deps: [make.py]\n    outs: [data/raw]\n"
        "    metrics: [report.json]\n"
    )
    dvc(root, "repro")
    dvc(root, "push")
    return root


def rot(root: Path, content: bytes) -> Path:
    """Change one byte of the object with this content, as a disk does: mode and times stay."""
    (file,) = [path for path in cache.folder(root).glob("*/*") if path.read_bytes() == content]
    before = file.stat()
    file.chmod(0o644)
    file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    file.chmod(before.st_mode)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    return file


def bad(root: Path) -> list[str]:
    return [str(fault) for fault in cache.check(root)]


def test_row_13_what_dvc_made_is_whole_by_our_hashes(made_by_dvc):
    assert [item.path for item in cache.outs(made_by_dvc)] == ["data/raw", "report.json"]
    assert bad(made_by_dvc) == []
    (folder, report) = cache.outs(made_by_dvc)
    assert cache.digest(made_by_dvc / "data/raw") == folder.md5
    assert cache.digest(made_by_dvc / "report.json") == report.md5


@pytest.mark.parametrize("content", [b"one", b"three"])
def test_row_13_rot_that_dvc_does_not_see_is_found_and_mended_from_the_workspace(made_by_dvc, content):
    file = rot(made_by_dvc, content)
    assert "up to date" in dvc(made_by_dvc, "status")
    (words,) = bad(made_by_dvc)
    assert words.startswith(str(file))
    assert "of the stage ingestion) has rotted: its md5 is" in words
    assert cache.mend(made_by_dvc, cache.check(made_by_dvc)) == []
    assert file.read_bytes() == content
    assert file.stat().st_mode & 0o777 == 0o444
    assert bad(made_by_dvc) == []


def test_row_13_the_list_of_a_folder_that_rots_is_found_and_mended(made_by_dvc):
    item = cache.outs(made_by_dvc)[0]
    file = cache._place(cache.folder(made_by_dvc), item.md5)
    whole = file.read_bytes()
    rot(made_by_dvc, whole)
    assert "(data/raw of the stage ingestion) has rotted" in bad(made_by_dvc)[0]
    assert cache.mend(made_by_dvc, cache.check(made_by_dvc)) == []
    assert file.read_bytes() == whole


def test_row_13_where_the_workspace_has_no_good_copy_the_remote_gives_one(made_by_dvc):
    workspace = made_by_dvc / "data/raw/deep/a.txt"
    workspace.write_text("changed by hand")
    rot(made_by_dvc, b"one")
    assert cache.mend(made_by_dvc, cache.check(made_by_dvc)) == []
    assert bad(made_by_dvc) == []
    workspace.write_text("one")


def test_row_13_when_a_list_and_a_file_in_it_rot_one_mending_finds_both(made_by_dvc):
    item = cache.outs(made_by_dvc)[0]
    rot(made_by_dvc, b"one")
    rot(made_by_dvc, cache._place(cache.folder(made_by_dvc), item.md5).read_bytes())
    assert len(bad(made_by_dvc)) == 1
    assert cache.mend(made_by_dvc, cache.check(made_by_dvc)) == []
    assert bad(made_by_dvc) == []


@pytest.fixture
def workspace(tmp_path):
    return releases.workspace(tmp_path / "w", releases.small(tmp_path / "bundle", "v"))


def test_row_13_without_any_good_copy_the_object_is_taken_out_and_its_stage_named(workspace):
    data = workspace / Artifact.VALIDATED / "corpus.test.jsonl"
    file = rot(workspace, data.read_bytes())
    data.unlink()
    (finding,) = [one for one in verification.dvc(workspace, mend=True) if one.bad]
    assert not file.exists()
    assert "data/validated/corpus.test.jsonl of the stage data_validation) has rotted" in finding.bad
    assert "`moteur run --from data_validation` makes it again" in finding.remedy


@pytest.mark.parametrize("good", ["corpus.test.jsonl", "a copy.jsonl", "z copy.jsonl"])
def test_row_13_an_object_with_several_names_is_mended_from_whichever_copy_is_good(workspace, good):
    data = workspace / Artifact.VALIDATED
    content = (data / "corpus.test.jsonl").read_bytes()
    names = ("corpus.test.jsonl", "a copy.jsonl", "z copy.jsonl")
    for name in names:
        (data / name).write_bytes(content)
    releases.record(workspace, {"data_validation": [Artifact.VALIDATED], "deployment": [Artifact.RELEASE]})
    file = rot(workspace, content)
    for name in names:
        if name != good:
            (data / name).write_text("changed by hand")
    (words,) = bad(workspace)
    assert all(f"data/validated/{name} of the stage data_validation" in words for name in names)
    assert cache.mend(workspace, cache.check(workspace)) == []
    assert file.read_bytes() == content


def test_row_13_mending_again_finds_a_copy_that_came_back_meanwhile(workspace):
    data = workspace / Artifact.VALIDATED / "corpus.test.jsonl"
    content = data.read_bytes()
    rot(workspace, content)
    data.unlink()
    for _ in range(2):
        (finding,) = [one for one in verification.dvc(workspace, mend=True) if one.bad]
        assert "no good copy was found" in finding.remedy
    data.write_bytes(content)
    (finding,) = verification.dvc(workspace, mend=True)
    assert (finding.place, finding.bad) == ("DVC's cache: bad objects were replaced, 2 outputs are whole", "")


def test_row_13_a_missing_object_is_named(workspace):
    item = cache.outs(workspace)[0]
    cache._place(cache.folder(workspace), item.md5).unlink()
    assert bad(workspace)[0].endswith("(data/validated of the stage data_validation) is missing")


def test_row_13_rot_blocks_the_promotion(workspace):
    rot(workspace, (workspace / Artifact.VALIDATED / "corpus.test.jsonl").read_bytes())
    with pytest.raises(ArtifactError, match=r"nothing is registered:\n .* has rotted: .*; `moteur verify --mend`"):
        promotion.promote(workspace)
    assert not (workspace / ".moteur").exists()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda release: (release / "config.json").write_text('{"a": 1}'), "config.json has 8 bytes, not 2"),
        (
            lambda release: releases.release.write_manifest(release, name="forged"),
            "is not the one of reports/deployment",
        ),
    ],
)
def test_row_13_a_release_that_was_changed_by_hand_blocks_the_promotion(workspace, damage, words):
    damage(workspace / Artifact.RELEASE)
    with pytest.raises(ArtifactError, match=words):
        promotion.promote(workspace)


def test_row_13_a_torn_lock_file_is_named_with_the_remedy(workspace):
    (workspace / "dvc.lock").write_text("stages: {ingestion: {cmd")
    (finding,) = verification.dvc(workspace)
    assert "dvc.lock is torn" in finding.bad
    assert "git checkout dvc.lock" in finding.bad

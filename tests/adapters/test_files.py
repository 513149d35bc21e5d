"""Atomic writes: all or nothing, whatever happens."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import SafetensorError
from tokenizers import Tokenizer
from tokenizers.models import BPE

from pipelines.adapters import files
from pipelines.errors import ArtifactError, ResourceError


def test_a_file_is_there_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a" / "x.txt"
    with files.replacing(path) as fresh:
        fresh.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def half_written(path: Path, *, folder: bool) -> None:
    with files.replacing(path) as fresh:
        if folder:
            fresh.mkdir()
        else:
            fresh.write_text("half")
        raise RuntimeError("stop")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_failure_leaves_what_was_there(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "folder":
        path.mkdir()
        (path / "old.txt").write_text("old")
    else:
        path.write_text("old")
    with pytest.raises(RuntimeError, match="stop"):
        half_written(path, folder=kind == "folder")
    assert (path / "old.txt" if kind == "folder" else path).read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_swept_and_what_another_writes_just_now_is_not(tmp_path: Path) -> None:
    path = tmp_path / "reward"
    stale, others = tmp_path / ".reward.0a_b1c2d", tmp_path / ".reward.json.0a_b1c2d"
    for left in (stale, others):
        left.mkdir()
        os.utime(left, (0, 0))
    with files.replacing(path) as one, files.replacing(path) as other:
        assert files.holders(path) == sorted([one.parent, other.parent])
        for fresh in (one, other):
            fresh.write_text("new")
    assert sorted(tmp_path.iterdir()) == [others, path]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "old.txt").write_text("old")
    with files.replacing(path) as fresh:
        fresh.mkdir()
        (fresh / "new.txt").write_text("new")
    assert [item.name for item in path.iterdir()] == ["new.txt"]


def test_a_full_disk_says_how_much_is_free_and_that_nothing_is_lost(tmp_path: Path) -> None:
    with (
        pytest.raises(ResourceError, match=r"No space for .*x: \d+ MiB are free.*nothing that was made before is lost"),
        files.replacing(tmp_path / "x"),
    ):
        raise OSError(28, "No space left on device")


def test_a_full_disk_names_the_folder_of_temporary_files_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.tempfile, "gettempdir", lambda: str(tmp_path))
    with pytest.raises(ResourceError) as refused, files.replacing(tmp_path / "x"):
        raise OSError(28, "No space left on device")
    assert f"MiB in {tmp_path} for temporary files (the environment variable TMPDIR" in str(refused.value)


def to_safetensors(_path: Path) -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def to_tokenizer(path: Path) -> None:
    Tokenizer(BPE()).save(str(path))


@pytest.mark.parametrize("write", [to_safetensors, to_tokenizer])
def test_row_18_a_full_disk_is_known_by_what_libraries_in_rust_say(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    with pytest.raises(ResourceError, match="No space for"), files.replacing(tmp_path / "x"):
        write(full)


def test_other_faults_of_the_disk_are_not_called_a_full_one(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), files.replacing(tmp_path / "x"):
        raise PermissionError(13, "denied")


def test_lines_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    rows = [{"text": "ä\u2028ö\n"}, {"n": 1.5}]
    assert files.write_jsonl(tmp_path / "x.jsonl", iter(rows)) == 2
    assert list(files.read_jsonl(tmp_path / "x.jsonl")) == rows


def test_batches_of_lines_hold_what_single_lines_do(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"id": str(number), "text": "ü" * number} for number in range(50)]
    files.write_jsonl(path, rows)
    batches = list(files.read_jsonl_batches(path, 300))
    assert [row for _, batch in batches for row in batch] == list(files.read_jsonl(path)) == rows
    assert b"".join(line for lines, _ in batches for line in lines) == path.read_bytes()
    assert len(batches) > 5


def test_a_torn_line_of_a_batch_is_named_with_its_number(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n' * 5 + b'{"a": NaN}\n{"a": ')
    batches = files.read_jsonl_batches(tmp_path / "a.jsonl", 20)
    assert next(batches) == ([b'{"a": 1}\n'] * 3, [{"a": 1}] * 3)
    with pytest.raises(ArtifactError, match=r"a\.jsonl:7 is not JSON"):
        list(batches)
    with pytest.raises(ArtifactError, match="is missing"):
        next(files.read_jsonl_batches(tmp_path / "b.jsonl", 20))


def test_a_torn_line_is_named_with_its_number(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n{"a":\n')
    with pytest.raises(ArtifactError, match=r"x\.jsonl:2 is not JSON"):
        list(files.read_jsonl(tmp_path / "x.jsonl"))


@pytest.mark.parametrize("read", [files.read_json, lambda path: list(files.read_jsonl(path))])
def test_a_missing_file_says_how_to_make_it(tmp_path: Path, read: object) -> None:
    with pytest.raises(ArtifactError, match=r"x is missing\. Run `moteur run`"):
        read(tmp_path / "x")  # type: ignore[operator]


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        files.write_json(tmp_path / "x.json", {"a": float("nan")})
    assert not (tmp_path / "x.json").exists()


def test_the_hash_of_a_file_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert files.sha256(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()


def test_the_hash_of_a_folder_sees_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f/a").write_text("1")
    one = files.sha256(tmp_path / "f")
    (tmp_path / "f/a").rename(tmp_path / "f/b")
    two = files.sha256(tmp_path / "f")
    (tmp_path / "f/b").write_text("2")
    assert len({one, two, files.sha256(tmp_path / "f")}) == 3


def test_the_hash_of_a_folder_may_be_of_some_files_only(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f/a.py").write_text("1")
    code = files.sha256(tmp_path / "f", "*.py")
    (tmp_path / "f/a.pyc").write_text("1")
    assert files.sha256(tmp_path / "f", "*.py") == code != files.sha256(tmp_path / "f")


def test_json_is_written_for_people(tmp_path: Path) -> None:
    files.write_json(tmp_path / "x.json", {"a": "ä"})
    assert (tmp_path / "x.json").read_text(encoding="utf-8") == '{\n  "a": "ä"\n}\n'
    assert json.loads((tmp_path / "x.json").read_text()) == files.read_json(tmp_path / "x.json")

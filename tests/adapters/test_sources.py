import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from pipelines.adapters import sources
from pipelines.core.text.lines import Bad, Good
from pipelines.errors import DataError, ParamsError
from pipelines.params import Source

ROWS = [{"id": str(number), "text": f"Text number {number}."} for number in range(300)]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def read(root: Path, uri: str, split: str = "train", kind: str = "corpus", **settings: Any) -> list[Good | Bad]:
    source = Source.model_validate({"uri": uri, **settings})
    inputs = sources.resolve(source, kind, split, root, max_line_bytes=10_000)
    return [row for item in inputs for row in item.rows()]


def values(rows: list[Good | Bad]) -> list[dict[str, Any]]:
    return [row.values for row in rows if isinstance(row, Good)]


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    elif path.suffix == ".zst":
        data = zstandard.compress(data)
    path.write_bytes(data)


def parquet_bytes(tmp_path: Path, rows: list[dict[str, Any]]) -> bytes:
    path = tmp_path / "made.bin"
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
    return path.read_bytes()


@pytest.mark.parametrize("end", ["", ".gz", ".zst"])
def test_json_lines_are_read_through_every_compression(tmp_path: Path, end: str) -> None:
    write(tmp_path / f"a.jsonl{end}", JSONL)
    assert values(read(tmp_path, f"a.jsonl{end}")) == ROWS


@pytest.mark.parametrize("end", ["", ".gz", ".zst"])
def test_parquet_is_read_through_every_compression(tmp_path: Path, end: str) -> None:
    write(tmp_path / f"a.parquet{end}", parquet_bytes(tmp_path, ROWS))
    rows = read(tmp_path, f"a.parquet{end}")
    assert values(rows) == ROWS
    assert [row.line for row in rows] == list(range(1, len(ROWS) + 1))


@pytest.mark.parametrize("end", ["", ".gz", ".zst"])
def test_text_is_read_through_every_compression(tmp_path: Path, end: str) -> None:
    write(tmp_path / f"a.txt{end}", b"One.\n<|endoftext|>\nTwo.\n")
    rows = read(tmp_path, f"a.txt{end}", separator="<|endoftext|>")
    assert values(rows) == [{"text": "One."}, {"text": "Two."}]


def test_several_gzip_members_and_zstd_frames_in_one_file_are_all_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(JSONL) * 2)
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(JSONL) * 2)
    assert len(read(tmp_path, "a.jsonl.gz")) == len(read(tmp_path, "a.jsonl.zst")) == 600


def test_a_glob_reads_its_files_in_order_of_name(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        write(tmp_path / f"deep/{name}.txt", name.encode())
    assert values(read(tmp_path, "deep/*.txt")) == [{"text": "a"}, {"text": "b"}, {"text": "c"}]


@pytest.mark.parametrize("end", [".gz", ".zst"])
@pytest.mark.parametrize("share", [0.5, 0.99])
def test_a_torn_file_is_named_and_the_download_blamed(tmp_path: Path, end: str, share: float) -> None:
    path = tmp_path / f"a.jsonl{end}"
    write(path, JSONL)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError, match=rf"a\.jsonl\{end} ends in the middle.*download is probably incomplete"):
        read(tmp_path, f"a.jsonl{end}")


def test_a_torn_parquet_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(parquet_bytes(tmp_path, ROWS)[:-20])
    with pytest.raises(DataError, match=r"a\.parquet cannot be read as \.parquet.*Fetch"):
        read(tmp_path, "a.parquet")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.jsonl", b"", "a.jsonl is empty"),
        ("a.csv", b"a,b", "format is unknown.*rename or convert"),
        ("jsonl", b"{}", "format is unknown"),
        ("a.jsonl", gzip.compress(b"{}", mtime=0), "holds gzip data, not plain text"),
        ("a.txt.zst", gzip.compress(b"{}", mtime=0), "holds gzip data, not zstd"),
        ("a.txt.gz", b"plain", "holds neither .* data, not gzip"),
        ("a.parquet", b"plain", "holds neither .* data, not parquet"),
    ],
)
def test_what_a_file_is_not_is_seen_before_it_is_read(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    source = Source(uri=name)
    with pytest.raises(DataError, match=message):
        sources.resolve(source, "corpus", "train", tmp_path, 1000)


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "stories/train.txt", b"a")
    with pytest.raises(DataError, match=r"is not there below .*There is: stories/train\.txt"):
        read(tmp_path, "stories/trian.txt")


def test_a_glob_without_match_names_what_there_is(tmp_path: Path) -> None:
    write(tmp_path / "stories/train.txt", b"a")
    with pytest.raises(DataError, match=r"matches no file.*stories/train\.txt"):
        read(tmp_path, "stories/*.jsonl")


def test_a_folder_is_told_from_a_file(tmp_path: Path) -> None:
    write(tmp_path / "stories/train.txt", b"a")
    with pytest.raises(DataError, match=r"stories is a folder: name its files"):
        read(tmp_path, "stories")


def test_a_missing_root_is_named_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ingestion\.root is .*nowhere, which is no folder"):
        read(tmp_path / "nowhere", "a.txt")


@pytest.mark.parametrize("uri", ["/etc/passwd", "../outside.txt", "a/../../b.txt", ""])
def test_a_path_outside_the_root_is_an_error_of_params(uri: str) -> None:
    with pytest.raises(ValueError, match=r"not below ingestion\.root, so DVC would not see its changes"):
        Source(uri=uri)


def test_a_byte_order_mark_is_taken_off_and_counted(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl.gz", b"\xef\xbb\xbf" + JSONL)
    (item,) = sources.resolve(Source(uri="a.jsonl.gz"), "corpus", "train", tmp_path, 10_000)
    assert values(list(item.rows())) == ROWS
    assert item.num_byte_order_marks == 1


def test_wide_text_is_named_with_the_remedy(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "text".encode("utf-16"))
    with pytest.raises(DataError, match=r"a\.txt is UTF-16: convert it"):
        read(tmp_path, "a.txt")


def test_bad_utf8_in_a_parquet_column_spoils_its_row_alone(tmp_path: Path) -> None:
    column = pa.array([b"good", b"\xff\xfe", b"fine"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    rows = read(tmp_path, "a.parquet")
    assert values(rows) == [{"text": "good"}, {"text": "fine"}]
    assert [(row.line, row.reason) for row in rows if isinstance(row, Bad)] == [(2, "not UTF-8")]


def test_a_long_value_in_parquet_is_put_aside(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["x" * 20_000, "ok"]}), tmp_path / "a.parquet")
    rows = read(tmp_path, "a.parquet")
    assert isinstance(rows[0], Bad)
    assert rows[0].reason == "line too long"
    assert len(rows[0].excerpt) == 200


def test_fsspec_urls_are_read(tmp_path: Path) -> None:
    import fsspec

    for name in ("b", "a"):
        fsspec.filesystem("memory").pipe(f"/shelf/{name}.jsonl.gz", gzip.compress(JSONL))
    assert values(read(tmp_path, "memory://shelf/*.jsonl.gz")) == ROWS * 2
    write(tmp_path / "a.txt", b"there")
    assert values(read(tmp_path, f"file://{tmp_path}/a.txt")) == [{"text": "there"}]
    with pytest.raises(DataError, match=r"memory://shelf/c\.txt is not there"):
        read(tmp_path, "memory://shelf/c.txt")


def test_a_missing_driver_names_the_package(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dropbox:// needs another package\..*dropboxdrivefs"):
        read(tmp_path, "dropbox://a.txt")


def test_an_unknown_protocol_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nosuch://.*Protocol not known"):
        read(tmp_path, "nosuch://a.txt")


def test_passwords_in_urls_are_not_shown() -> None:
    from pipelines.adapters.source_files import shown

    assert shown("ftp://ann:secret@host/a@b.txt") == "ftp://host/a@b.txt"
    assert shown("a/b@c.txt") == "a/b@c.txt"


def test_tales_are_cut_at_the_limit_and_differ_by_split(tmp_path: Path) -> None:
    train = values(read(tmp_path, "tales://?stories=50&seed=3", limit=10))
    test = values(read(tmp_path, "tales://?stories=50&seed=3", split="test"))
    assert len(train) == 10
    assert len(test) == 50
    assert not {row["text"] for row in train} & {row["text"] for row in test}
    asked = values(read(tmp_path, "tales://?stories=5&seed=3", kind="instructions"))
    assert {"id", "task", "context", "prompt", "completion", "source", "gold"} == asked[0].keys()


@pytest.mark.parametrize(
    ("uri", "kind", "message"),
    [
        ("tales://?storys=5", "corpus", r"ingestion\.corpus\.train.*storys"),
        ("tales://", "preferences", "has no preferences"),
        ("hf://onlyname", "corpus", r"write hf://owner/name\[/config\]"),
        ("hf://a/b/c/d:train", "corpus", r"write hf://owner/name\[/config\]"),
    ],
)
def test_uris_of_wrong_form_are_errors_of_params(tmp_path: Path, uri: str, kind: str, message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        read(tmp_path, uri, kind=kind)


def test_a_hub_dataset_while_offline_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match=r"the dataset owner/some cannot be opened.*below ingestion\.root"):
        read(tmp_path, "hf://owner/some/config@main:train")


def test_a_hub_dataset_is_streamed_with_its_config_revision_and_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    from pipelines.adapters import hub

    asked: list[Any] = []

    def load(*args: Any, **kwargs: Any) -> list[dict[str, str]]:
        asked.append((args, kwargs))
        return [{"text": "a"}, {"text": "b"}]

    monkeypatch.setattr(hub, "_reachable", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset", load)
    assert values(read(tmp_path, "hf://owner/some/plain@v1.2:train")) == [{"text": "a"}, {"text": "b"}]
    assert values(read(tmp_path, "hf://owner/some", split="valid")) == [{"text": "a"}, {"text": "b"}]
    assert asked == [
        (("owner/some", "plain"), {"split": "train", "revision": "v1.2", "streaming": True}),
        (("owner/some", None), {"split": "validation", "revision": None, "streaming": True}),
    ]


def test_a_file_that_goes_away_while_it_is_read_is_named(tmp_path: Path) -> None:
    write(tmp_path / "gone/a.txt", b"text")
    (item,) = sources.resolve(Source(uri="gone/a.txt"), "corpus", "train", tmp_path, 1000)
    shutil.rmtree(tmp_path / "gone")
    with pytest.raises(DataError, match=r"gone/a\.txt cannot be read"):
        list(item.rows())

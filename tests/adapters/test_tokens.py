import errno

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines.adapters import files, tokens
from pipelines.errors import ArtifactError


def write(folder, runs, shard_tokens=10, dtype="uint16"):
    folder.mkdir(exist_ok=True)
    encoded = [tokens.Encoded(ids=np.array(run), num_bytes=3 * len(run), num_documents=1) for run in runs]
    splits = {"train": tokens.write_split(folder, "train", encoded, dtype=dtype, shard_tokens=shard_tokens)}
    files.write_json(folder / "index.json", {"dtype": dtype, "eos": 1, "vocab_size": 100_000, "splits": splits})
    return folder


@given(
    runs=st.lists(st.lists(st.integers(0, 2**16 - 1), min_size=1, max_size=25), max_size=6),
    shard_tokens=st.integers(1, 30),
    span=st.tuples(st.integers(0, 160), st.integers(0, 160)),
)
@example(runs=[[1, 2, 3, 4, 5]], shard_tokens=30, span=(4, 2))
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read_across_shards(tmp_path_factory, runs, shard_tokens, span):
    folder = write(tmp_path_factory.mktemp("tokens"), runs, shard_tokens)
    row = tokens.TokenStore.open(folder).split("train")
    wanted = [number for run in runs for number in run]
    assert len(row) == len(wanted)
    assert row[slice(*span)].tolist() == wanted[slice(*span)]
    assert row[:].tolist() == wanted
    assert (row.num_bytes, row.num_documents) == (3 * len(wanted), len(runs))


def test_the_tokens_of_all_splits_are_counted_by_the_index_alone(tmp_path):
    folder = write(tmp_path / "t", [range(25)])
    for shard in folder.glob("*.bin"):
        shard.unlink()
    assert tokens.count(folder) == 25
    (folder / "index.json").write_text('{"splits": ', encoding="utf-8")
    assert tokens.count(folder) is None
    assert tokens.count(tmp_path / "nowhere") is None


def test_shards_are_full_but_the_last(tmp_path):
    write(tmp_path / "t", [range(25)], shard_tokens=10)
    sizes = {file.name: file.stat().st_size for file in sorted((tmp_path / "t").glob("*.bin"))}
    assert sizes == {"corpus.train.000.bin": 20, "corpus.train.001.bin": 20, "corpus.train.002.bin": 10}


def test_a_read_is_a_copy_and_the_file_stays_as_it_is(tmp_path):
    row = tokens.TokenStore.open(write(tmp_path / "t", [range(5)])).split("train")
    row[0:5][0] = 9
    assert row[0:1].tolist() == [0]


@pytest.mark.parametrize(("vocab_size", "dtype"), [(2048, "uint16"), (65_536, "uint16"), (65_537, "uint32")])
def test_ids_take_as_few_bytes_as_hold_them(vocab_size, dtype):
    assert tokens.dtype_for(vocab_size) == dtype


def test_large_ids_survive_in_four_bytes(tmp_path):
    row = tokens.TokenStore.open(write(tmp_path / "t", [[70_000, 1]], dtype="uint32")).split("train")
    assert row[:].tolist() == [70_000, 1]


def test_a_torn_shard_is_named_with_both_sizes(tmp_path):
    folder = write(tmp_path / "t", [range(8)])
    file = folder / "corpus.train.000.bin"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(ArtifactError, match=r"corpus\.train\.000\.bin has 13 bytes, not the 16 of its index: remove"):
        tokens.TokenStore.open(folder)


def test_a_missing_shard_is_named(tmp_path):
    folder = write(tmp_path / "t", [range(25)])
    (folder / "corpus.train.001.bin").unlink()
    with pytest.raises(ArtifactError, match=r"corpus\.train\.001\.bin is missing"):
        tokens.TokenStore.open(folder)


def test_an_index_that_does_not_add_up_is_refused(tmp_path):
    folder = write(tmp_path / "t", [range(8)])
    index = files.read_json(folder / "index.json")
    index["splits"]["train"]["tokens"] = 9
    files.write_json(folder / "index.json", index)
    with pytest.raises(ArtifactError, match="do not add up"):
        tokens.TokenStore.open(folder)


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"eos": 1, "vocab_size": 2, "dtype": "uint16", "splits": {"train": {}}}']
)
def test_an_index_without_its_keys_is_refused(tmp_path, text):
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"index\.json lacks"):
        tokens.TokenStore.open(tmp_path)


def test_a_missing_folder_says_how_to_make_it(tmp_path):
    with pytest.raises(ArtifactError, match="moteur run"):
        tokens.TokenStore.open(tmp_path / "none")


def test_a_shard_that_has_been_cut_since_is_not_read_as_if_it_were_whole(tmp_path):
    folder = write(tmp_path / "t", [range(8)])
    row = tokens.TokenStore.open(folder).split("train")
    with (folder / "corpus.train.000.bin").open("r+b") as file:
        file.truncate(10)
    assert row[0:5].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ArtifactError, match=r"corpus\.train\.000\.bin ends before id 6: run tokenization again"):
        row[4:6]


def test_an_id_that_the_vocabulary_does_not_have_is_named(tmp_path):
    folder = write(tmp_path / "t", [[3, 100_000, 7]], dtype="uint32")
    row = tokens.TokenStore.open(folder).split("train")
    assert row[2:3].tolist() == [7]
    with pytest.raises(
        ArtifactError, match=r"train\.000\.bin holds id 100,000, .* the 100,000 entries .*: remove .*tion again"
    ):
        row[0:2]


def test_a_full_disk_is_told_as_what_it_is(tmp_path):
    (tmp_path / "corpus.train.000.bin").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as refused:
        write(tmp_path, [[1, 2, 3]])
    assert refused.value.errno == errno.ENOSPC

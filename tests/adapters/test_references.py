"""The reference sample of a release: held-out, one document a story, and exactly what was written."""

import numpy as np
import pytest

from pipelines.adapters import datasets, files, reader, references, release
from pipelines.core.drift.sample import PERPLEXITY
from pipelines.core.learning import reading
from pipelines.errors import ArtifactError
from tests.fixtures import corpus_records, tiny_model, tiny_tokenizer, write_records


@pytest.fixture(scope="module")
def texts():
    return [record["text"] for record in corpus_records(30)]


@pytest.fixture(scope="module")
def folder(texts, tmp_path_factory):
    tokenizer = tiny_tokenizer(texts)
    place = tmp_path_factory.mktemp("reader") / "release"
    release.save_quantised(tiny_model(tokenizer), tokenizer, place)
    return place


def test_the_process_reads_as_the_model_does_and_its_caller_needs_no_torch(folder, texts):
    sample = reader.read(folder, texts, threads=1)
    here = reading.read(*release.load(folder), texts)
    assert sample.tokens.tolist() == here.tokens.tolist()
    assert sample.columns[PERPLEXITY] == pytest.approx(here.nats_per_byte, abs=1e-5)
    assert sample.embeddings == pytest.approx(here.embeddings, rel=1e-2, abs=1e-2)
    assert sample.columns["words"].tolist() == [len(text.split()) for text in texts]
    references.write(folder, {"corpus": sample})
    kept = references.read(folder, "corpus")
    assert kept.texts == tuple(texts)
    assert all((kept.columns[name] == values).all() for name, values in sample.columns.items())
    assert (kept.embeddings == sample.embeddings).all()


def test_a_model_that_cannot_be_loaded_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"cannot read documents \(code 4\): .*is not a model folder"):
        reader.read(tmp_path / "nothing", ["a"])


def test_only_held_out_documents_are_drawn_and_one_of_each_story(tmp_path):
    write_records(tmp_path, stories=40)
    seen = {record["text"] for record in datasets.records(tmp_path, "corpus", "train")}
    held = [record for split in ("valid", "test") for record in datasets.records(tmp_path, "corpus", split)]
    drawn = references.texts(tmp_path, "corpus", 1000)
    assert len(drawn) == len({record["text"] for record in held})
    assert set(drawn) == {record["text"] for record in held}
    asked = references.texts(tmp_path, "requests", 1000)
    contexts = [text.split("\n\n")[0] for text in asked]
    assert len(set(contexts)) == len(contexts) > 5
    assert len(seen) > len(drawn)


def test_the_draw_depends_on_the_documents_alone_and_a_smaller_one_is_its_beginning(tmp_path):
    write_records(tmp_path, stories=40)
    assert references.texts(tmp_path, "corpus", 5) == references.texts(tmp_path, "corpus", 1000)[:5]


def test_a_release_without_a_reference_says_how_to_make_one(tmp_path):
    with pytest.raises(ArtifactError, match=r"Set it to 1000 in params\.yaml and run deployment again"):
        references.read(tmp_path, "corpus")


def test_a_torn_reference_is_named(tmp_path):
    reader.save_arrays(tmp_path / references.FILE, {"corpus.tokens": np.arange(3), "corpus.offsets": np.array([0, 2])})
    with pytest.raises(ArtifactError, match="is torn"):
        references.read(tmp_path, "corpus")
    with pytest.raises(ArtifactError, match="no documents of kind 'requests'"):
        references.read(tmp_path, "requests")
    (tmp_path / references.FILE).write_bytes(b"{")
    with pytest.raises(ArtifactError, match=r"sample\.safetensors cannot be read"):
        references.read(tmp_path, "corpus")


def test_the_same_arrays_give_the_same_bytes(tmp_path):
    arrays = {"b": np.arange(5, dtype=np.int64), "a": np.ones((2, 2), dtype=np.float16)}
    for name in ("one", "two"):
        reader.save_arrays(tmp_path / name, arrays)
    assert files.sha256(tmp_path / "one") == files.sha256(tmp_path / "two")


def test_a_text_that_much_is_asked_about_is_drawn_as_often_as_one_with_a_single_question(tmp_path):
    """A reference full of stories with many questions would make everyday traffic look like drift."""
    base = {"task": "qa", "completion": "yes", "source": "here", "gold": None}
    rows = [
        {**base, "id": f"{story}-{number}", "context": f"story {story}", "prompt": f"question {number}"}
        for story in range(400)
        for number in range(8 if story % 2 else 1)
    ]
    for split in ("valid", "test"):
        files.write_jsonl(datasets.file(tmp_path, "instructions", split), rows if split == "test" else [])
    asked = references.texts(tmp_path, "requests", 100)
    much = sum(int(text.split()[1]) % 2 for text in asked)
    assert len(asked) == 100
    assert 35 <= much <= 65

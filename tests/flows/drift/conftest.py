"""A release with a reference, a workspace, and a quick way to read documents."""

import pytest
import yaml

from pipelines.adapters import reader, references, release
from tests.fixtures import tiny_model, tiny_tokenizer
from tests.flows.drift.documents import DRIFT, texts
from tests.flows.examples import ROOT


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A release whose reference was read by the model in it."""
    place = tmp_path_factory.mktemp("monitoring") / "release"
    tokenizer = tiny_tokenizer(texts(60, 1))
    release.save_quantised(tiny_model(tokenizer), tokenizer, place)
    normal = reader.read(place, texts(150, 2), threads=1)
    references.write(place, {"corpus": normal, "requests": normal})
    release.write_manifest(place, format=1, name="tiny", weights="int8")
    return place


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["drift"] |= DRIFT
    values["threads"] = 1
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def quick(monkeypatch, folder):
    """Read in this process, with a model that is loaded once; tests/adapters/test_references.py covers the process."""
    from pipelines.adapters.reader import LARGEST_HALF, PERPLEXITY, Sample, descriptors
    from pipelines.core.learning import reading

    model, tokenizer = release.load(folder)

    def read(_folder, given, *, threads=None):
        done = reading.read(model, tokenizer, given)
        return Sample(
            tokens=done.tokens,
            offsets=done.offsets,
            embeddings=done.embeddings.clip(-LARGEST_HALF, LARGEST_HALF).astype("float16"),
            columns={
                **descriptors(given),
                "bytes_per_token": done.bytes_per_token,
                PERPLEXITY: done.nats_per_byte,
            },
        )

    monkeypatch.setattr(reader, "read", read)

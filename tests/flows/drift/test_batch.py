"""Batches as documents: drawn as the reference is, cut as a whole, faults named."""

import pytest

from flows.drift import batch
from pipelines import stage
from pipelines.adapters import datasets, files, references
from pipelines.errors import MoteurError
from tests.flows.drift.documents import texts, write_batch
from tests.flows.examples import ROOT


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("tales://?season=moon", "--data: season is 'moon'"),
        ("/nowhere.jsonl", r"nowhere\.jsonl is not there below / \(--data\)"),
        ("/nowhere*.jsonl", r"nowhere\*\.jsonl matches no file below / \(--data\)"),
    ],
)
def test_what_is_wrong_with_a_batch_is_said_of_the_option_and_not_of_params(uri, said):
    with pytest.raises(MoteurError, match=said) as caught:
        batch.read(uri, "corpus", stage.load_params(ROOT / "params.yaml").ingestion)
    assert "ingestion" not in str(caught.value)


def test_a_batch_of_many_files_is_cut_as_a_whole_and_says_so(workspace, monkeypatch):
    for number in range(3):
        write_batch(workspace / f"part-{number}.jsonl", texts(4, number))
    settings = stage.load_params().ingestion
    glob = str(workspace / "part-*.jsonl")
    monkeypatch.setattr(batch, "MOST_READ", 6)
    cut = batch.read(glob, "corpus", settings)
    assert (cut.name, len(cut.texts)) == (f"the first 6 rows of {glob}", 6)
    monkeypatch.setattr(batch, "MOST_READ", 12)
    whole = batch.read(glob, "corpus", settings)
    assert (whole.name, len(whole.texts)) == (glob, 12)


def test_a_batch_of_instructions_is_drawn_as_the_reference_is(tmp_path):
    """The first question about each text is often of one kind, which alone would look like drift."""
    base = {"task": "qa", "completion": "yes", "source": "here", "gold": None}
    rows = [
        {**base, "id": f"{story}-{number}", "context": f"story {story}", "prompt": f"question {number}"}
        for story in range(60)
        for number in range(1 + story % 4)
    ]
    files.write_jsonl(tmp_path / "asked.jsonl", rows)
    for split in ("valid", "test"):
        files.write_jsonl(datasets.file(tmp_path, "instructions", split), rows if split == "test" else [])
    found = batch.read(str(tmp_path / "asked.jsonl"), "requests", stage.load_params(ROOT / "params.yaml").ingestion)
    assert sorted(found.texts) == sorted(references.texts(tmp_path, "requests", 1000))
    assert any("question 0" not in text for text in found.texts)

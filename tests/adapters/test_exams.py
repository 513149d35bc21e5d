"""Exams: drawn the same from the same data, kept in a file, sat in a process of its own."""

import math

import pytest

from pipelines.adapters import examiner, exams, files, release, sandbox
from pipelines.errors import ArtifactError, DataError
from tests import fixtures, releases

ROOM = sandbox.Room(timeout_seconds=120, memory_mib=12288, threads=1, timeout_key="a.time", memory_key="a.memory")


@pytest.fixture
def validated(tmp_path):
    fixtures.write_records(tmp_path / "validated", stories=60)
    return tmp_path / "validated"


def draw(validated, name="exam.jsonl", **changes):
    wanted = {"examples_per_task": 5, "documents": 6, **changes}
    return exams.draw(validated, validated.parent / name, **wanted)


def test_the_same_data_give_the_same_exam_and_a_smaller_one_is_part_of_it(validated):
    one, again, small = draw(validated), draw(validated, "again.jsonl"), draw(validated, "small.jsonl", documents=3)
    assert one.exam.sha256 == again.exam.sha256
    assert set(small.exam.documents) < set(one.exam.documents)
    assert sum(one.exam.tasks.values()) == 10


def test_short_answers_are_matched_exactly_and_long_ones_by_overlap(validated):
    metrics = {(line["task"], line["metric"]) for line in draw(validated).instructions}
    assert metrics == {("question_answering", "exact_match"), ("summarisation", "rouge_l")}


def test_questions_about_one_text_name_it_alike(validated):
    paper = draw(validated, examples_per_task=500)
    texts = {question.text for question in paper.exam.questions}
    assert len(paper.exam.questions) == 45
    assert len(texts) == 15


def test_the_sizes_of_documents_are_bytes(validated):
    paper = draw(validated)
    assert paper.exam.documents == {line["id"]: len(line["document"].encode()) for line in paper.documents}


def test_data_without_a_test_split_have_no_exam(validated):
    files.write_jsonl(validated / "corpus.test.jsonl", [])
    with pytest.raises(DataError, match=r"0 test documents. Give ingestion\.instructions\.test"):
        draw(validated)


@pytest.mark.parametrize("line", ['{"id": "x", "task": "y"}', '{"id": "d", "document": 3}'])
def test_a_file_of_another_kind_is_no_exam(tmp_path, line):
    (tmp_path / "exam.jsonl").write_text(line + "\n")
    with pytest.raises(ArtifactError, match="is no exam"):
        exams.load(tmp_path / "exam.jsonl")


def test_an_exam_that_asks_twice_is_refused(tmp_path):
    line = '{"id": "d", "document": "three"}\n'
    (tmp_path / "exam.jsonl").write_text(line * 2)
    with pytest.raises(ArtifactError, match="asks something twice"):
        exams.load(tmp_path / "exam.jsonl")


@pytest.fixture(scope="module")
def uniform():
    """A model that finds every token equally likely, and its tokenizer."""
    tokenizer = fixtures.tiny_tokenizer([record["text"] for record in fixtures.corpus_records(20)])
    model = fixtures.tiny_model(tokenizer, context=64)
    model.get_input_embeddings().weight.data.zero_()
    return model, tokenizer


@pytest.mark.parametrize("words", [1, 30, 400])
def test_the_likelihood_of_a_document_counts_every_token_and_its_end_once(uniform, words):
    model, tokenizer = uniform
    text = "kite " * words
    tokens = len(tokenizer(text, add_special_tokens=False)["input_ids"]) + 1
    assert examiner._nats(model, tokenizer, text) == pytest.approx(tokens * math.log(len(tokenizer)), rel=1e-4)


def test_a_prompt_without_room_for_an_answer_scores_nothing(uniform):
    model, tokenizer = uniform
    line = {"id": "a", "metric": "exact_match", "prompt": "kite " * 100, "references": [""]}
    assert examiner._scores(model, tokenizer, [line], 8) == {"a": 0.0}


def test_a_release_sits_its_exam_in_a_process_of_its_own(validated, tmp_path):
    folder = releases.real(tmp_path / "release", seed=0)
    found = examiner.examine(
        folder, draw(validated), prompts=["Who?", "Where?"], requests=3, max_new_tokens=4, room=ROOM
    )
    assert found.marks.manifest_sha256 == files.sha256(folder / release.MANIFEST)
    assert set(found.marks.scores) == {line["id"] for line in draw(validated).instructions}
    assert all(value > 0 for value in found.marks.nats.values())
    assert len(found.service.request_seconds) == 3
    assert found.service.peak_memory_mib > 50


def test_a_release_whose_weights_lie_is_refused_before_they_are_mapped(validated, tmp_path):
    folder = releases.small(tmp_path / "release", "x")
    (folder / release.WEIGHTS).write_bytes(releases.safetensors(b"{}", b"more"))
    release.write_manifest(folder, name="x")
    with pytest.raises(ArtifactError, match=r"failed in the sandbox: .* is no sound safetensors file"):
        examiner.examine(folder, draw(validated), prompts=["Who?"], requests=1, max_new_tokens=4, room=ROOM)

"""The stage compression on a tiny policy."""

import dataclasses

import numpy as np
import pytest
import torch

from pipelines import compression
from pipelines.adapters import files, models, release, tokens
from pipelines.adapters.tracking import NullTracker
from pipelines.artifacts import Artifact
from pipelines.errors import ArtifactError, DataError
from tests import learning
from tests.fixtures import corpus_records, instruction_records, tiny_model, tiny_tokenizer, write_records

SMALL = {
    "sparsities": [0.5],
    "calibration_tokens": 256,
    "student": {"max_tokens": 1024, "learning_rate": 0.003, "temperature": 2.0},
    "examples_per_task": 4,
    "max_new_tokens": 8,
}


def write_tokens(tokenizer):
    folder = Artifact.TOKENS.path
    folder.mkdir(parents=True)
    splits = {}
    for number, split in enumerate(("train", "valid", "test")):
        texts = [record["text"] for record in corpus_records(60 if split == "train" else 15, seed=number)]
        ids = [token for text in texts for token in [*tokenizer.encode(text), tokenizer.eos_token_id]]
        run = tokens.Encoded(
            ids=np.array(ids, dtype=np.uint16),
            num_bytes=sum(len(text.encode()) for text in texts),
            num_documents=len(texts),
        )
        splits[split] = tokens.write_split(folder, split, [run], dtype="uint16", shard_tokens=100_000)
    index = {"eos": tokenizer.eos_token_id, "vocab_size": len(tokenizer), "dtype": "uint16", "splits": splits}
    files.write_json(folder / tokens.INDEX, index)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = [record["text"] for record in corpus_records(60)] + [
        f"{record['prompt']} {record['completion']}" for record in instruction_records(10)
    ]
    tokenizer = tiny_tokenizer(texts)
    write_records(Artifact.VALIDATED.path, stories=24)
    write_tokens(tokenizer)
    models.save(tiny_model(tokenizer), tokenizer, Artifact.POLICY.path)
    return tmp_path


def params(**changes):
    rule = {
        "max_bytes_ratio": 0.5,
        "max_bits_per_byte_increase": 0.05,
        "max_task_score_drop": 1.0,
        "max_worst_task_drop": 1.0,
    }
    values = learning.params(compression={**SMALL, "rule": rule, **changes})
    return values.model_copy(update={"pretraining": values.pretraining.model_copy(update={"context": 32})})


def row(report, name):
    return next(one for one in report.candidates if one.name == name)


def test_the_table_is_complete_and_the_chosen_model_is_what_was_measured(workspace):
    report = compression.main(params(), NullTracker())
    assert [one.name for one in report.candidates] == [
        "float32",
        "bfloat16",
        "int8",
        "int8 linear",
        "magnitude 0.5",
        "wanda 0.5",
        "student",
        "student int8",
    ]
    assert len(report.candidates) == params().compression.num_candidates
    assert report.not_made == []
    chosen = row(report, report.chosen)
    assert report.rule_met
    assert chosen.breaks == []
    assert chosen.bytes == min(one.bytes for one in report.candidates if not one.breaks)
    assert release.weight_bytes(Artifact.COMPRESSED.path) == chosen.bytes == report.bytes
    loaded, tokenizer = release.load(Artifact.COMPRESSED.path)
    assert loaded.num_parameters() == chosen.num_parameters
    assert tokenizer.chat_template
    assert sorted(path.name for path in Artifact.COMPRESSED.path.parent.iterdir()) == ["compressed", "policy"]


def test_the_columns_of_the_table_agree_with_one_another(workspace):
    report = compression.main(params(), NullTracker())
    whole = row(report, "float32")
    assert whole.same_answers == 1.0
    assert whole.bytes_ratio == 1.0
    assert whole.bits_per_byte_increase == 0.0
    assert row(report, "bfloat16").bytes < 0.6 * whole.bytes
    assert row(report, "int8").bytes < row(report, "int8 linear").bytes < row(report, "bfloat16").bytes
    assert row(report, "int8").bits_per_byte == pytest.approx(whole.bits_per_byte, rel=0.01)
    for name in ("magnitude 0.5", "wanda 0.5"):
        assert row(report, name).nonzero_share < 0.95
        assert row(report, name).sparse_bytes < row(report, name).bytes
    assert row(report, "student").num_parameters < whole.num_parameters
    assert set(whole.task_scores) == {"question_answering", "summarisation"}
    assert report.student_tokens == 1024


def test_two_runs_give_the_same_report_and_the_same_bytes(workspace):
    first = compression.main(params(), NullTracker())
    digest = files.sha256(Artifact.COMPRESSED.path)
    second = compression.main(params(), NullTracker())
    assert dataclasses.asdict(first) == dataclasses.asdict(second)
    assert files.sha256(Artifact.COMPRESSED.path) == digest


def test_when_no_candidate_is_small_enough_quality_is_kept_and_the_report_says_so(workspace):
    rule = {
        "max_bytes_ratio": 0.01,
        "max_bits_per_byte_increase": 0.0,
        "max_task_score_drop": 0.0,
        "max_worst_task_drop": 0.0,
    }
    report = compression.main(params(rule=rule), NullTracker())
    assert not report.rule_met
    assert set(row(report, report.chosen).breaks) == {"max_bytes_ratio"}
    assert release.weight_bytes(Artifact.COMPRESSED.path) == report.bytes


def test_a_policy_of_one_layer_has_no_student(workspace):
    tokenizer = models.load_tokenizer(Artifact.POLICY.path)
    models.save(tiny_model(tokenizer, num_layers=1), tokenizer, Artifact.POLICY.path)
    report = compression.main(params(), NullTracker())
    assert not [one.name for one in report.candidates if one.name.startswith("student")]
    assert report.student_tokens == 0


def test_of_a_gpt2_no_layer_is_said_to_be_in_eight_bits(workspace):
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = models.load_tokenizer(Artifact.POLICY.path)
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=256, n_embd=32, n_layer=1, n_head=2, **ends)
    models.save(GPT2LMHeadModel(config), tokenizer, Artifact.POLICY.path)
    report = compression.main(params(), NullTracker())
    assert [one.name for one in report.candidates] == ["float32", "bfloat16", "int8", "magnitude 0.5", "wanda 0.5"]
    assert report.not_made == [
        "int8 linear: the model has no linear layer that can be stored in eight bits, so this would be bfloat16."
    ]
    assert row(report, "int8").format == "int8, Conv1D bfloat16"
    assert row(report, "int8").bits_per_byte == pytest.approx(row(report, "float32").bits_per_byte, rel=0.02)
    assert row(report, "wanda 0.5").nonzero_share < 0.85


def test_a_policy_with_broken_weights_is_refused_at_once(workspace):
    tokenizer = models.load_tokenizer(Artifact.POLICY.path)
    model = tiny_model(tokenizer)
    model.model.norm.weight.data[0] = torch.nan
    models.save(model, tokenizer, Artifact.POLICY.path)
    with pytest.raises(ArtifactError, match=r"not finite numbers \(model\.norm\.weight.*ppo\.learning_rate"):
        compression.main(params(), NullTracker())


def test_without_instructions_nothing_can_be_compared_and_nothing_is_left_behind(workspace):
    files.write_jsonl(Artifact.VALIDATED.path / "instructions.valid.jsonl", [])
    with pytest.raises(DataError, match=r"0 usable instructions in the split valid"):
        compression.main(params(), NullTracker())
    assert not Artifact.COMPRESSED.path.exists()


def test_instructions_that_leave_no_room_for_an_answer_are_left_out_and_counted(workspace):
    long = {**instruction_records(1)[0], "id": "long", "context": "ball " * 400}
    path = Artifact.VALIDATED.path / "instructions.valid.jsonl"
    files.write_jsonl(path, [long, *instruction_records(2)])
    report = compression.main(params(examples_per_task=100), NullTracker())
    assert report.num_left_out == 1
    assert report.num_instructions == 6

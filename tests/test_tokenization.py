"""Tokenization: the tokenizer, the shards and what is audited before anything is trained on them."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from pipelines import tokenization
from pipelines.adapters import datasets, files, models
from pipelines.adapters.tokens import TokenStore
from pipelines.adapters.tracking import NullTracker
from pipelines.artifacts import Artifact
from pipelines.core.text import bpe
from pipelines.errors import ArtifactError, DataError
from tests import fixtures
from tests.learning import params

THEIR_END = "</s>"
SETTINGS = {"vocab_size": 400, "audit_samples": 20, "shard_tokens": 500}


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fixtures.write_records(Artifact.VALIDATED.path, stories=60)
    return tmp_path


def run(**settings):
    return tokenization.main(params(tokenization={**SETTINGS, **settings}), NullTracker())


def corpus(split="train"):
    return [record["text"] for record in datasets.records(Artifact.VALIDATED.path, "corpus", split)]


def add(kind, split, **fields):
    file = datasets.file(Artifact.VALIDATED.path, kind, split)
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(fields) + "\n")


def foreign_tokenizer():
    """One with an end token of its own, no padding and no chat template."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers import models as algorithms
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(algorithms.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=[THEIR_END], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(corpus(), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=THEIR_END)


def test_the_shards_decode_to_the_corpus_with_an_end_after_each_document(workspace):
    report = run()
    tokenizer = models.load_tokenizer(Artifact.TOKENIZER.path)
    store = TokenStore.open(Artifact.TOKENS.path)
    for split in datasets.SPLITS:
        row = store.split(split)
        assert tokenizer.decode(row[:].tolist()) == "".join(text + "<|endoftext|>" for text in corpus(split))
        assert row.num_bytes == sum(len(text.encode()) for text in corpus(split))
        assert row.num_documents == len(corpus(split))
    assert (store.eos, store.vocab_size) == (tokenizer.eos_token_id, len(tokenizer))
    assert len(list(Artifact.TOKENS.path.glob("corpus.train.*.bin"))) == -(-report.num_tokens // 500) > 1


def test_the_report_says_what_was_made(workspace):
    report = run()
    valid = TokenStore.open(Artifact.TOKENS.path).split("valid")
    assert report.bytes_per_token == pytest.approx(valid.num_bytes / len(valid))
    assert (report.round_trip_errors, report.mask_audit_errors) == (0, 0)
    assert report.audited_texts == 15 + 2 * 20
    assert report.audited_conversations > 20
    assert report.num_documents == 60


def test_a_text_with_few_pairs_gives_fewer_entries_than_asked(workspace):
    report = run(vocab_size=3000)
    assert 264 < report.vocab_size < 3000
    assert report.vocab_size == TokenStore.open(Artifact.TOKENS.path).vocab_size


def test_every_byte_has_a_token_and_none_is_unknown(workspace):
    run()
    tokenizer = models.load_tokenizer(Artifact.TOKENIZER.path)
    for text in ("\x00\x7f", "ÿþ", "日本語", "🎈", "\r\n\t "):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.unk_token is None


def test_special_tokens_spelled_in_documents_are_text_and_are_counted(workspace):
    add("corpus", "train", id="x", text="He wrote <|endoftext|> and <|user|> on the wall.", source="s")
    report = run()
    assert report.num_special_token_strings == 1
    row = TokenStore.open(Artifact.TOKENS.path).split("train")[:]
    assert int((row == 1).sum()) == report.num_documents
    assert not (row == 2).any()


def test_the_tokenizer_is_trained_on_about_as_many_bytes_as_allowed(workspace):
    texts = list(tokenization.training_texts(Artifact.VALIDATED.path, 3000))
    everything = list(tokenization.training_texts(Artifact.VALIDATED.path, 10**9))
    assert 2000 < sum(len(text.encode()) for text in texts) <= 3000
    assert len(everything) == 60 + 60
    positions = [everything.index(text) for text in texts]
    assert positions[-1] > 100
    assert max(b - a for a, b in pairwise(positions)) < 15


def test_a_tokenizer_that_loses_text_stops_the_stage_with_three_examples(workspace, monkeypatch):
    from tokenizers import normalizers

    trained = bpe.train

    def careless(*arguments):
        made = trained(*arguments)
        made.backend_tokenizer.normalizer = normalizers.Lowercase()
        return made

    monkeypatch.setattr(bpe, "train", careless)
    with pytest.raises(ArtifactError, match=r"round_trip_errors finds .* models must not be trained on them") as caught:
        run()
    assert str(caught.value).count("comes back as") == 3
    assert not Artifact.TOKENS.path.exists()


def test_no_training_text_is_an_error_that_names_the_key(workspace):
    for kind in ("corpus", "instructions"):
        files.write_jsonl(datasets.file(Artifact.VALIDATED.path, kind, "train"), [])
    with pytest.raises(DataError, match=r"holds no training text: add a source to ingestion\.corpus\.train"):
        run()


@pytest.mark.parametrize("limit", [1, 10])
def test_a_limit_that_holds_no_text_is_told_by_its_key(workspace, limit):
    with pytest.raises(DataError, match=rf"tokenization\.max_training_bytes is {limit}, .* raise it in params\.yaml"):
        run(max_training_bytes=limit)


def test_a_corpus_without_instructions_is_enough(workspace):
    for split in datasets.SPLITS:
        files.write_jsonl(datasets.file(Artifact.VALIDATED.path, "instructions", split), [])
    assert run().audited_conversations == 0


def test_a_given_tokenizer_is_taken_over_with_our_chat_template(workspace):
    given = foreign_tokenizer()
    given.save_pretrained("given")
    report = run(init="given")
    made = models.load_tokenizer(Artifact.TOKENIZER.path)
    kept = {token: number for token, number in made.get_vocab().items() if token in given.get_vocab()}
    assert kept == given.get_vocab()
    assert report.vocab_size == len(given) + 7
    assert made.apply_chat_template([{"role": "assistant", "content": "Hi </s>"}], tokenize=False) == (
        "<|assistant|> Hi < /s></s>"
    )
    assert (made.eos_token, made.pad_token) == ("</s>", "<|pad|>")
    assert TokenStore.open(Artifact.TOKENS.path).eos == given.eos_token_id
    assert report.mask_audit_errors == 0


def test_a_given_tokenizer_that_is_nowhere_names_the_key(workspace, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match=r"tokenization\.init is 'no/such'"):
        run(init="no/such")


def test_the_same_text_gives_the_same_bytes_on_one_thread_and_on_four(workspace, tmp_path):
    digests = set()
    for threads in ("1", "4"):
        folder = tmp_path / f"on-{threads}"
        folder.mkdir()
        (folder / "data").symlink_to(tmp_path / "data")
        code = (
            "from pipelines import tokenization; from pipelines.adapters import files; import sys, pathlib;"
            "from pipelines.core.text import bpe;"
            "made = bpe.train(tokenization.training_texts(pathlib.Path('data/validated'), 10**9), 400);"
            "print(files.hashlib.sha256(made.backend_tokenizer.to_str().encode()).hexdigest())"
        )
        environment = {**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONPATH": str(Path(__file__).parents[1])}
        command = [sys.executable, "-c", code]
        digests.add(subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True).stdout)
    assert len(digests) == 1

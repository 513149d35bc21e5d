"""The size of the vocabulary before a run: counted where it can be, what is asked for elsewhere."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines import tokenization
from pipelines.adapters import files, vocabulary
from pipelines.artifacts import Artifact
from pipelines.core.text import bpe
from pipelines.params import Tokenization
from tests.learning import params

TEXTS = ["the hen sees the red hat", "a hat for the hen"]


def tokenized(root: Path, entries: int, **settings: Any) -> None:
    """A workspace in which tokenization has run with these settings."""
    files.write_json(root / Artifact.TOKENS / "index.json", {"vocab_size": entries})
    locked = params(tokenization=settings).tokenization.model_dump()
    lock = {"stages": {"tokenization": {"params": {"params.yaml": {"tokenization": locked}}}}}
    (root / "dvc.lock").write_text(yaml.safe_dump(lock), encoding="utf-8")


def test_before_tokenization_has_run_it_is_what_params_ask_for(tmp_path: Path) -> None:
    assert vocabulary.size(params(tokenization={"vocab_size": 777}), tmp_path) == 777


def test_entries_are_counted_where_tokenization_has_run_with_these_settings(tmp_path: Path) -> None:
    tokenized(tmp_path, 2937, vocab_size=16_384)
    assert vocabulary.size(params(tokenization={"vocab_size": 16_384}), tmp_path) == 2937
    assert vocabulary.size(params(tokenization={"vocab_size": 16_384, "shard_tokens": 99}), tmp_path) == 2937
    assert vocabulary.size(params(tokenization={"vocab_size": 2048}), tmp_path) == 2048


@pytest.mark.parametrize("torn", ["dvc.lock", "data/tokens/index.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", "stages: 3", "stages: [\n"])
def test_what_is_torn_or_missing_leaves_what_params_ask_for(tmp_path: Path, torn: str, text: str) -> None:
    tokenized(tmp_path, 300, vocab_size=512)
    (tmp_path / torn).write_text(text, encoding="utf-8")
    assert vocabulary.size(params(tokenization={"vocab_size": 512}), tmp_path) == 512
    (tmp_path / torn).unlink()
    assert vocabulary.size(params(tokenization={"vocab_size": 512}), tmp_path) == 512


def test_a_tokenizer_that_is_taken_over_is_counted_as_the_stage_will_have_it(tmp_path: Path) -> None:
    bpe.train(TEXTS, 300).save_pretrained(str(tmp_path / "theirs"))
    asked = params(tokenization={"init": str(tmp_path / "theirs"), "vocab_size": 4096})
    made = tokenization._tokenizer(asked.tokenization, tmp_path, None)  # type: ignore[arg-type]
    assert vocabulary.size(asked, tmp_path) == len(made)


@pytest.mark.parametrize("kind", ["WordPiece", "Unigram"])
def test_any_kind_of_tokenizer_is_counted_with_the_chat_tokens_that_it_lacks(tmp_path: Path, kind: str) -> None:
    from tokenizers import Tokenizer, models

    words = ["<unk>", "hen", "hat"]
    made = {
        "WordPiece": lambda: models.WordPiece({word: number for number, word in enumerate(words)}),
        "Unigram": lambda: models.Unigram([(word, -1.0) for word in words], unk_id=0),
    }[kind]()
    (tmp_path / "theirs").mkdir()
    Tokenizer(made).save(str(tmp_path / "theirs" / "tokenizer.json"))
    settings: Tokenization = params(tokenization={"init": "theirs"}).tokenization
    assert settings.init == "theirs"
    assert vocabulary.size(params(tokenization={"init": "theirs"}), tmp_path) == 3 + 7

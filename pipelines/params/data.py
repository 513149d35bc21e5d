"""What is learnt from: where records come from, the contract they must meet, and how text becomes tokens."""

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipelines.params.section import Positive, Section, Share


class Source(Section):
    """Where one set of records comes from."""

    uri: str
    """`tales://...`, a path or glob below `ingestion.root`, `hf://owner/name`, or any fsspec URL."""
    columns: dict[str, str] = {}
    """Field of our data contract -> column of the source, where the names differ."""
    constants: dict[str, str] = {}
    """Field of our data contract -> value for every record (a task name, a prompt)."""
    separator: str | None = None
    """Text files: the line that parts documents. None: a blank line parts them."""
    limit: Positive | None = None
    """Read at most this many records."""

    @model_validator(mode="after")
    def _stays_below_root(self) -> Self:
        path = PurePosixPath(self.uri)
        if "://" not in self.uri and (not self.uri or path.is_absolute() or ".." in path.parts):
            raise ValueError(
                f"the source {self.uri!r} is not below ingestion.root, so DVC would not see its changes: give a path"
                " relative to ingestion.root, or set ingestion.root to the folder that holds it"
            )
        return self


class Splits(Section):
    """Sources by split. An empty `valid` or `test` is drawn from `train` by hash, `held_out_share` each."""

    train: list[Source] = []
    valid: list[Source] = []
    test: list[Source] = []


class Ingestion(Section):
    """What is read."""

    root: str
    """Folder of local sources; a DVC dependency, so that changed data retrain."""
    corpus: Splits
    """Pretraining text: records {id, text, source}."""
    instructions: Splits
    """Instruction data: records {id, task, context, prompt, completion, source}."""
    preferences: Splits = Splits()
    """Preference pairs made elsewhere: records {id, prompt, chosen, rejected, source}."""
    held_out_share: Annotated[float, Field(ge=0, lt=0.5)]
    """Share of `train` that becomes a split without sources of its own."""
    max_bad_line_share: Share
    """The stage fails when a greater share of a source's lines cannot be read."""
    max_line_bytes: Positive
    """A longer line, or document of a text file, is quarantined unread (bytes)."""


class Expectation(Section):
    """One Great Expectations rule over the descriptor table of one kind of record."""

    records: Literal["corpus", "instructions", "preferences"]
    """Which table."""
    name: str
    """The expectation's class name, for instance ExpectColumnValuesToBeBetween."""
    arguments: dict[str, Any]
    """Its arguments, `mostly` included."""


class DataValidation(Section):
    """The contract that data must meet."""

    min_characters: Positive
    """Shorter documents are rejected."""
    max_characters: Positive
    """Longer documents are rejected."""
    near_duplicate_similarity: Annotated[float, Field(gt=0, le=1)]
    """Estimated Jaccard similarity of word 5-grams from which a document is a near duplicate."""
    max_control_character_share: Share
    """Documents with a greater share of control characters are rejected."""
    max_damaged_character_share: Share
    """Documents with a greater share of characters that show a wrong decoding (U+FFFD, "Ã©") are rejected."""
    personal_data: Literal["reject", "redact", "report"]
    """What happens to documents with an e-mail address, phone number or IBAN."""
    contamination_words: Positive
    """A training document that shares a run of this many words with evaluation data is rejected."""
    max_rejected_share: Share
    """The stage fails when a greater share of any kind of record is rejected."""
    expectations: list[Expectation]
    """The contract over the accepted records."""


class Tokenization(Section):
    """The tokenizer and the token shards."""

    init: str | None
    """None: train one. Otherwise a folder or hub id whose tokenizer is taken over (and given our chat template). DVC
    sees another name, and not another content of the folder: then `moteur run --from tokenization`."""
    vocab_size: Positive
    """Entries, special tokens and the 256 bytes included."""
    max_training_bytes: Positive
    """The tokenizer is trained on at most this many bytes of text (evenly drawn)."""
    shard_tokens: Positive
    """Tokens in one shard file."""
    audit_samples: Positive
    """Records whose round trip and loss mask are checked."""

    @model_validator(mode="after")
    def _holds_all_bytes(self) -> Self:
        if self.vocab_size < 256 + 8:
            raise ValueError(
                f"tokenization.vocab_size is {self.vocab_size}, but the 256 bytes and 8 special tokens need 264:"
                " raise tokenization.vocab_size in params.yaml"
            )
        return self

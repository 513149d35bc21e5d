"""Train the tokenizer and write token shards."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipelines import stage
from pipelines.adapters import datasets, files, models, tokens
from pipelines.adapters.tracking import Tracker
from pipelines.artifacts import Artifact
from pipelines.core.text import audits, bpe, chat, prompts
from pipelines.errors import ArtifactError, DataError
from pipelines.params import Params, Tokenization

if TYPE_CHECKING:
    from tokenizers import Encoding
    from transformers import PreTrainedTokenizerBase

CHUNK_BYTES = 1_000_000
"""Text that is encoded at once, on all cores."""
READ_BYTES = 1 << 18
EXAMPLES = 3

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


@dataclass(frozen=True, kw_only=True)
class TokenizationReport:
    """What the tokenizer became and how well it does."""

    vocab_size: int
    """Entries; fewer than asked where the text has no more pairs to join."""
    bytes_per_token: float
    """UTF-8 bytes of held-out text per token."""
    round_trip_errors: int
    """Audited texts that do not come back as they were."""
    mask_audit_errors: int
    """Audited conversations whose loss mask is not exactly what the assistant says."""
    audited_texts: int
    audited_conversations: int
    num_tokens: int
    """Of the training split."""
    num_valid_tokens: int
    num_test_tokens: int
    num_documents: int
    """Of the training split."""
    num_special_token_strings: int
    """Documents of all splits that spell a special token; it is encoded as plain text."""
    unused_entries: int
    """Entries that never occur in the training split."""


def main(params: Params, tracker: Tracker) -> TokenizationReport:
    """Train the tokenizer, encode the corpus, audit both."""
    if params.threads:
        os.environ["RAYON_NUM_THREADS"] = str(params.threads)
    settings = params.tokenization
    folder = Artifact.VALIDATED.path
    tokenizer = _tokenizer(settings, folder, tracker)
    round_trip, num_texts = _audit(
        audits.round_trip_errors, tokenizer, list(_held_out_texts(folder, settings.audit_samples))
    )
    mask, num_conversations = _audit(
        audits.mask_errors, tokenizer, list(_held_out_conversations(folder, settings.audit_samples))
    )
    with files.replacing(Artifact.TOKENIZER.path) as fresh:
        tokenizer.save_pretrained(str(fresh))
    shards = Shards(tokenizer, settings.shard_tokens)
    with files.replacing(Artifact.TOKENS.path) as fresh:
        shards.write(folder, fresh, tracker)
    valid = shards.splits["valid"]
    return TokenizationReport(
        vocab_size=len(tokenizer),
        bytes_per_token=valid["bytes"] / max(1, valid["tokens"]),
        round_trip_errors=round_trip,
        mask_audit_errors=mask,
        audited_texts=num_texts,
        audited_conversations=num_conversations,
        num_tokens=shards.splits["train"]["tokens"],
        num_valid_tokens=valid["tokens"],
        num_test_tokens=shards.splits["test"]["tokens"],
        num_documents=shards.splits["train"]["documents"],
        num_special_token_strings=shards.num_special_token_strings,
        unused_entries=shards.unused_entries,
    )


def _tokenizer(settings: Tokenization, folder: Path, tracker: Tracker) -> "PreTrainedTokenizerBase":
    if settings.init is not None:
        tokenizer = models.initial_tokenizer(settings.init, "tokenization.init")
        return _with_chat(tokenizer)
    texts = tracker.track(training_texts(folder, settings.max_training_bytes), "training the tokenizer", unit="texts")
    return _with_chat(bpe.train(texts, settings.vocab_size))


def _with_chat(tokenizer: "PreTrainedTokenizerBase") -> "PreTrainedTokenizerBase":
    if tokenizer.pad_token is None:
        tokenizer.add_special_tokens({"pad_token": chat.PAD})
    structure = [token for token in chat.SPECIAL_TOKENS if token not in (chat.PAD, chat.END)]
    tokenizer.add_special_tokens({"additional_special_tokens": structure})
    tokenizer.chat_template = chat.template(tokenizer.eos_token)
    tokenizer.clean_up_tokenization_spaces = False
    return tokenizer


def training_texts(folder: Path, max_bytes: int) -> Iterator[str]:
    """Corpus and instructions; where they are more than `max_bytes`, this much of them, evenly drawn.

    Raises:
        DataError: when there are none, or `max_bytes` do not hold one of them.
    """
    on_disk = sum(datasets.file(folder, kind, "train").stat().st_size for kind in ("corpus", "instructions"))
    held = on_disk if on_disk <= max_bytes else sum(len(text.encode()) for text in _texts(folder, "train"))
    share = min(1.0, max_bytes / max(1, held))
    taken = 0
    for index, text in enumerate(_texts(folder, "train")):
        if int((index + 1) * share) > int(index * share):
            size = len(text.encode())
            if taken + size > max_bytes:
                break
            taken += size
            yield text
    if not taken and held > max_bytes:
        raise DataError(
            f"tokenization.max_training_bytes is {max_bytes:,}, in which none of the texts evenly drawn from {folder}"
            f" ({held:,} bytes) fits: raise it in params.yaml."
        )
    if not taken:
        raise DataError(f"{folder} holds no training text: add a source to ingestion.corpus.train in params.yaml.")


def _texts(folder: Path, split: datasets.Split) -> Iterator[str]:
    for record in datasets.records(folder, "corpus", split):
        yield record["text"]
    for messages in prompts.conversations(datasets.records(folder, "instructions", split), max_turns=8):
        yield "\n".join(message["content"] for message in messages)


def _held_out_texts(folder: Path, count: int) -> Iterator[str]:
    yield from (record["text"] for record in islice(datasets.records(folder, "corpus", "valid"), count))
    for record in islice(datasets.records(folder, "instructions", "valid"), count):
        yield from (prompts.user_text(record.get("context", ""), record["prompt"]), record["completion"])


def _held_out_conversations(folder: Path, count: int) -> Iterator[list[prompts.Message]]:
    yield from map(prompts.single_turn, islice(datasets.records(folder, "instructions", "valid"), count))
    yield from prompts.conversations(islice(datasets.records(folder, "instructions", "valid"), count), max_turns=8)


def _audit(audit: Any, tokenizer: "PreTrainedTokenizerBase", cases: list[Any]) -> tuple[int, int]:
    errors = list(audit(tokenizer, cases))
    if errors:
        shown = "\n  ".join(errors[:EXAMPLES])
        raise ArtifactError(
            f"{audit.__name__} finds {len(errors)} faults in {len(cases)} cases; models must not be trained on them:\n"
            f"  {shown}\nTrain a tokenizer of our own (tokenization.init: null in params.yaml), or mend these texts."
        )
    return 0, len(cases)


class Shards:
    """Encodes the corpus into shards and counts what it sees."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", shard_tokens: int) -> None:
        import numpy as np

        self._encoder = tokenizer.backend_tokenizer
        self._encoder.encode_special_tokens = True
        self._encoder.no_padding()
        self._encoder.no_truncation()
        self._special = tuple(tokenizer.all_special_tokens)
        self._end = tokenizer.eos_token_id
        self._size = len(tokenizer)
        self._shard_tokens = shard_tokens
        self._used = np.zeros(self._size, dtype=bool)
        self.splits: dict[str, Any] = {}
        self.num_special_token_strings = 0

    @property
    def unused_entries(self) -> int:
        """Entries that never occur in the training split."""
        return int((~self._used).sum())

    def write(self, source: Path, folder: Path, tracker: Tracker) -> None:
        """Write the shards and the index of all splits."""
        folder.mkdir()
        dtype = tokens.dtype_for(self._size)
        for split in datasets.SPLITS:
            with tracker.progress(f"encoding {split}", None, "documents") as bar:
                self.splits[split] = tokens.write_split(
                    folder, split, self._runs(source, split, bar), dtype=dtype, shard_tokens=self._shard_tokens
                )
        index = {"dtype": dtype, "eos": self._end, "vocab_size": self._size, "splits": self.splits}
        files.write_json(folder / tokens.INDEX, index)

    def _runs(self, source: Path, split: datasets.Split, bar: Any) -> Iterator[tokens.Encoded]:
        import numpy as np

        batches = files.read_jsonl_batches(datasets.file(source, "corpus", split), READ_BYTES)
        texts = (record["text"] for _, records in batches for record in records)
        for chunk, num_bytes, found in _ahead(self._encode, _chunks(texts)):
            row = np.fromiter(chain.from_iterable((*encoding.ids, self._end) for encoding in found), dtype=np.uint32)
            self.num_special_token_strings += self._spelling_special(chunk)
            if split == "train":
                self._used[row] = True
            bar.advance(len(chunk))
            yield tokens.Encoded(ids=row, num_bytes=num_bytes, num_documents=len(chunk))

    def _encode(self, chunk: tuple[list[str], int]) -> "tuple[list[str], int, list[Encoding]]":
        return *chunk, self._encoder.encode_batch_fast(chunk[0], add_special_tokens=False)

    def _spelling_special(self, texts: list[str]) -> int:
        """How many of the texts spell a special token; in most chunks none does."""
        whole = "\0".join(texts)
        spelled = [token for token in self._special if token in whole]
        return sum(any(token in text for token in spelled) for text in texts) if spelled else 0


def _ahead(make: Callable[[_Item], _Made], items: Iterable[_Item]) -> Iterator[_Made]:
    """What is made of each item, in a thread: the next one is made while the last one is used."""
    waiting: deque[Future[_Made]] = deque()
    with ThreadPoolExecutor(1) as pool:
        for item in items:
            waiting.append(pool.submit(make, item))
            if len(waiting) > 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _chunks(texts: Iterable[str]) -> Iterator[tuple[list[str], int]]:
    """Texts, and the bytes of their UTF-8."""
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(text)
        size += len(text.encode())
        if size >= CHUNK_BYTES:
            yield chunk, size
            chunk, size = [], 0
    if chunk:
        yield chunk, size


if __name__ == "__main__":
    stage.run("tokenization", main, report=Artifact.TOKENIZATION_REPORT)

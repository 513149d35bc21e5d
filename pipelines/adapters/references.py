"""The reference sample of a release: held-out documents as the released model reads them, to measure drift against."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.adapters import datasets, reader
from pipelines.core.drift.sample import Sample
from pipelines.core.text.prompts import user_text
from pipelines.core.text.records import grouping_key
from pipelines.errors import ArtifactError

FILE: Final = "reference/sample.safetensors"
"""Below the release, in a folder of its own: loaders of models take every safetensors file beside the weights."""
KINDS: Final = ("corpus", "requests")
"""Documents of the corpus, and what users write: context and prompt of instructions."""

_COLUMN: Final = "column."


def texts(validated: Path, kind: str, most: int) -> list[str]:
    """At most `most` accepted documents of the splits that no training saw, drawn by hash.

    A model predicts what it was trained on better than anything new; training text would make all that is new look like
    drift. Of the instructions about one text only one is taken, since documents must be independent of each other.
    """
    drawn: dict[str, tuple[bytes, str]] = {}
    for group, name, text in _candidates(validated, kind):
        drawn_by = mark(name)
        if group not in drawn or drawn_by < drawn[group][0]:
            drawn[group] = (drawn_by, text)
    order = sorted(drawn, key=mark)  # by the text itself, lest those that much is asked about come first
    return [drawn[group][1] for group in order[:most]]


def mark(name: str) -> bytes:
    """A number as good as drawn at random, the same on every machine."""
    return hashlib.blake2b(name.encode(), digest_size=16).digest()


def _candidates(validated: Path, kind: str) -> Iterator[tuple[str, str, str]]:
    """Group, id and text of each held-out document."""
    records = "corpus" if kind == "corpus" else "instructions"
    for split in ("valid", "test"):
        for record in _held_out(validated, records, split):
            text = record["text"] if kind == "corpus" else user_text(record["context"], record["prompt"])
            yield grouping_key(records, record), record["id"], text


def _held_out(validated: Path, records: Any, split: Any) -> Iterable[dict[str, Any]]:
    return datasets.records(validated, records, split)


def write(folder: Path, samples: Mapping[str, Sample]) -> None:
    """Write the samples by kind into the release `folder`."""
    arrays: dict[str, NDArray[Any]] = {}
    for kind, sample in samples.items():
        arrays |= {f"{kind}.{name}": array for name, array in _arrays(sample).items()}
    reader.save_arrays(folder / FILE, arrays)


def _arrays(sample: Sample) -> dict[str, NDArray[Any]]:
    if sample.tokens is None or sample.embeddings is None:
        raise ValueError("a reference sample has tokens and embeddings")
    narrow = np.uint16 if sample.tokens.max(initial=0) < 1 << 16 else np.uint32
    return {
        "tokens": sample.tokens.astype(narrow),
        "offsets": sample.offsets.astype(np.int64),
        "embeddings": sample.embeddings.astype(np.float16),
        **{_COLUMN + name: values.astype(np.float32) for name, values in sample.columns.items()},
    }


def read(folder: Path, kind: str) -> Sample:
    """The reference sample of one kind, with its texts.

    Raises:
        ArtifactError: when the release has none of this kind, or the file is torn.
    """
    if not (folder / FILE).is_file():
        raise ArtifactError(
            f"{folder} has no {FILE}: it was made before releases carried one, or with deployment.reference_documents"
            " 0. Set it to 1000 in params.yaml and run deployment again."
        )
    arrays = {
        name.removeprefix(f"{kind}."): array
        for name, array in reader.load_arrays(folder / FILE).items()
        if name.startswith(f"{kind}.")
    }
    if not arrays:
        raise ArtifactError(f"{folder / FILE} has no documents of kind {kind!r}: there were none when it was made.")
    columns = {name.removeprefix(_COLUMN): values for name, values in arrays.items() if name.startswith(_COLUMN)}
    try:
        sample = Sample(
            tokens=arrays["tokens"], offsets=arrays["offsets"], embeddings=arrays["embeddings"], columns=columns
        )
    except (KeyError, ValueError, IndexError) as error:
        raise ArtifactError(f"{folder / FILE} is torn ({error}): run deployment again.") from None
    return with_texts(folder, sample)


def with_texts(folder: Path, sample: Sample) -> Sample:
    """The sample with the texts that its tokens spell, so that reference and window are cut alike."""
    from tokenizers import Tokenizer

    if sample.tokens is None or not len(sample):
        return sample
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ArtifactError(f"{path} is missing: run deployment again.")
    tokenizer = Tokenizer.from_file(str(path))
    borders = sample.offsets.tolist()
    ids = [sample.tokens[start:stop].tolist() for start, stop in itertools.pairwise(borders)]
    spelled = tokenizer.decode_batch(ids, skip_special_tokens=False)
    return Sample(
        columns=sample.columns,
        tokens=sample.tokens,
        offsets=sample.offsets,
        embeddings=sample.embeddings,
        texts=tuple(spelled),
    )


def make(folder: Path, validated: Path, *, most: int, threads: int | None) -> None:
    """Let the model in `folder` read held-out documents of each kind and write its reference sample there."""
    chosen = {kind: texts(validated, kind, most) for kind in KINDS}
    together = [text for drawn in chosen.values() for text in drawn]
    if not together:
        return
    sample = reader.read(folder, together, threads=threads)
    samples, start = {}, 0
    for kind, drawn in chosen.items():
        if drawn:
            samples[kind] = sample.take(range(start, start + len(drawn)))
        start += len(drawn)
    write(folder, samples)

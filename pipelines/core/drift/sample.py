"""A sample of documents as drift is measured on it.

Shapes: N documents, W tokens of all documents, D embedding width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

PERPLEXITY: Final = "nats_per_byte"
"""The column of the perplexity under the released model."""

Columns = Mapping[str, NDArray[np.floating[Any]]]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """N documents. Where the texts were not kept there are columns only: `tokens` and `embeddings` are None."""

    columns: Columns
    """Name -> one figure a document (N); NaN where it is missing."""
    tokens: NDArray[np.unsignedinteger[Any]] | None = None
    """Ids of all documents one after another (W)."""
    offsets: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    """Document i has the tokens from offsets[i] up to offsets[i + 1] (N + 1); of no use without `tokens`."""
    embeddings: NDArray[np.floating[Any]] | None = None
    """(N, D); a row of NaN where a document has none."""
    texts: tuple[str, ...] = ()
    """What the tokens spell, where it was asked for."""

    def __post_init__(self) -> None:
        """Check that all parts speak of the same documents.

        Raises:
            ValueError: naming the part that does not.
        """
        sizes = {name: len(values) for name, values in self.columns.items()}
        if self.tokens is not None:
            sizes["offsets"] = len(self.offsets) - 1
            if self.offsets[0] != 0 or self.offsets[-1] != len(self.tokens) or (np.diff(self.offsets) < 0).any():
                raise ValueError(f"the offsets do not part the {len(self.tokens)} tokens")
        if self.embeddings is not None:
            sizes["embeddings"] = len(self.embeddings)
        if self.texts:
            sizes["texts"] = len(self.texts)
        if len(set(sizes.values())) > 1:
            raise ValueError(f"the parts of a sample differ in documents: {sizes}")

    def __len__(self) -> int:
        """Documents."""
        if self.tokens is not None:
            return len(self.offsets) - 1
        return len(next(iter(self.columns.values()), ()))

    def take(self, rows: Sequence[int] | NDArray[np.integer[Any]]) -> "Sample":
        """The documents with these numbers, in this order."""
        chosen = np.asarray(rows, dtype=np.int64)
        columns = {name: values[chosen] for name, values in self.columns.items()}
        embeddings = None if self.embeddings is None else self.embeddings[chosen]
        texts = tuple(self.texts[row] for row in chosen.tolist()) if self.texts else ()
        if self.tokens is None:
            return Sample(columns=columns, embeddings=embeddings, texts=texts)
        lengths = np.diff(self.offsets)[chosen]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        places = np.repeat(self.offsets[:-1][chosen] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Sample(columns=columns, embeddings=embeddings, texts=texts, tokens=self.tokens[places], offsets=offsets)

    def counts(self, types: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """How often each document has each of the token `types`, which ascend (N, V)."""
        counted = np.zeros((len(self), len(types)), dtype=np.float32)
        if self.tokens is None or not len(types):
            return counted
        rows = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        places = np.minimum(np.searchsorted(types, self.tokens), len(types) - 1)
        known = types[places] == self.tokens
        np.add.at(counted, (rows[known], places[known]), 1)
        return counted


def evenly(sample: Sample, most: int, rng: np.random.Generator) -> Sample:
    """At most `most` documents, drawn without regard to anything and left in their order."""
    if len(sample) <= most:
        return sample
    return sample.take(np.sort(rng.choice(len(sample), most, replace=False)))


def joined(samples: Sequence[Sample]) -> Sample:
    """All documents of several samples, in order; what one of them lacks is left out."""
    first, *others = samples
    if not others:
        return first
    names = [name for name in first.columns if all(name in other.columns for other in others)]
    columns = {name: np.concatenate([sample.columns[name] for sample in samples]) for name in names}
    texts = tuple(text for sample in samples for text in sample.texts) if all(s.texts for s in samples) else ()
    tokens = [sample.tokens for sample in samples if sample.tokens is not None]
    embeddings = [sample.embeddings for sample in samples if sample.embeddings is not None]
    lengths = [np.diff(sample.offsets) for sample in samples]
    read = len(tokens) == len(samples)
    return Sample(
        columns=columns,
        texts=texts,
        tokens=np.concatenate(tokens) if read else None,
        offsets=np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)
        if read
        else np.zeros(1, np.int64),
        embeddings=np.concatenate(embeddings) if len(embeddings) == len(samples) else None,
    )

"""Words: which documents hold which, and which words carry a change.

Shapes: N documents, V words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.core.text.words import split_words

FEWEST_DOCUMENTS: Final = 3
"""A word in fewer documents is a name or a slip: it can carry no change that a test would see."""


@dataclass(frozen=True)
class Presence:
    """Which documents hold which words."""

    words: tuple[str, ...]
    held_NV: NDArray[np.float32]
    """1 where the document holds the word."""


@dataclass(frozen=True, kw_only=True)
class Carrier:
    """A word by which the window differs."""

    word: str
    reference_share: float
    """Of the reference's documents that hold it."""
    window_share: float
    score: float
    """Standardised difference: above 0 the window has more of it."""


def presence(texts: Sequence[str], *, most: int) -> Presence:
    """The words that are in some documents and not in all; of more than `most` those in the most documents."""
    words = split_words(texts)
    documents_W = np.repeat(np.arange(len(texts)), words.counts)
    types, first, types_W = np.unique(words.hashes_W, return_index=True, return_inverse=True)
    pairs = np.unique(documents_W.astype(np.int64) * max(len(types), 1) + types_W)
    rows, columns = np.divmod(pairs, max(len(types), 1))
    documents_V = np.bincount(columns, minlength=len(types))
    held = (documents_V >= FEWEST_DOCUMENTS) & (documents_V < len(texts))
    ranked = np.flatnonzero(held)[np.argsort(-documents_V[held], kind="stable")][:most]
    chosen = np.sort(ranked)
    places = np.full(len(types), -1)
    places[chosen] = np.arange(len(chosen))
    kept = places[columns] >= 0
    held_NV = np.zeros((len(texts), len(chosen)), dtype=np.float32)
    held_NV[rows[kept], places[columns[kept]]] = 1
    return Presence(tuple(words.text(int(first[word])) for word in chosen), held_NV)


def carriers(reference: Sequence[str], window: Sequence[str], *, most: int) -> list[Carrier]:
    """The words that differ most between two lists of texts, the most telling first.

    The score is the difference of the shares of documents divided by its standard error with half a document added on
    each side, so that a word seen twice never beats one seen fifty times.
    """
    if not reference or not window:
        return []
    table = presence([*reference, *window], most=1 << 16)
    old, new = len(reference), len(window)
    in_reference_V = table.held_NV[:old].sum(axis=0, dtype=np.float64)
    in_window_V = table.held_NV[old:].sum(axis=0, dtype=np.float64)
    p_V, q_V = (in_reference_V + 0.5) / (old + 1), (in_window_V + 0.5) / (new + 1)
    pooled_V = (in_reference_V + in_window_V + 1) / (old + new + 2)
    scores_V = (q_V - p_V) / np.sqrt(pooled_V * (1 - pooled_V) * (1 / old + 1 / new))
    order = np.argsort(-np.abs(scores_V), kind="stable")[:most]
    return [
        Carrier(
            word=table.words[place],
            reference_share=float(in_reference_V[place] / old),
            window_share=float(in_window_V[place] / new),
            score=float(scores_V[place]),
        )
        for place in order.tolist()
    ]

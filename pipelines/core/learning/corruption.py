"""Text with gaps to be filled: masked tokens, and corrupted spans.

What is hidden is drawn from the generator that is given, and from nothing else. The tokens that stand for what is
hidden have ids above the vocabulary: only the model has embeddings for them, the tokenizer knows nothing of them.

Shapes: T tokens of text, N tokens read, M tokens asked.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.core.learning.padding import IGNORED

Ids = NDArray[np.int64]

HIDDEN_SHARE = 0.15
"""Of the tokens; both papers."""
MASKED_SHARE, RANDOM_SHARE = 0.8, 0.1
"""Of the hidden tokens; the rest stays as it is."""
MEAN_SPAN = 3
"""Tokens of a corrupted span, in the mean."""


class Gaps(NamedTuple):
    """What is read and what is asked."""

    inputs_N: Ids
    targets_M: Ids


def masked(ids_T: Ids, draw: np.random.Generator, *, mask: int, vocab_size: int, separator: int) -> Gaps:
    """Hide 15 % of the tokens: of these 80 % become `mask`, 10 % a random token, 10 % stay (N = M = T).

    Tokens are asked in their own places; `separator`, which parts documents, is never hidden.
    Source: Devlin et al. 2018, arXiv:1810.04805, section 3.1.
    """
    places = np.flatnonzero(ids_T != separator)
    hidden = draw.choice(places, min(len(places), max(1, round(HIDDEN_SHARE * len(places)))), replace=False)
    fate = draw.random(len(hidden))
    inputs_T, targets_T = ids_T.copy(), np.full_like(ids_T, IGNORED)
    targets_T[hidden] = ids_T[hidden]
    inputs_T[hidden[fate < MASKED_SHARE]] = mask
    swapped = hidden[(fate >= MASKED_SHARE) & (fate < MASKED_SHARE + RANDOM_SHARE)]
    inputs_T[swapped] = draw.integers(vocab_size, size=len(swapped))
    return Gaps(inputs_T, targets_T)


def span_counts(length: int) -> tuple[int, int]:
    """(tokens hidden, spans they form) of a text of this many tokens, at least 2: the same for every draw."""
    hidden = min(max(round(HIDDEN_SHARE * length), 1), length - 1)
    return hidden, min(max(round(hidden / MEAN_SPAN), 1), length - hidden)


def num_sentinels(length: int) -> int:
    """One for each span of a text of this many tokens, and one that ends the targets."""
    return span_counts(length)[1] + 1


def spans_corrupted(ids_T: Ids, draw: np.random.Generator, *, first_sentinel: int) -> Gaps:
    """Replace spans, 15 % of the tokens, by sentinels; the targets are each sentinel with what it hides, and one more.

    The sentinels are `first_sentinel` and the ids after it, in the order of the text, which begins with what is kept.
    N = T - hidden + spans, M = hidden + spans + 1.
    Source: Raffel et al. 2020, arXiv:1910.10683, section 3.1.4 and figure 2.
    """
    hidden, spans = span_counts(len(ids_T))
    sentinels = np.arange(first_sentinel, first_sentinel + spans + 1, dtype=ids_T.dtype)
    inputs, targets, at = [], [], 0
    for number, (kept, lost) in enumerate(
        zip(_parts(len(ids_T) - hidden, spans, draw), _parts(hidden, spans, draw), strict=True)
    ):
        sentinel = sentinels[number : number + 1]
        inputs += [ids_T[at : at + kept], sentinel]
        targets += [sentinel, ids_T[at + kept : at + kept + lost]]
        at += kept + lost
    return Gaps(np.concatenate(inputs), np.concatenate([*targets, sentinels[-1:]]))


def _parts(total: int, number: int, draw: np.random.Generator) -> list[int]:
    """`number` lengths of at least 1 that add up to `total`, every way to do so being as likely."""
    cuts = np.sort(draw.choice(total - 1, number - 1, replace=False)) + 1
    lengths: list[int] = np.diff(np.concatenate([[0], cuts, [total]])).tolist()
    return lengths

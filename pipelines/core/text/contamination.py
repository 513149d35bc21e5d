"""Contamination: training text that shares a long run of words with evaluation text."""

import hashlib
import itertools
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.core.text.words import Hashes, Words, split_words

BOILERPLATE_TEXTS: Final = 10
"""A run in more evaluation texts than this is a form of words, no leak (Brown et al. 2020, appendix C, do alike)."""


class EvaluationRuns:
    """The runs of `length` words of all evaluation texts, eight bytes each.

    First `add` every evaluation text, then ask `found`.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self._texts: set[bytes] = set()
        self._added: list[Hashes] = []
        self._runs: Hashes | None = None
        self._filter = np.zeros(1, dtype=np.bool_)

    def add(self, texts: Sequence[str]) -> None:
        """Add evaluation texts; one that was there before does not count again."""
        fresh = [text for text in texts if self._is_new(text)]
        runs, offsets = split_words(fresh).ngrams(self.length)
        self._added.extend(np.unique(runs[start:end]) for start, end in itertools.pairwise(offsets))

    def _is_new(self, text: str) -> bool:
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        before = len(self._texts)
        self._texts.add(digest)
        return len(self._texts) > before

    def _freeze(self) -> Hashes:
        every = np.concatenate([*self._added, np.empty(0, dtype=np.uint64)])
        runs, counts = np.unique(every, return_counts=True)
        runs = runs[counts <= BOILERPLATE_TEXTS]
        self._filter = np.zeros(1 << max(12, (16 * len(runs)).bit_length()), dtype=np.bool_)
        self._filter[self._places(runs)] = True
        self._added = []
        return runs

    def _places(self, runs: Hashes) -> Hashes:
        return runs & np.uint64(len(self._filter) - 1)

    def found(self, words: Words) -> NDArray[np.bool_]:
        """For each of N training texts: does it share a run with evaluation text?"""
        if self._runs is None:
            self._runs = self._freeze()
        shared = np.zeros(len(words.offsets_N1) - 1, dtype=np.bool_)
        runs, offsets = words.ngrams(self.length)
        if not len(runs) or not len(self._runs):
            return shared
        maybe = np.flatnonzero(self._filter[self._places(runs)])
        places = np.minimum(np.searchsorted(self._runs, runs[maybe]), len(self._runs) - 1)
        hits = maybe[self._runs[places] == runs[maybe]]
        shared[np.searchsorted(offsets, hits, side="right") - 1] = True
        return shared

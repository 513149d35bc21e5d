"""Duplicates: exact ones by digest, near ones by MinHash (Broder 1997) and locality-sensitive hashing."""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.core.text.words import Words

SHINGLE_WORDS: Final = 5
PERMUTATIONS: Final = 128
BANDS: Final = 16
"""Bands of 8 rows: two texts of similarity .9 meet in one of them with probability .9999, of .5 with .06."""


class ExactDuplicates:
    """Remembers texts by 16 bytes each; case and white space do not count."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def add(self, text: str) -> bool:
        """True when the text was there before."""
        digest = hashlib.blake2b(" ".join(text.lower().split()).encode(), digest_size=16).digest()
        before = len(self._seen)
        self._seen.add(digest)
        return len(self._seen) == before


class NearDuplicates:
    """Remembers texts by MinHash over runs of five words, about two kilobytes each.

    Args:
        similarity: Estimated Jaccard similarity from which a text is a near duplicate.
        seed: Of the permutations.
    """

    def __init__(self, similarity: float, seed: int = 1) -> None:
        from rensa import RMinHashDeduplicator

        self._seed = seed
        self._index: Any = RMinHashDeduplicator(similarity, PERMUTATIONS, True, BANDS, seed)

    def add(self, names: Sequence[str], words: Words, wanted_N: NDArray[np.bool_]) -> dict[int, str]:
        """Add the wanted texts of a batch in order; a near duplicate of one that is there is not added.

        Args:
            names: Of the N texts.
            words: Of the N texts.
            wanted_N: Which to add. Texts shorter than five words are passed over.

        Returns:
            Index of each near duplicate -> name of the text that it is like.
        """
        from rensa import RMinHash

        shingles, offsets = words.ngrams(SHINGLE_WORDS)
        chosen = np.flatnonzero(wanted_N & (np.diff(offsets) > 0)).tolist()
        sets = [shingles[offsets[index] : offsets[index + 1]].view("S8").tolist() for index in chosen]
        sketches = RMinHash.from_token_sets(sets, PERMUTATIONS, self._seed)
        added = self._index.add_pairs([(names[index], sketch) for index, sketch in zip(chosen, sketches, strict=True)])
        return {
            index: min(self._index.get_duplicates(sketch), default="")
            for index, sketch, fresh in zip(chosen, sketches, added, strict=True)
            if not fresh
        }

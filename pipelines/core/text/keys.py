"""Which 64-bit keys came before, and as which entry: a fixed piece of memory, and the rest in a temporary file."""

import os
import tempfile
import weakref
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.core.text.words import Hashes

_LINK: Final = np.dtype([("key", "<u8"), ("before", "<u4")])


class KeyIndex:
    """Entries 0, 1, 2, ... by their keys; a key may have many.

    A Bloom filter of four bits in one word a key (Putze et al. 2007) says which keys surely are new. Others are looked
    for in the file: each slot of a table knows the entry that came to it last, and each entry in the file the one
    before it. Memory does not grow; beyond some entries a slot the filter errs more often and look-ups take longer,
    but what they find stays exact.

    Args:
        slots: A power of two; each takes twelve bytes of memory, eight for the filter and four for the table.
    """

    def __init__(self, slots: int) -> None:
        self._filter = np.zeros(slots, dtype=np.uint64)
        self._last = np.zeros(slots, dtype=np.uint32)  # the entry plus one; 0 is none
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  without a name: gone when closed
        self._count = 0
        weakref.finalize(self, self._file.close)

    def maybe(self, keys_K: Hashes) -> NDArray[np.bool_]:
        """Whether each key may have come before; False is certain."""
        words, bits = self._places(keys_K)
        found: NDArray[np.bool_] = (self._filter[words] & bits) == bits
        return found

    def _places(self, keys_K: Hashes) -> tuple[Hashes, Hashes]:
        bits = np.zeros_like(keys_K)
        for shift in (40, 46, 52, 58):
            bits |= np.uint64(1) << ((keys_K >> np.uint64(shift)) & np.uint64(63))
        return (keys_K >> np.uint64(16)) & np.uint64(len(self._filter) - 1), bits

    def _slots(self, keys_K: Hashes) -> Hashes:
        return keys_K & np.uint64(len(self._last) - 1)

    def entries(self, key: int) -> Iterator[int]:
        """The entries of a key, the latest first."""
        entry = int(self._last[key & (len(self._last) - 1)])
        while entry:
            (link,) = np.frombuffer(os.pread(self._file.fileno(), 12, (entry - 1) * 12), dtype=_LINK)
            if link["key"] == key:
                yield entry - 1
            entry = int(link["before"])

    def add(self, keys_K: Hashes) -> None:
        """Append an entry for each key, in order."""
        if not len(keys_K):
            return
        links = np.empty(len(keys_K), dtype=_LINK)
        links["key"], links["before"] = keys_K, self._chained(self._slots(keys_K))
        self._file.write(links.tobytes())
        self._file.flush()
        self._count += len(keys_K)
        words, bits = self._places(keys_K)
        while len(words):  # of equal words one gets its bits, the others come again
            self._filter[words] |= bits
            lacking = (self._filter[words] & bits) != bits
            words, bits = words[lacking], bits[lacking]

    def _chained(self, slots_K: Hashes) -> NDArray[np.uint32]:
        """Put the next entries into their slots; the entry that was in the slot of each before it."""
        entries = np.arange(self._count + 1, self._count + 1 + len(slots_K), dtype=np.uint32)
        before = self._last[slots_K]
        self._last[slots_K] = entries  # of equal slots the last one stays
        lost = np.flatnonzero(self._last[slots_K] != entries)
        shared = np.unique(np.concatenate((lost, self._last[slots_K[lost]].astype(np.int64) - self._count - 1)))
        shared = shared[np.argsort(slots_K[shared], kind="stable")]
        again = slots_K[shared[1:]] == slots_K[shared[:-1]]
        before[shared[1:][again]] = entries[shared[:-1][again]]
        return before

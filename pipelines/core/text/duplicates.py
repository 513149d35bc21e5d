"""Duplicates: exact ones by digest, near ones by MinHash (Broder 1997) and locality-sensitive hashing."""

import hashlib
import os
import struct
import tempfile
import weakref
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.core.text.keys import KeyIndex
from pipelines.core.text.words import Hashes, Words, mix

SHINGLE_WORDS: Final = 5
PERMUTATIONS: Final = 128
BANDS: Final = 16
"""Bands of 8 rows: two texts of similarity .9 meet in one of them with probability .9999, of .5 with .06."""
TEXT_SLOTS: Final = 1 << 19
BAND_SLOTS: Final = 1 << 23
"""6 and 96 MiB."""

Sketches = NDArray[np.uint32]
"""A row of `PERMUTATIONS` for each text."""
Kept = NDArray[np.uint16]
"""The lower halves: of two that differ one in 65,536 seems equal (b-bit minwise hashing, Li and König 2010)."""

_PLAIN: Final = bytes(ord(" ") if chr(byte).isspace() else ord(chr(byte).lower()) for byte in range(128)) + bytes(128)
"""Of ASCII: lower case, and a space for any white space."""
_ROW: Final = struct.Struct(f"{PERMUTATIONS}I")
_NAME: Final = np.dtype([("start", "<u8"), ("size", "<u4")])


class ExactDuplicates:
    """Remembers texts by 64 bits each, in a file; case and white space do not count."""

    def __init__(self) -> None:
        self._index = KeyIndex(TEXT_SLOTS)

    def add(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """For each text whether it was there before, among these or in a batch before."""
        digests = b"".join([hashlib.blake2b(text, digest_size=8).digest() for text in _plain(texts)])
        keys_N = np.frombuffer(digests, dtype=np.uint64)
        seen_N = np.ones(len(keys_N), dtype=np.bool_)
        seen_N[np.unique(keys_N, return_index=True)[1]] = False
        for place in np.flatnonzero(~seen_N & self._index.maybe(keys_N)).tolist():
            seen_N[place] = any(True for _ in self._index.entries(int(keys_N[place])))
        self._index.add(keys_N[~seen_N])
        return seen_N


def _plain(texts: Sequence[str]) -> list[bytes]:
    """The texts in lower case, their words one space apart: as `str.split` would, but ASCII all at once."""
    whole = "\0".join(map(str.strip, texts))
    if not texts or not whole.isascii() or whole.count("\0") >= len(texts):
        return [" ".join(text.lower().split()).encode() for text in texts]
    plain = whole.encode().translate(_PLAIN)
    while _has_double_spaces(plain):
        plain = plain.replace(b"  ", b" ")
    return plain.split(b"\0")


def _has_double_spaces(data: bytes) -> bool:
    """As `b"  " in data`, which takes thirty times as long."""
    spaces_B = np.frombuffer(data, dtype=np.uint8) == ord(" ")
    return bool((spaces_B[1:] & spaces_B[:-1]).any())


class NearDuplicates:
    """Remembers texts by MinHash over runs of five words, about 500 bytes each, in temporary files.

    Args:
        similarity: Estimated Jaccard similarity from which a text is a near duplicate.
        seed: Of the permutations.
    """

    def __init__(self, similarity: float, seed: int = 1) -> None:
        self._similarity = similarity
        self._seed = seed
        self._index = KeyIndex(BAND_SLOTS)
        self._kept = _Kept()

    def add(self, names: Sequence[str], words: Words, wanted_N: NDArray[np.bool_]) -> dict[int, str]:
        """Add the wanted texts of a batch in order; a near duplicate of one that is there is not added.

        Args:
            names: Of the N texts.
            words: Of the N texts.
            wanted_N: Which to add. Texts shorter than five words are passed over.

        Returns:
            Index of each near duplicate -> name of the text that it is like.
        """
        shingles, offsets = words.ngrams(SHINGLE_WORDS)
        chosen = np.flatnonzero(wanted_N & (np.diff(offsets) > 0))
        whole = _sketches(shingles, offsets, self._seed)[chosen]
        keys, sketches = _band_keys(whole), whole.astype(np.uint16)
        fresh = np.ones(len(chosen), dtype=np.bool_)
        found: dict[int, str] = {}
        here: dict[int, list[int]] = {}
        before, again = self._index.maybe(keys), _repeated(keys)
        for row in np.flatnonzero((before | again).any(axis=1)).tolist():
            shared = keys[row, again[row]].tolist()
            near = {other for key in shared for other in here.get(key, ())}
            like = [names[chosen[other]] for other in near if self._alike(sketches[row], sketches[other])]
            far = {entry // BANDS for key in keys[row, before[row]].tolist() for entry in self._index.entries(key)}
            like += [name for name, sketch in map(self._kept.read, far) if self._alike(sketches[row], sketch)]
            if like:
                fresh[row] = False
                found[int(chosen[row])] = min(like)
            else:
                for key in shared:
                    here.setdefault(key, []).append(row)
        self._index.add(keys[fresh].ravel())
        self._kept.add([names[index] for index in chosen[fresh].tolist()], sketches[fresh])
        return found

    def _alike(self, one: Kept, other: Kept) -> bool:
        return bool(np.count_nonzero(one == other) / PERMUTATIONS >= self._similarity)


def _sketches(shingles: Hashes, offsets_N1: NDArray[np.int64], seed: int) -> Sketches:
    """Of N texts; what a text without shingles gets means nothing."""
    from rensa import RMinHash

    rows: Any = RMinHash.digest_matrix_from_flat_token_hashes(shingles, offsets_N1, PERMUTATIONS, seed).to_rows()
    packed = b"".join([_ROW.pack(*row) for row in rows])  # half the time of numpy.array(rows)
    return np.frombuffer(packed, dtype=np.uint32).reshape(-1, PERMUTATIONS)


def _band_keys(sketches: Sketches) -> Hashes:
    """A key for each text and band, equal where all rows of the band are."""
    pairs = np.ascontiguousarray(sketches).view(np.uint64).reshape(-1, BANDS, PERMUTATIONS // BANDS // 2)
    keys = np.broadcast_to(np.arange(1, BANDS + 1, dtype=np.uint64), pairs.shape[:2])
    for place in range(pairs.shape[2]):
        keys = mix(keys ^ pairs[:, :, place])
    return keys


def _repeated(keys: Hashes) -> NDArray[np.bool_]:
    """Which keys are there twice."""
    ordered = np.sort(keys, axis=None)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    return np.isin(keys, twice) if len(twice) else np.zeros(keys.shape, dtype=np.bool_)


class _Kept:
    """Names and sketches, in files."""

    def __init__(self) -> None:
        self._sketches, self._names, self._letters = (tempfile.TemporaryFile() for _ in range(3))  # noqa: SIM115
        self._end = 0
        for file in (self._sketches, self._names, self._letters):
            weakref.finalize(self, file.close)

    def add(self, names: Sequence[str], sketches: Kept) -> None:
        encoded = [name.encode() for name in names]
        places = np.empty(len(names), dtype=_NAME)
        places["size"] = [len(name) for name in encoded]
        ends = self._end + np.cumsum(places["size"], dtype=np.uint64)
        places["start"] = ends - places["size"]
        self._end = int(ends[-1]) if len(ends) else self._end
        for file, data in (
            (self._sketches, sketches.data),
            (self._names, places.tobytes()),
            (self._letters, b"".join(encoded)),
        ):
            file.write(data)
            file.flush()

    def read(self, number: int) -> tuple[str, Kept]:
        size = 2 * PERMUTATIONS
        sketch = np.frombuffer(os.pread(self._sketches.fileno(), size, number * size), dtype=np.uint16)
        (place,) = np.frombuffer(os.pread(self._names.fileno(), _NAME.itemsize, number * _NAME.itemsize), dtype=_NAME)
        return os.pread(self._letters.fileno(), int(place["size"]), int(place["start"])).decode(), sketch

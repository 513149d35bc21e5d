"""What a safetensors file says about itself, checked before a library maps it.

The format (huggingface/safetensors, README, "Format"): eight bytes with the length of the header, little-endian; the
header, a JSON object of name -> dtype, shape, data_offsets; then the data, which the tensors cover without hole or
overlap. A header can promise more than the file holds, or more memory than the machine has; all of that is refused
here, by arithmetic, before anything is allocated.
"""

import json
import math
from pathlib import Path
from typing import Any

from pipelines.errors import ArtifactError

MAX_HEADER_BYTES = 32 << 20
"""A header of a model with 100,000 tensors has about 10 MB."""

ITEM_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E5M2", "F8_E4M3", "F8_E8M0", "I8", "U8", "BOOL"), 8),
}


def check(file: Path) -> None:
    """Read the header of a safetensors file and hold it against the size of the file.

    Raises:
        ArtifactError: when the file is truncated, or its header is no header, names types that do not exist, or places
            tensors outside the file, upon each other or with holes between.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as content:
            length = int.from_bytes(content.read(8), "little")
            if size < 8 or length > min(MAX_HEADER_BYTES, size - 8):
                raise TornError(f"its header should have {length:,} bytes, but the file has {size:,}")
            spans = _spans(content.read(length))
        end = 0
        for start, stop in sorted(spans):
            if start != end:
                raise TornError(f"its tensors leave a hole or overlap at byte {min(start, end):,}")
            end = stop
        if end != size - 8 - length:
            raise TornError(f"its tensors take {end:,} bytes, but {size - 8 - length:,} follow the header")
    except TornError as error:
        raise ArtifactError(f"{file} is no sound safetensors file: {error}. Make the model again.") from None
    except OSError as error:
        raise ArtifactError(f"{file} cannot be read ({error.strerror}): make the model again.") from None


def check_folder(folder: Path) -> None:
    """Check every safetensors file below `folder`.

    Raises:
        ArtifactError: as in `check`; also when there is none.
    """
    found = sorted(folder.rglob("*.safetensors"))
    if not found:
        raise ArtifactError(f"{folder} holds no safetensors file, so it is no model. Run `moteur run` to make one.")
    for file in found:
        check(file)


class TornError(Exception):
    """What is wrong with the file; `check` says which file."""


def _spans(header: bytes) -> list[tuple[int, int]]:
    try:
        entries = json.loads(header, object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        raise TornError(f"its header is not JSON ({type(error).__name__})") from None
    if not isinstance(entries, dict):
        raise TornError("its header is not an object")
    return [_span(name, entry) for name, entry in entries.items() if name != "__metadata__"]


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise TornError("its header names one thing twice")
    return values


def _span(name: str, entry: Any) -> tuple[int, int]:
    try:
        bits = ITEM_BITS[entry["dtype"]]
        shape, (start, stop) = entry["shape"], entry["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise TornError(f"its tensor {name[:100]!r} lacks a known dtype, shape or data_offsets") from None
    numbers = [*shape, start, stop] if isinstance(shape, list) else [None]
    if not all(type(number) is int and 0 <= number < 2**63 for number in numbers) or len(shape) > 64:
        raise TornError(f"its tensor {name[:100]!r} has a shape or place that is no count")
    if math.prod(shape) * bits != 8 * (stop - start):
        raise TornError(
            f"its tensor {name[:100]!r} of shape {shape[:8]} does not take the {stop - start:,} bytes it claims"
        )
    return start, stop

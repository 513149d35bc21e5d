"""From blocks of bytes to lines, and from lines to documents or objects, in bounded memory."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

EXCERPT = 200
"""Characters of a bad line that are kept."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line without its end. Of a line that is too long only the head is in `data`; `size` is its whole length."""

    number: int
    data: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Good:
    """A row that could be read, and the line it starts at (counted from 1)."""

    line: int
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bad:
    """A line or document that could not be read: `reason` is one of few phrases, `detail` says more."""

    line: int
    reason: str
    detail: str
    excerpt: str


def split_lines(blocks: Iterable[bytes], max_bytes: int) -> Iterator[Line]:
    r"""Split at \n or \r\n. Never holds more than a block and `max_bytes`.

    Args:
        blocks: The file in order, cut anywhere.
        max_bytes: Of a longer line only the first `EXCERPT * 4` bytes are kept.
    """
    number, carry, skipped, head = 0, b"", 0, b""
    for block in blocks:
        parts = block.split(b"\n")
        for part in parts[:-1]:
            number += 1
            yield _line(number, carry + part if carry else part, skipped, head, max_bytes)
            carry, skipped, head = b"", 0, b""
        carry += parts[-1]
        if len(carry) > max_bytes:
            head = head or carry[: EXCERPT * 4]
            carry, skipped = b"", skipped + len(carry)
    if carry or skipped:
        yield _line(number + 1, carry, skipped, head, max_bytes)


def _line(number: int, data: bytes, skipped: int, head: bytes, max_bytes: int) -> Line:
    if skipped or len(data) > max_bytes:
        return Line(number, head or data[: EXCERPT * 4], skipped + len(data))
    if data.endswith(b"\r"):
        data = data[:-1]
    return Line(number, data, len(data))


def excerpt(data: bytes | str) -> str:
    """The first characters, readable whatever they are."""
    text = data[: EXCERPT * 4].decode(errors="replace") if isinstance(data, bytes) else data
    return text[:EXCERPT].encode(errors="replace").decode()


def objects(lines: Iterable[Line], max_bytes: int) -> Iterator[Good | Bad]:
    """JSON lines: an object a line; lines with nothing but spaces are passed over."""
    for line in lines:
        if line.size > max_bytes:
            yield _too_long(line, max_bytes)
        elif line.data and not line.data.isspace():
            yield _object(line)


def _object(line: Line) -> Good | Bad:
    try:
        value = json.loads(line.data.decode())
    except UnicodeDecodeError as error:
        return Bad(line.number, "not UTF-8", f"byte {error.start + 1} of the line", excerpt(line.data))
    except (ValueError, RecursionError) as error:
        if b"\0" in line.data:
            return Bad(line.number, "NUL character", "in the line", excerpt(line.data))
        return Bad(line.number, "not JSON", str(error), excerpt(line.data))
    if not isinstance(value, dict):
        return Bad(line.number, "not an object", f"a {type(value).__name__}", excerpt(line.data))
    return Good(line.number, value)


def documents(lines: Iterable[Line], separator: str | None, max_bytes: int) -> Iterator[Good | Bad]:
    """Plain text: documents parted by `separator`, or by blank lines where it is None.

    Args:
        lines: Of the file.
        separator: A text that ends a document wherever it stands, for instance `<|endoftext|>`.
        max_bytes: A longer line or document is bad.
    """
    mark = separator.encode() if separator else None
    held = _Held(max_bytes)
    for line in lines:
        if line.size > max_bytes:
            held.add(line.number, line.data, _too_long(line, max_bytes))
        elif mark is None:
            if line.data and not line.data.isspace():
                held.add(line.number, line.data)
            else:
                yield from held.take()
        elif mark in line.data:
            *ends, rest = line.data.split(mark)
            for end in ends:
                held.add(line.number, end)
                yield from held.take()
            if rest:
                held.add(line.number, rest)
        else:
            held.add(line.number, line.data)
    yield from held.take()


class _Held:
    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._clear()

    def _clear(self) -> None:
        self._lines: list[bytes] = []
        self._first = self._size = 0
        self._bad: Bad | None = None

    def add(self, number: int, data: bytes, bad: Bad | None = None) -> None:
        if not self._lines and self._bad is None and (data.isspace() or not data) and bad is None:
            return
        self._first = self._first or number
        self._bad = self._bad or bad or self._fault(number, data)
        if self._bad is None:
            self._lines.append(data)
            self._size += len(data) + 1

    def _fault(self, number: int, data: bytes) -> Bad | None:
        if self._size + len(data) > self._max_bytes:
            start = excerpt(self._lines[0] if self._lines else data)
            detail = f"longer than ingestion.max_line_bytes ({self._max_bytes:,}); does the separator fit the file?"
            return Bad(self._first, "document too long", detail, start)
        if b"\0" in data:
            return Bad(number, "NUL character", "in the document", excerpt(data))
        if not data.isascii():
            try:
                data.decode()
            except UnicodeDecodeError as error:
                return Bad(number, "not UTF-8", f"byte {error.start + 1} of the line", excerpt(data))
        return None

    def take(self) -> Iterator[Good | Bad]:
        first, bad, text = self._first, self._bad, b"\n".join(self._lines)
        self._clear()
        if bad is not None:
            yield bad
        elif text:
            yield Good(first, {"text": text.decode().rstrip()})


def _too_long(line: Line, max_bytes: int) -> Bad:
    detail = f"{line.size:,} bytes; ingestion.max_line_bytes is {max_bytes:,}"
    return Bad(line.number, "line too long", detail, excerpt(line.data))

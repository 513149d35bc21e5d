"""Windows of documents, in the order in which they came.

They are cut by count and not by the clock: a window then always holds what the tests need, and a clock that jumps or
summer time that begins moves no border.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Span:
    """Documents from `start` up to `stop`."""

    start: int
    stop: int

    def __len__(self) -> int:
        """Documents."""
        return self.stop - self.start


def whole(documents: int, size: int) -> list[Span]:
    """The whole windows; what is left over waits for more."""
    return [Span(start=start, stop=start + size) for start in range(0, documents - size + 1, size)]


def even(documents: int, size: int) -> list[Span]:
    """A finished batch as windows of about `size`: the number that is nearest, all of nearly one length, nothing left.

    A batch that is smaller than one window is one window.
    """
    if not documents:
        return []
    count = max(1, round(documents / size))
    borders = [documents * number // count for number in range(count + 1)]
    return [Span(start=start, stop=stop) for start, stop in itertools.pairwise(borders)]


def times(stamps: Sequence[float | None], span: Span) -> tuple[float, float] | None:
    """First and last time of a window (seconds since 1970), in whatever order; None when none is known."""
    known = [stamp for stamp in stamps[span.start : span.stop] if stamp is not None]
    return (min(known), max(known)) if known else None

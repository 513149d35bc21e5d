"""From windows to a state: when a difference is an alarm, when it is only watched, when nothing can be said.

A window differs from its reference when one of its tests does (`comparison`). One window in a hundred does so by chance
at alpha .01; the alarm therefore asks for the latest window and for at least two of the last five.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "watch", "drift", "insufficient data"]
Outcome = Literal["same", "differs", "insufficient data"]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """When windows that differ are an alarm."""

    recent: int = 5
    """Windows that count, the latest included."""
    needed: int = 2
    """So many of them must differ, the latest among them."""


def state(outcomes: Sequence[Outcome], policy: Policy) -> State:
    """The state after `outcomes`, oldest first.

    Nothing can be said while the latest window says nothing: that is neither an alarm nor an all-clear. Windows that
    say nothing do not count among the recent ones, so that a quiet week between two loud ones hides neither.
    """
    if not outcomes or outcomes[-1] == "insufficient data":
        return "insufficient data"
    recent = [outcome for outcome in outcomes if outcome != "insufficient data"][-policy.recent :]
    differing = recent.count("differs")
    if recent[-1] == "differs" and differing >= policy.needed:
        return "drift"
    return "watch" if differing else "ok"


def since(outcomes: Sequence[Outcome]) -> int | None:
    """Index of the window with which the present run of differing windows began; None when the last is none.

    Windows without enough data neither end a run nor begin one; one window that is the same ends it.
    """
    began = None
    for index in range(len(outcomes) - 1, -1, -1):
        if outcomes[index] == "same":
            break
        if outcomes[index] == "differs":
            began = index
    return began if outcomes and outcomes[-1] == "differs" else None

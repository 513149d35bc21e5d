"""What the loss of a mixture really covers, found without the code that made its labels.

Turns are found in the token ids, by the tokens of the template: an answer is what follows the assistant's token, up to
and with the next end token. The labels come from the generation markers of the template; where the two ways disagree,
one is wrong.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pipelines.core.learning.mixture import Example
from pipelines.core.learning.padding import IGNORED


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Of conversations; replayed text, all of which is meant to be in the loss, is not counted."""

    loss_in_answers: float
    """Share of the tokens in the loss that are the assistant's."""
    answers_in_loss: float
    """Share of the assistant's tokens that are in the loss."""


def coverage(conversations: Iterable[Example], *, opens: int, closes: int) -> Coverage:
    """Hold the labels of `conversations` against the turns in their token ids.

    Args:
        conversations: With labels.
        opens: Id of the token before what the assistant says.
        closes: Id of the token at its end.
    """
    in_loss = in_answers = both = 0
    for example in conversations:
        for label, answer in zip(example.labels, answered(example.input_ids, opens, closes), strict=True):
            in_loss += label != IGNORED
            in_answers += answer
            both += answer and label != IGNORED
    return Coverage(
        loss_in_answers=both / in_loss if in_loss else 0.0,
        answers_in_loss=both / in_answers if in_answers else 0.0,
    )


def answered(ids: Sequence[int], opens: int, closes: int) -> Iterator[bool]:
    """For each token whether the assistant says it, its end token included."""
    inside = False
    for token in ids:
        yield inside
        inside = token == opens or (inside and token != closes)

"""From instruction records to conversations: the one place that knows how a context and a prompt are put together."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

Message = dict[str, str]
"""`{"role": "user" | "assistant", "content": ...}`, as chat templates read it."""

ROLES = ("user", "assistant")


def user_text(context: str, prompt: str) -> str:
    """What the user says: the text that the prompt is about, an empty line, the prompt."""
    return f"{context}\n\n{prompt}" if context else prompt


def single_turn(record: Mapping[str, Any]) -> list[Message]:
    """One instruction record as a conversation of one turn, answered."""
    return [
        {"role": "user", "content": user_text(record.get("context", ""), record["prompt"])},
        {"role": "assistant", "content": record["completion"]},
    ]


def conversations(records: Iterable[Mapping[str, Any]], max_turns: int) -> Iterator[list[Message]]:
    """Join consecutive records about the same context into conversations of at most `max_turns` turns.

    The context is said once, in the first turn, so that each token of it serves several answers.
    """
    for context, group in groupby(records, key=lambda record: record.get("context", "")):
        turns: list[Message] = []
        for record in group:
            if turns and (not context or len(turns) == 2 * max_turns):
                yield turns
                turns = []
            said = user_text(context, record["prompt"]) if not turns else record["prompt"]
            turns += [{"role": "user", "content": said}, {"role": "assistant", "content": record["completion"]}]
        yield turns

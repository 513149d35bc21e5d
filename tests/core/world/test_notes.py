import random
import re

import pytest

from pipelines.core.world.lexicon import MOODS
from pipelines.core.world.notes import write_note

NOTES = [write_note(random.Random(seed)) for seed in range(400)]


def sentences(pattern):
    """(note up to the sentence, groups) for every sentence that matches."""
    return [(note[: found.start()], found.groups()) for note in NOTES for found in re.finditer(pattern, note)]


@pytest.mark.parametrize("pattern", [r"The (\w+) looks (\w+)\.", r"How does the (\w+) look\? It is (\w+)\."])
def test_a_thing_looks_at_the_end_as_it_was_said_to_look(pattern):
    found = sentences(pattern)
    assert len(found) > 20
    for before, (noun, look) in found:
        assert re.search(rf"\b{look} {noun}\b|The {noun} of \w+ is {look}\.", before, re.IGNORECASE)


def test_a_feeling_is_recalled_as_it_was_last_said():
    moods = "|".join(MOODS)
    found = sentences(rf"(\w+) still feels ({moods})\.")
    assert len(found) > 20
    for before, (name, mood) in found:
        told = [
            found.group("mood")
            for sentence in re.split(r"(?<=[.?])\s", before)
            if name in sentence and (found := re.search(rf"\b(?P<mood>{moods})\b", sentence))
        ]
        assert told[-1] == mood


def test_some_things_and_feelings_are_recalled_at_once_and_some_later():
    looks = [
        (before.rstrip(), noun, look)
        for pattern in (r"The (\w+) looks (\w+)\.", r"How does the (\w+) look\? It is (\w+)\.")
        for before, (noun, look) in sentences(pattern)
    ]
    at_once = [look in re.split(r"(?<=[.?])\s", before)[-1] for before, _, look in looks]
    assert 0.2 < sum(at_once) / len(at_once) < 0.95

"""Turn the facts of a story into prose, with dialogue, in one of many phrasings."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Final, NamedTuple

from pipelines.core.world.lexicon import ENDINGS, Place, article
from pipelines.core.world.phrases import EVENT_PHRASES, FEELING_PHRASES, REASON_PHRASES
from pipelines.core.world.simulation import Character, Event, Item, Story, choose

ENDING_SHARE: Final = 0.6
"""Share of narrations that close with one of `ENDINGS`; the others just stop."""
RAMBLE_SHARE: Final = 0.09
"""Share of narrations that say a sentence again and again."""
LOOK_SHARE: Final = 0.3
"""Share of mentions of a known thing that give its look once more: "the red drum" for "the drum"."""


class Part(NamedTuple):
    """A part of a phrasing: prose, or what somebody says. Texts have slots."""

    speaker: str
    verb: str
    text: str


@cache
def _parts(phrase: str) -> tuple[Part, ...]:
    parts = []
    for raw in phrase.split(" | "):
        if raw.startswith("@"):
            speaker, verb, text = raw[1:].split(":", 2)
            parts.append(Part(speaker, verb, text))
        else:
            parts.append(Part("", "", raw))
    return tuple(parts)


@cache
def _names(phrase: str, letter: str) -> bool:
    """Whether a phrasing mentions the thing of that letter."""
    return any(slot in phrase for slot in (f"{{{letter}}}", f"_{letter}}}", f"_{letter}0}}"))


_SHE: Final = ("she", "her", "her")
_HE: Final = ("he", "his", "him")


@cache
def _actor_slots(character: Character) -> Mapping[str, str]:
    he, his, him = _SHE if character.female else _HE
    paws = character.animal
    return MappingProxyType({
        "X": character.name, "he": he, "his": his, "him": him, "He": he.capitalize(), "himself": f"{him}self",
        "hands": "paws" if paws else "hands", "hand": "paw" if paws else "hand",
        "fists": "paws" if paws else "fists", "kin": character.kin, "trait": character.trait,
        "a_trait": article(character.trait),
    })  # fmt: skip


@cache
def _other_slots(character: Character) -> Mapping[str, str]:
    he, his, him = _SHE if character.female else _HE
    paws = character.animal
    return MappingProxyType({
        "Y": character.name, "yhe": he, "yhis": his, "yhim": him, "Yhe": he.capitalize(),
        "yhands": "paws" if paws else "hands", "yhand": "paw" if paws else "hand",
    })  # fmt: skip


@cache
def _place_slots(place: Place) -> Mapping[str, str]:
    at = f"{place.preposition} the {place.noun}"
    return MappingProxyType({
        "p": place.noun, "at": at, "At": at[0].upper() + at[1:], "to": f"to the {place.noun}", "sights": place.sights,
    })  # fmt: skip


def _story_slots(story: Story) -> dict[str, str]:
    """Slots that hold for the whole story: roles and props."""
    slots = dict(story.props)
    slots["a_weather"] = article(slots["weather"])
    for role, character in zip("abc", story.characters, strict=True):
        he, his, him = _SHE if character.female else _HE
        slots[role] = character.name
        slots[f"{role}he"], slots[f"{role}his"], slots[f"{role}him"] = he, his, him
    slots["Z"] = story.characters[2].name
    return slots


def gist_slots(story: Story) -> dict[str, str]:
    """Slots for the gists and reasons of a story: roles, props, things and places by letter."""
    slots = _story_slots(story)
    first, second = story.items
    slots.update(
        o=first.noun, u=second.noun, an_o=article(first.noun), an_u=article(second.noun),
        **_place_slots(story.places[0]),
    )  # fmt: skip
    there = _place_slots(story.places[1])
    slots.update(q=there["p"], atq=there["at"], toq=there["to"])
    return slots


def _item_slots(item: Item, known: bool, look: bool, letter: str) -> dict[str, str]:
    noun = item.noun
    full = f"{item.look} {noun}"
    the = (f"the {full}" if look else f"the {noun}") if known else article(full)
    return {
        letter: noun,
        f"the_{letter}": the,
        f"The_{letter}": the[0].upper() + the[1:],
        f"an_{letter}": f"the {full}" if known else article(full),
        f"an_{letter}0": article(noun),
        "a_look": article(item.look),
        "quality": item.quality,
    }


def _say(part: Part, words: str, speaker: str, rng: random.Random, script: bool) -> str:
    if script:
        return f"{speaker.upper()}: {words}"
    if rng.random() < 0.6:
        inner = words[:-1] + "," if words[-1] == "." else words
        return f'"{inner}" {part.verb} {speaker}.'
    return f'{speaker} {part.verb}, "{words}"'


def tell(event: Event, slots: dict[str, str], known: set[str], rng: random.Random, script: bool = False) -> list[str]:
    """Tell one event.

    Args:
        event: What happens.
        slots: Slots of the whole story.
        known: Nouns of the things already mentioned; grows.
        rng: Chooses the phrasing.
        script: Write speech as "LILY: ..." lines.

    Returns:
        Sentences, each a string that may hold several clauses.
    """
    if event.kind == "feel":
        phrases = REASON_PHRASES if event.why else FEELING_PHRASES[event.mood]
        # The first two phrasings name the feeling; they are told as often as all the others together.
        plain = not event.why and rng.random() < 0.4
        phrase = choose(rng, phrases[:2] if plain else phrases)
    else:
        phrase = choose(rng, EVENT_PHRASES[event.kind])
    item, second = event.item, event.second
    filled = {
        **slots,
        **_actor_slots(event.actor),
        **_other_slots(event.other),
        **_place_slots(event.place),
        **_item_slots(item, item.noun in known, rng.random() < LOOK_SHARE, "o"),
    }
    if _names(phrase, "u"):
        filled.update(_item_slots(second, second.noun in known, rng.random() < LOOK_SHARE, "u"))
        known.add(second.noun)
    if _names(phrase, "o"):
        known.add(item.noun)
    if event.mood:
        filled["mood"] = event.mood
        if event.why:
            # Names and nouns by role, whoever acts here.
            filled["why"] = event.why.format_map({**filled, "o": slots["_o"], "u": slots["_u"]})
    sentences = []
    for part in _parts(phrase):
        words = part.text.format_map(filled)
        words = words[0].upper() + words[1:]
        sentences.append(_say(part, words, filled[part.speaker], rng, script) if part.speaker else words)
    return sentences


def sentences_of(story: Story, rng: random.Random, script: bool = False) -> list[str]:
    """Tell a whole story, sentence by sentence; `narrate` joins them."""
    slots = _story_slots(story)
    slots["_o"], slots["_u"] = story.items[0].noun, story.items[1].noun
    known: set[str] = set()
    sentences: list[str] = []
    for event in story.events:
        sentences.extend(tell(event, slots, known, rng, script))
    if rng.random() < RAMBLE_SHARE:
        again = int(rng.random() * len(sentences))
        sentences[again:again] = [sentences[again]] * choose(rng, (1, 2, 2, 3))
    if rng.random() < ENDING_SHARE:
        sentences.append(choose(rng, ENDINGS))
    return sentences


def narrate(story: Story, rng: random.Random, script: bool = False) -> str:
    """Tell a story as one paragraph of text.

    The narrated world is mixed on purpose: about two in five narrations have no ending, about one in eleven rambles.

    Args:
        story: The facts.
        rng: Chooses the phrasings.
        script: Write one sentence a line, and speech as "LILY: ..." lines.
    """
    return ("\n" if script else " ").join(sentences_of(story, rng, script))


_BREAK: Final = re.compile(r'(?<=[.!?])"? (?=["A-Z])|\n')


def split_sentences(text: str) -> list[str]:
    """Split a narration into sentences; quotations are kept whole.

    Args:
        text: Prose or script.
    """
    sentences, start = [], 0
    for match in _BREAK.finditer(text):
        piece = text[start : match.end()]
        if piece.count('"') % 2 == 0:
            sentences.append(piece.strip())
            start = match.end()
    if text[start:].strip():
        sentences.append(text[start:].strip())
    return sentences

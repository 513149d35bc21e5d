"""Notes: dense documents of who has what, who is where and who feels how, with changes of state.

They restate facts on purpose. To predict the last line of "Tom has the drum. Tom gave the drum to Lily. Now Lily has
the drum." a model must look back, so that notes teach a small model to copy long before stories do.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from pipelines.core.world.lexicon import MOODS, NAMES, SEASONS, Lexicon, Place, article
from pipelines.core.world.simulation import Item, choose, draw_items

_HAS: Final = (
    "{x} has {an_o}.",
    "{x} owns {an_o}.",
    "{An_o} belongs to {x}.",
    "The {o} of {x} is {look}.",
    "{x} brought {an_o}.",
)
_HAS_NOW: Final = (
    "Now {x} has the {o}.",
    "So the {o} is with {x}.",
    "The {o} is now with {x}.",
    "The one who has the {o} is {x}.",
    "Who holds the {o} today? It is {x}.",
)
_GAVE: Final = (
    "{x} gave the {o} to {y}.",
    "{x} lent the {o} to {y}.",
    "{y} got the {o} from {x}.",
    "{x} handed the {o} over to {y}.",
    "The {o} went from {x} to {y}.",
)
_TOOK: Final = (
    "{y} took the {o} from {x}.",
    "{y} grabbed the {o} from {x}.",
    "Without asking, {y} took the {o} of {x}.",
    "{y} stole the {o} from {x}.",
)
_AT: Final = (
    "{x} is {at}.",
    "{x} sits {at}.",
    "You can find {x} {at}.",
    "{At} you will meet {x}.",
    "{x} is waiting {at}.",
)
_AT_NOW: Final = (
    "Now {x} is {at}.",
    "So {x} is {at} now.",
    "The place of {x} today: {at}.",
    "{x} stayed {at}.",
    "Look for {x} {at}.",
)
_WENT: Final = (
    "Then {x} went {to}.",
    "{x} walked {to}.",
    "At noon {x} left and went {to}.",
    "{x} moved on {to}.",
)
_FEELS: Final = (
    "{x} feels {mood}.",
    "{x} is {mood} today.",
    "{x} was {mood} all day.",
    "If you ask {x}, the answer is: {mood}.",
)
_FEELS_NOW: Final = (
    "Now {x} feels {mood}.",
    "So {x} is {mood} now.",
    "By evening {x} was {mood}.",
    "In the end {x} felt {mood}.",
)
_STILL_FEELS: Final = (
    "{x} still feels {mood}.",
    "How does {x} feel? Still {mood}.",
    "{x} went to bed {mood}.",
    "Nobody was as {mood} as {x}.",
)
_LOOKS: Final = (
    "The {o} looks {look}.",
    "The {o} is still {look}.",
    "How does the {o} look? It is {look}.",
    "You know the {o} when you see it: it is {look}.",
)
_LOST: Final = (
    "{x} lost the {o} {at}.",
    "{x} left the {o} {at}.",
    "{x} put the {o} down {at}.",
    "{x} forgot the {o} {at}.",
)
_LIES: Final = (
    "The {o} is {at}.",
    "So the {o} lies {at}.",
    "If you want the {o}, look {at}.",
    "Now the {o} is {at}, and nobody has it.",
)

_HEADS: Final = MappingProxyType(
    {
        "list": (
            "A list of who has what and who is where.",
            "Notes of the day.",
            "What we know today:",
            "The roll call:",
        ),
        "letter": (
            "Dear {reader}, here is the news.",
            "Dear {reader}, you asked how we are.",
            "Hello {reader}, let me tell you about us.",
            "My dear {reader}, so much has changed.",
        ),
        "diary": (
            "Dear diary, this was {a_weather} day.",
            "Diary of a {weather} day.",
            "Today was {weather}, dear diary.",
        ),
        "inventory": ("Inventory of the {p}.", "Who has what near the {p}:", "Lost and found book of the {p}."),
        "report": (
            "The watchman wrote this report.",
            "Report of a {weather} day.",
            "The teacher wrote this on the board.",
        ),
    }
)
_TAILS: Final = MappingProxyType(
    {
        "list": ("That is all.", "End of the list.", ""),
        "letter": ("Yours, {writer}", "With love from {writer}", "Write soon! Your friend {writer}"),
        "diary": ("Good night, diary.", "More tomorrow.", ""),
        "inventory": ("Signed by {writer}.", "Nothing else was counted.", ""),
        "report": ("End of the report.", "All is well.", ""),
    }
)


@dataclass
class _Register:
    """The state that a note keeps: holders, places and feelings."""

    rng: random.Random
    lexicon: Lexicon
    names: list[str]
    items: tuple[Item, ...]
    holders: dict[str, str]
    whereabouts: dict[str, Place]
    feelings: dict[str, str]

    def say(self, phrases: tuple[str, ...], **slots: str) -> str:
        words = choose(self.rng, phrases).format_map(slots)
        return words[0].upper() + words[1:]

    def another(self, than: str) -> str:
        return choose(self.rng, [name for name in self.names if name != than])

    def open_facts(self) -> list[str]:
        """Who has what, who is where, who feels how, in mixed order."""
        facts = []
        for item in self.items:
            self.holders[item.noun] = choose(self.rng, self.names)
            full = article(f"{item.look} {item.noun}")
            fact = self.say(
                _HAS, x=self.holders[item.noun], o=item.noun, look=item.look, an_o=full, An_o=full.capitalize(),
            )  # fmt: skip
            facts.append(self._again(fact, _LOOKS, o=item.noun, look=item.look))
        for name in self.names:
            if self.rng.random() < 0.7:
                place = choose(self.rng, self.lexicon.places)
                facts.append(self._again(self._stand(name, place, _AT), _AT_NOW, x=name, **_standing(place)))
            if self.rng.random() < 0.7:
                self.feelings[name] = choose(self.rng, MOODS)
                fact = self.say(_FEELS, x=name, mood=self.feelings[name])
                facts.append(self._again(fact, _STILL_FEELS, x=name, mood=self.feelings[name]))
        self.rng.shuffle(facts)
        return facts

    def _again(self, fact: str, phrases: tuple[str, ...], **slots: str) -> str:
        """The fact, and now and then the same at once in other words: near recalls are learnt before far ones."""
        return f"{fact} {self.say(phrases, **slots)}" if self.rng.random() < 0.4 else fact

    def _stand(self, name: str, place: Place, phrases: tuple[str, ...]) -> str:
        self.whereabouts[name] = place
        return self.say(phrases, x=name, **_standing(place))

    def change(self) -> list[str]:
        """One change of state, and what holds after it."""
        dice = self.rng.random()
        if dice < 0.55:
            noun = choose(self.rng, list(self.holders))
            giver = self.holders[noun]
            taker = self.another(giver)
            self.holders[noun] = taker
            deed = self.say(_TOOK if self.rng.random() < 0.35 else _GAVE, x=giver, y=taker, o=noun)
            return [deed, self.say(_HAS_NOW, x=taker, o=noun)]
        if dice < 0.85 or not self.feelings:
            name = choose(self.rng, self.names)
            place = choose(self.rng, self.lexicon.places)
            return [self._stand(name, place, _WENT), self._stand(name, place, _AT_NOW)]
        name = choose(self.rng, list(self.feelings))
        self.feelings[name] = choose(self.rng, MOODS)
        return [self.say(_FEELS_NOW, x=name, mood=self.feelings[name])]

    def lay_down(self) -> list[str]:
        """Somebody leaves a thing behind."""
        noun = choose(self.rng, list(self.holders))
        place = choose(self.rng, self.lexicon.places)
        at = f"{place.preposition} the {place.noun}"
        name = self.holders.pop(noun)
        return [self.say(_LOST, x=name, o=noun, at=at), self.say(_LIES, o=noun, at=at)]

    def recap(self) -> list[str]:
        """Who has what in the end, who is where and feels how, and how things look."""
        facts = [self.say(_HAS_NOW, x=name, o=noun) for noun, name in self.holders.items()]
        facts += [
            self.say(_AT_NOW, x=name, **_standing(place))
            for name, place in self.whereabouts.items()
            if self.rng.random() < 0.5
        ]
        facts += [
            self.say(_STILL_FEELS, x=name, mood=mood) for name, mood in self.feelings.items() if self.rng.random() < 0.8
        ]
        facts += [self.say(_LOOKS, o=item.noun, look=item.look) for item in self.items if self.rng.random() < 0.5]
        self.rng.shuffle(facts)
        return facts


def _standing(place: Place) -> dict[str, str]:
    at = f"{place.preposition} the {place.noun}"
    return {"at": at, "At": at.capitalize(), "to": f"to the {place.noun}"}


def write_note(
    rng: random.Random, season: str = "home", admits: Callable[[str], bool] | None = None, script: bool = False
) -> str:
    """Write one note.

    Args:
        rng: Source of all randomness.
        season: A key of `SEASONS`.
        admits: Casts are drawn again until `admits(signature)` is true; the signature names the first two characters,
            the first thing and the place of the first character, as that of a story does.
        script: Write one fact a line.

    Raises:
        ValueError: The season is unknown.
    """
    if season not in SEASONS:
        raise ValueError(f"season is {season!r}: choose one of {', '.join(SEASONS)}")
    lexicon = SEASONS[season]
    num_names, num_items = choose(rng, (2, 3, 3, 4)), choose(rng, (1, 2, 2, 3))
    while True:
        names = rng.sample(NAMES, num_names)
        items = draw_items(rng, lexicon, num_items)
        place = choose(rng, lexicon.places)
        if admits is None or admits(f"{names[0]} {names[1]} {items[0].noun} {place.noun}"):
            break
    form = choose(rng, tuple(_HEADS))
    weather = choose(rng, lexicon.weathers)
    others = [name for name in NAMES if name not in names]
    slots = {
        "reader": choose(rng, others), "writer": choose(rng, others), "p": place.noun, "weather": weather,
        "a_weather": article(weather),
    }  # fmt: skip
    register = _Register(rng, lexicon, names, items, {}, {}, {})
    at = f"{place.preposition} the {place.noun}"
    lines = [choose(rng, _HEADS[form]).format_map(slots)]
    lines += [f"{names[0]} and {names[1]} met {at}."]
    lines += register.open_facts()
    for _ in range(choose(rng, (1, 2, 3, 4))):
        lines += register.change()
    if rng.random() < 0.3:
        lines += register.lay_down()
    if rng.random() < 0.6:
        lines += register.recap()
    lines.append(choose(rng, _TAILS[form]).format_map(slots))
    by_line = script or (form in ("list", "inventory") and rng.random() < 0.5)
    return ("\n" if by_line else " ").join(line for line in lines if line)

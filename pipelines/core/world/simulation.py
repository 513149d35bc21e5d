"""Simulate one story: draw a cast, let a plot run, and keep who holds what, who is where and who feels what."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final, TypeVar

from pipelines.core.world.lexicon import BOYS, MOODS, NAMES, SEASONS, Lexicon, Place
from pipelines.core.world.plots import PLOTS, Outcome, Step

_T = TypeVar("_T")

ANIMAL_SHARE: Final = 0.4
"""Share of characters that are animals; the others are girls and boys."""

RECAP_SHARE: Final = 0.35
"""Share of stories, of those where nobody runs off, that say at the end where the main character is."""


@dataclass(frozen=True, slots=True)
class Character:
    """Somebody in a story. `kin` is what they are ("girl", "fox"), `trait` what they are like."""

    name: str
    kin: str
    trait: str
    female: bool
    animal: bool


@dataclass(frozen=True, slots=True)
class Item:
    """A thing in a story: its noun, its look ("red") and what is true of it."""

    noun: str
    look: str
    quality: str


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happens.

    Attributes:
        kind: The kind of event, a key of `EVENT_PHRASES`, or "feel".
        actor: Who acts.
        other: To whom, or whose companion; the main character's opposite where the event names nobody.
        item: The thing concerned.
        second: A second thing, in trades.
        place: Where it happens.
        cause: Index of the event that brought this one about; None for a beginning.
        mood: What the actor feels, for "feel".
        why: Why, as a clause with slots; empty where the text does not say.
    """

    kind: str
    actor: Character
    other: Character
    item: Item
    second: Item
    place: Place
    cause: int | None = None
    mood: str = ""
    why: str = ""


@dataclass(frozen=True)
class Story:
    """The facts of one story; `narrate` turns them into text.

    Attributes:
        season: The lexicon and plots it was drawn from.
        plot: Name of the plot schema.
        characters: Main character, the other, somebody else (who is seldom mentioned).
        places: Where it starts, and another place (which not every plot visits).
        items: The thing it is about, and a second one (which not every plot uses).
        props: Small matters: game, snack, pet, ... by name.
        events: What happens, in order.
        mood: What the main character feels at the end; one of `MOODS`.
        other_mood: What the other character feels at the end.
        kind: Whether the conduct is kind.
        gists: The story in one clause, several phrasings with slots.
        holders: Final (thing, name of its holder) pairs, for things that somebody holds.
        whereabouts: Final (name, place) pairs.
    """

    season: str
    plot: str
    characters: tuple[Character, ...]
    places: tuple[Place, ...]
    items: tuple[Item, ...]
    props: tuple[tuple[str, str], ...]
    events: tuple[Event, ...]
    mood: str
    other_mood: str
    kind: bool
    gists: tuple[str, ...]
    holders: tuple[tuple[str, str], ...]
    whereabouts: tuple[tuple[str, str], ...]

    @property
    def signature(self) -> str:
        """What decides the split of a story: both names, the thing and the place."""
        return signature(self.characters, self.items[0], self.places[0])


def signature(characters: Sequence[Character], item: Item, place: Place) -> str:
    """The fact signature of a cast; every part of it is named in the text.

    Args:
        characters: At least two; the first two count.
        item: The thing the text is about.
        place: Where it starts.
    """
    return f"{characters[0].name} {characters[1].name} {item.noun} {place.noun}"


def choose(rng: random.Random, options: Sequence[_T]) -> _T:
    """One of the options, uniformly; a quicker `random.choice` (a thousandth of a per cent of bias at most)."""
    return options[int(rng.random() * len(options))]


def choose_two(rng: random.Random, options: Sequence[_T]) -> tuple[_T, _T]:
    """Two different options, uniformly."""
    first = int(rng.random() * len(options))
    second = int(rng.random() * (len(options) - 1))
    return options[first], options[second + (second >= first)]


def draw_character(rng: random.Random, name: str, lexicon: Lexicon) -> Character:
    """Give a name its kind and trait.

    Args:
        rng: Source of randomness.
        name: One of `NAMES`.
        lexicon: The season's words.
    """
    animal = rng.random() < ANIMAL_SHARE
    female = name not in BOYS
    kin = choose(rng, lexicon.animals) if animal else ("girl" if female else "boy")
    return Character(name, kin, choose(rng, lexicon.traits), female, animal)


def draw_items(rng: random.Random, lexicon: Lexicon, count: int) -> tuple[Item, ...]:
    """Different things, each with a look.

    Args:
        rng: Source of randomness.
        lexicon: The season's words.
        count: How many.
    """
    things = choose_two(rng, lexicon.things) if count == 2 else rng.sample(lexicon.things, count)
    return tuple(Item(thing.noun, choose(rng, lexicon.looks), thing.quality) for thing in things)


@cache
def _arrivals() -> frozenset[str]:
    """Kinds of events that bring the actor to where the other is."""
    return frozenset(("come", "with", "late", "rescue", "row_over", "ice_rescue", "noise_solved", "trick", "guide"))


_MOVES: Final = frozenset(("go", "run_off", "follow", "win", "hide_self", "dig", "find_again"))
_MOVES_BOTH: Final = frozenset(("go_both", "win", "seek_found"))
_ACQUIRES: Final = frozenset(("have", "have_u", "find", "make", "buy", "errand", "borrow", "win", "dig", "find_again"))
_HANDS_OVER: Final = frozenset(("give", "return", "keepsake", "deliver", "reward"))
_DESTROYS: Final = frozenset(("lose", "never_found", "throw_away"))
_NEEDS_HOLDER: Final = frozenset(
    (
        "share",
        "recap_has",
        "refuse",
        "keep_secret",
        "steal",
        "lose",
        "break",
        "build_top",
        "rescue",
        "guide",
        "last_wood",
        "hog_stove",
        "no_goodbye",
        "snowman_dress",
        "row_over",
        "ice_rescue",
        "keepsake",
        "deliver",
        "return",
    )
)


class InconsistentPlotError(RuntimeError):
    """A plot lets somebody act on a thing that they do not hold: our mistake in `plots.py`."""


@dataclass
class _World:
    """The state that events change while a plot runs."""

    rng: random.Random
    characters: dict[str, Character]
    items: dict[str, Item]
    places: dict[str, Place]
    holders: dict[str, str] = field(default_factory=dict)
    whereabouts: dict[str, Place] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def run(self, steps: tuple[tuple[Step, ...], ...]) -> None:
        """Let the steps happen, in order."""
        for options in steps:
            step = options[0] if len(options) == 1 else choose(self.rng, options)
            if step.optional and self.rng.random() < 0.6:
                continue
            self.happen(step)

    def happen(self, step: Step) -> None:
        """Let one step happen: change the state, then write the event down."""
        actor = self.characters[step.actor]
        other = self.characters[step.other or ("b" if step.actor == "a" else "a")]
        item = self.items[step.thing[:1] or "o"]
        second = self.items[step.thing[1:2] or "u"]
        place = self.places[step.place] if step.place else self.whereabouts.get(actor.name, self.places["p"])
        if step.kind in _arrivals() and not step.place:
            place = self.whereabouts.get(other.name, place)
        self._move(step, actor, other, place)
        self._hand_over(step, actor, other, item, second)
        cause = len(self.events) - 1 if self.events else None
        if step.kind in MOODS:
            self.events.append(Event("feel", actor, other, item, second, place, cause, step.kind))
        else:
            self.events.append(Event(step.kind, actor, other, item, second, place, cause))

    def _move(self, step: Step, actor: Character, other: Character, place: Place) -> None:
        self.whereabouts.setdefault(actor.name, place)
        if step.kind in _MOVES or step.kind in _arrivals():
            self.whereabouts[actor.name] = place
        if step.kind in _MOVES_BOTH:
            self.whereabouts[actor.name] = self.whereabouts[other.name] = place

    def _hand_over(self, step: Step, actor: Character, other: Character, item: Item, second: Item) -> None:
        kind, holders, noun = step.kind, self.holders, item.noun
        if kind in _NEEDS_HOLDER and holders.get(noun) != actor.name:
            raise InconsistentPlotError(f"{kind}: {actor.name} does not hold the {noun}, {holders.get(noun)} does")
        if kind in _ACQUIRES:
            holders[noun] = actor.name
        elif kind in _HANDS_OVER:
            if holders.get(noun, actor.name) != actor.name:
                raise InconsistentPlotError(f"{kind}: {actor.name} does not hold the {noun}")
            holders[noun] = other.name
        elif kind == "grab":
            if step.thing and holders.get(noun) != other.name:
                raise InconsistentPlotError(f"grab: {other.name} does not hold the {noun}")
            holders[noun] = actor.name
        elif kind == "swap":
            holders[noun], holders[second.noun] = other.name, actor.name
        elif kind in _DESTROYS:
            holders.pop(noun, None)


def _draw_props(rng: random.Random, lexicon: Lexicon) -> tuple[tuple[str, str], ...]:
    return (
        ("weather", choose(rng, lexicon.weathers)),
        ("time", choose(rng, lexicon.times)),
        ("game", choose(rng, lexicon.games)),
        ("building", choose(rng, lexicon.buildings)),
        ("plant", choose(rng, lexicon.plants)),
        ("pet", choose(rng, lexicon.pets)),
        ("skill", choose(rng, lexicon.skills)),
        ("snack", choose(rng, lexicon.snacks)),
        ("noise", choose(rng, lexicon.noises)),
    )


def _choose_outcome(rng: random.Random, kind_outcomes: Sequence[Outcome], unkind: Sequence[Outcome]) -> Outcome:
    """Kind or unkind by the toss of a coin, so that the narrated world is mixed."""
    return choose(rng, kind_outcomes if rng.random() < 0.5 else unkind)


def simulate(rng: random.Random, season: str = "home", admits: Callable[[str], bool] | None = None) -> Story:
    """Draw a cast and a plot, and let the plot run.

    Names, things and places are drawn before the plot and independently of it.

    Args:
        rng: Source of all randomness; the same state gives the same story.
        season: A key of `SEASONS`.
        admits: Casts are drawn again until `admits(signature)` is true; None admits every cast.

    Raises:
        ValueError: The season is unknown.
    """
    if season not in SEASONS:
        raise ValueError(f"season is {season!r}: choose one of {', '.join(SEASONS)}")
    lexicon = SEASONS[season]
    while True:
        names = rng.sample(NAMES, 3)
        things = choose_two(rng, lexicon.things)
        places = choose_two(rng, lexicon.places)
        if admits is None or admits(f"{names[0]} {names[1]} {things[0].noun} {places[0].noun}"):
            break
    cast = tuple(draw_character(rng, name, lexicon) for name in names)
    items = tuple(Item(thing.noun, choose(rng, lexicon.looks), thing.quality) for thing in things)
    props = _draw_props(rng, lexicon)
    plot = choose(rng, PLOTS[season])
    outcome = _choose_outcome(rng, plot.kind_outcomes, plot.unkind_outcomes)

    world = _World(
        rng,
        dict(zip("abc", cast, strict=True)),
        dict(zip("ou", items, strict=True)),
        dict(zip("pq", places, strict=True)),
    )
    world.happen(Step("open", "a", "b", "", "p", optional=False))
    world.run(plot.setup)
    world.run(outcome.steps)
    if plot.stays and rng.random() < RECAP_SHARE:
        world.happen(Step("recap_where", "a", "b", "", "", optional=False))
    mood, other_mood = choose(rng, outcome.moods), choose(rng, outcome.other_moods)
    _feel_at_the_end(world, mood, other_mood, outcome)
    return Story(
        season=season,
        plot=plot.name,
        characters=cast,
        places=places,
        items=items,
        props=props,
        events=tuple(world.events),
        mood=mood,
        other_mood=other_mood,
        kind=outcome.kind,
        gists=outcome.gists,
        holders=tuple(world.holders.items()),
        whereabouts=tuple((name, place.noun) for name, place in world.whereabouts.items()),
    )


def _feel_at_the_end(world: _World, mood: str, other_mood: str, outcome: Outcome) -> None:
    """Both characters feel something at the end, the main one last: that is the mood with which the story ends."""
    first, second = world.characters["a"], world.characters["b"]
    place, (item, other_item) = world.places["p"], (world.items["o"], world.items["u"])
    cause = len(world.events) - 1
    why = choose(world.rng, outcome.whys) if world.rng.random() < 0.5 else ""
    world.events += [
        Event("feel", second, first, item, other_item, place, cause, other_mood),
        Event("feel", first, second, item, other_item, place, cause, mood, why),
    ]

"""The words of the tales: who, what and where there is, season by season, and the markers that judges look for.

Sixteen names only: a model of a million parameters learns to copy a name within minutes when there are few of them,
and hardly at all when there are many. Richness comes from plots, places, things and phrasings.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

MOODS: Final = ("happy", "sad", "angry", "scared", "proud")
"""The feelings a character can end a story with; also the classes of the mood task."""

GIRLS: Final = ("Lily", "Mia", "Anna", "Ruby", "Nora", "Ella", "Zoe", "Ivy")
BOYS: Final = ("Tom", "Ben", "Sam", "Max", "Leo", "Finn", "Jack", "Oscar")
NAMES: Final = GIRLS + BOYS

KIND_MARKERS: Final = frozenset(
    [
        "please",
        "thank",
        "thanked",
        "thanks",
        "sorry",
        "shared",
        "sharing",
        "helped",
        "helping",
        "hugged",
        "hug",
        "kindly",
        "kind",
        "kindness",
        "gently",
        "gentle",
        "comforted",
        "forgave",
        "forgive",
        "welcome",
        "together",
        "cheered",
        "politely",
        "welcomed",
        "praised",
        "apologised",
    ]
)
"""Words whose presence a judge reads as kindness. Single words, lower case."""

UNKIND_MARKERS: Final = frozenset(
    [
        "grabbed",
        "snatched",
        "shouted",
        "mocked",
        "pushed",
        "mean",
        "rude",
        "rudely",
        "selfish",
        "stupid",
        "sneered",
        "kicked",
        "greedy",
        "lied",
        "teased",
        "nasty",
        "mine",
        "refused",
        "cheated",
        "ignored",
        "cruel",
        "jeered",
        "yelled",
        "hissed",
        "boasted",
        "loser",
        "tripped",
        "unkind",
        "stole",
    ]
)
"""Words whose presence a judge reads as unkindness. Single words, lower case."""

ENDINGS: Final = (
    "The end.",
    "And that was the end of the story.",
    "That was the end of a long day.",
    "And so the day came to an end.",
    "Then everyone went home for supper.",
    "And that is how the story ends.",
    "Soon the stars came out, and the tale was done.",
    "Nobody ever forgot that day.",
    "And so our little tale is over.",
    "That night they all slept well.",
    "It was a day to remember for ever.",
    "The sun went down, and the day was over.",
    "From that day on, they remembered to be kind.",
    "A little kindness goes a long way.",
)
"""Sentences that close a story properly. Narration writes them and the gold scorer looks for them."""


@dataclass(frozen=True)
class Place:
    """A place: its noun, the preposition that puts somebody there, and what there is to see."""

    noun: str
    preposition: str
    sights: str


@dataclass(frozen=True)
class Thing:
    """A thing that can be carried: its noun and what is true of it, as a verb phrase in the past tense."""

    noun: str
    quality: str


@dataclass(frozen=True)
class Lexicon:
    """The words of one season."""

    places: tuple[Place, ...]
    things: tuple[Thing, ...]
    looks: tuple[str, ...]
    weathers: tuple[str, ...]
    times: tuple[str, ...]
    traits: tuple[str, ...]
    animals: tuple[str, ...]
    pets: tuple[str, ...]
    snacks: tuple[str, ...]
    skills: tuple[str, ...]
    buildings: tuple[str, ...]
    games: tuple[str, ...]
    plants: tuple[str, ...]
    noises: tuple[str, ...]


def _places(text: str) -> tuple[Place, ...]:
    rows = (line.split("|") for line in text.strip().splitlines())
    return tuple(Place(noun.strip(), preposition.strip(), sights.strip()) for noun, preposition, sights in rows)


def _things(text: str) -> tuple[Thing, ...]:
    rows = (line.split("|") for line in text.strip().splitlines())
    return tuple(Thing(noun.strip(), quality.strip()) for noun, quality in rows)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))


_HOME_PLACES: Final = _places("""
barn|in|hay and sleepy hens
garden|in|roses and busy bees
kitchen|in|pots and warm smells
forest|in|tall pines and soft moss
park|in|benches and fat pigeons
attic|in|trunks and cobwebs
library|in|shelves and comfortable chairs
meadow|in|daisies and grasshoppers
school|at|desks and colourful drawings
market|at|stalls and ripe fruit
river|by|smooth stones and little fish
pond|by|frogs and lily pads
farm|on|cows and muddy tracks
cellar|in|barrels and dark corners
castle|in|stone walls and long halls
orchard|in|apple trees and fallen leaves
bakery|in|loaves and sugar buns
stable|in|horses and clean straw
cave|in|echoes and dripping water
tower|in|winding stairs and narrow windows
bridge|on|wooden planks and noisy ducks
hill|on|thistles and grazing sheep
playground|on|swings and laughing children
station|at|trains and hurrying people
museum|in|statues and strange bones
treehouse|in|knotted boards and secret notes
greenhouse|in|ferns and tiny seedlings
workshop|in|nails and curly wood shavings
""")

_HOME_THINGS: Final = _things("""
drum|made a deep boom
kite|had a long tail
ball|bounced very high
lamp|gave a soft light
book|was full of pictures
doll|had curly hair
hat|had a wide brim
scarf|was as long as a snake
basket|had two strong handles
bell|rang as clear as glass
flute|played a sweet tune
whistle|was louder than a blackbird
wagon|rolled on four wheels
puzzle|had a hundred pieces
robot|could walk and blink
clock|ticked day and night
mirror|shone like water
umbrella|opened with a snap
cup|never spilled a drop
spoon|was carved with stars
key|fitted a secret door
coin|showed the face of a king
ring|sparkled in the light
feather|came from a rare bird
marble|had a swirl inside
bucket|held a lot of sand
shovel|dug deep holes
brush|painted thick lines
puppet|danced on strings
crown|was fit for a queen
mask|had a funny nose
necklace|was made of beads
blanket|kept everyone warm
pillow|was stuffed with down
lantern|burned all night
compass|always pointed north
telescope|could show the moon
guitar|had six strings
trumpet|sounded like an elephant
backpack|had nine pockets
jar|was sealed with wax
candle|smelled of honey
button|came from a giant coat
ribbon|was made of silk
""")

_SEA_PLACES: Final = _places("""
harbour|in|masts and coiled cables
beach|on|pebbles and salty foam
lighthouse|in|spiral steps and thick glass
island|on|palms and screeching parrots
reef|on|coral and orange fish
dune|on|sharp grass and white sand
pier|on|fishermen and hungry seagulls
cove|in|seaweed and hidden rocks
lagoon|by|turtles and turquoise ripples
cabin|in|bunks and creaking beams
deck|on|sails and polished brass
dock|on|crates and tar
boathouse|in|oars and upturned dinghies
wreck|on|barnacles and rotten timber
cliff|on|puffins and howling gusts
grotto|in|glowing algae and cold puddles
shipyard|in|hulls and clanging hammers
jetty|on|mussels and wet boards
raft|on|logs and tangled twine
sandbank|on|sleeping seals and driftwood
""")

_SEA_THINGS: Final = _things("""
anchor|was crusted with salt
oar|cut through the waves
net|caught silver herring
shell|whispered like the ocean
pearl|gleamed like the moon
spyglass|showed ships far away
bottle|had a letter inside
sail|billowed in the breeze
paddle|was painted by pirates
harpoon|belonged to a whaler
flag|fluttered in the storm wind
conch|boomed like a foghorn
lifebelt|floated on any tide
buoy|bobbed up and down
starfish|had five bumpy arms
chest|was locked with iron
cutlass|was made of cardboard
hammock|swung from side to side
snorkel|came from a diver
trident|had three golden points
barometer|told the captain of storms
seahorse|was carved from ivory
""")

_WINTER_PLACES: Final = _places("""
igloo|in|ice blocks and reindeer skins
glacier|on|blue cracks and powder snow
chalet|in|antlers and a roaring fire
slope|on|ski tracks and frozen firs
rink|on|skaters and glittering ice
hut|in|firewood and thick rugs
valley|in|snowdrifts and wolf prints
summit|on|icicles and biting gales
lodge|in|fur boots and cocoa steam
bakery|in|gingerbread and cinnamon stars
chapel|in|choirs and holly wreaths
fjord|by|steep rocks and grey ice
tundra|on|lichen and arctic hares
den|in|bear cubs and dry leaves
mountain|on|avalanche signs and eagles
church|in|carols and brass angels
""")

_WINTER_THINGS: Final = _things("""
sled|raced down every slope
mitten|was knitted by a grandmother
snowball|was as round as an orange
skate|had a very sharp blade
sleigh|jingled as it moved
wreath|was tied with holly
icicle|dripped in the sun
snowshoe|was woven from leather
thermos|kept the cocoa hot
carrot|was meant for a snowman
stocking|was stuffed with nuts
ornament|glittered on the tree
sweater|itched a little
shawl|was warmer than toast
bauble|was thinner than paper
nutcracker|had a fierce jaw
earmuff|was lined with fur
snowflake|was cut from paper
""")

_LOOKS: Final = _words(
    "red, blue, green, yellow, purple, orange, pink, white, black, brown, silver, golden, tiny, big, shiny, old, new, "
    "soft, round, striped, spotted, dusty, heavy, pretty, crooked, lovely"
)
_TRAITS: Final = _words(
    "curious, brave, quiet, cheerful, clever, shy, busy, playful, stubborn, dreamy, careful, lively, patient, "
    "restless, thoughtful, sleepy, funny, bold, hungry, lonely, chatty, serious, merry"
)

_HOME: Final = Lexicon(
    places=_HOME_PLACES,
    things=_HOME_THINGS,
    looks=_LOOKS,
    weathers=_words(
        "sunny, rainy, windy, cloudy, warm, cold, foggy, bright, grey, mild, misty, frosty, hot, dry, breezy, gloomy"
    ),
    times=_words("morning, afternoon, evening, day, Monday, Tuesday, Saturday, Sunday, spring day, autumn day"),
    traits=_TRAITS,
    animals=_words("fox, rabbit, bear, mouse, badger, hedgehog, squirrel, cat, goat, wolf, duck, raccoon"),
    pets=_words("robin, kitten, puppy, sparrow, lamb, pony, butterfly, turtle, hamster, piglet, chick, lizard"),
    snacks=_words("pie, cake, loaf, pancake, muffin, pudding, pizza, soup, tart, sandwich, salad, biscuit"),
    skills=_words("swim, sing, juggle, dance, climb, paint, knit, skip, dive, cook, sew, ride"),
    buildings=_words("fort, cottage, wall, dam, model, tent, palace, rocket, maze, fence, shelter, pyramid"),
    games=_words("tag, chess, catch, cards, marching, hopscotch, dominoes, leapfrog, pirates, shopkeeping"),
    plants=_words("sunflower, bean, tulip, pumpkin, tomato, cherry, radish, rose, pear, melon"),
    noises=_words("growl, creak, rustle, thump, scratch, howl, bang, whisper, knock, rattle, squeak, moan"),
)

_SEA: Final = Lexicon(
    places=_SEA_PLACES,
    things=_SEA_THINGS,
    looks=_words(
        "coral, turquoise, salty, rusty, barnacled, slippery, pearly, sandy, wet, ancient, golden, silver, patched, "
        "foreign, scarlet, faded"
    ),
    weathers=_words("stormy, salty, breezy, blustery, calm, hazy, drizzly, scorching, thundery, windless"),
    times=_words("dawn, dusk, noon, high tide, low tide, summer day, summer evening"),
    traits=_words("seasick, tanned, daring, sunburnt, freckled, hardy, jolly, watchful, salty, barefoot, weathered"),
    animals=_words("seal, otter, penguin, crab, dolphin, pelican, walrus, gull, turtle, octopus"),
    pets=_words("gull, dolphin, pelican, seal, lobster, jellyfish, parrot, crab"),
    snacks=_words("chowder, kelp stew, fish pie, coconut cake, shrimp roll, sea soup"),
    skills=_words("row, surf, navigate, float, fish, tie knots, steer"),
    buildings=_words("sandcastle, galley, canoe, breakwater, beacon, seawall"),
    games=_words("pirates, treasure hunting, beachball, skimming stones, sailors"),
    plants=_words("palm, sea fern, mango, coconut, lotus, samphire"),
    noises=_words("splash, foghorn, screech, gurgle, roar, groan"),
)

_WINTER: Final = Lexicon(
    places=_WINTER_PLACES,
    things=_WINTER_THINGS,
    looks=_words(
        "frosty, woollen, knitted, glittering, snowy, crisp, sparkling, tartan, icy, fluffy, silver, scarlet, thick, "
        "padded"
    ),
    weathers=_words("snowy, freezing, frosty, bitter, wintry, sleety, chilly, dark, crisp, white"),
    times=_words("December day, January morning, winter evening, night, holiday, Christmas morning"),
    traits=_words("chilly, rosy, jolly, bundled, snug, hardy, shivering, sturdy, festive, merry"),
    animals=_words("reindeer, penguin, hare, husky, lynx, moose, snow fox, bear"),
    pets=_words("robin, husky, hare, fawn, kitten, snow finch, reindeer"),
    snacks=_words("gingerbread, hot stew, mince pie, cocoa cake, chestnut soup, plum pudding"),
    skills=_words("ski, glide, sledge, knit, whittle, carol"),
    buildings=_words("snow fort, snow palace, snow den, toboggan, campfire, snow wall"),
    games=_words("snow tag, curling, carol singing, sledging, hockey"),
    plants=_words("holly, fir, snowdrop, pine, mistletoe"),
    noises=_words("crack, howl, jingle, crunch, crackle, rumble"),
)

SEASONS: Final = MappingProxyType({"home": _HOME, "sea": _SEA, "winter": _WINTER})
"""The seasons: `home` is what a model is trained on; `sea` and `winter` are drift on demand."""

THING_NOUNS: Final = frozenset(thing.noun for season in SEASONS.values() for thing in season.things)
PLACE_NOUNS: Final = frozenset(place.noun for season in SEASONS.values() for place in season.places)


def article(phrase: str) -> str:
    """Put "a" or "an" before a noun phrase."""
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"

"""The plot schemas: what may happen, in order, and how it may turn out.

A plot has a setup and several outcomes. Setup and outcomes are written as steps, `kind roles.thing@place`: `give ab.o`
reads "a gives thing o to b", `go a@q` reads "a goes to place q". Roles are `a` (the main character), `b` (the other)
and `c` (somebody else); things are `o` and `u`; places are `p` and `q`. A step that begins with `?` happens half of the
time; `x/y` chooses one of two steps. Names, things and places are drawn independently of the plot, so that no answer
can be guessed from the plot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Step:
    """One step of a plot: the kind of event, the roles of those who take part, the thing and the place."""

    kind: str
    actor: str
    other: str
    thing: str
    place: str
    optional: bool


@dataclass(frozen=True)
class Outcome:
    """One way in which a plot turns out.

    Attributes:
        kind: Whether the characters' conduct is kind.
        moods: What the main character may feel at the end.
        other_moods: What the other character may feel at the end.
        steps: Alternatives of one step each, in order.
        gists: The story in one clause, several phrasings.
        whys: Reasons for the main character's feeling, as clauses that follow "because".
    """

    kind: bool
    moods: tuple[str, ...]
    other_moods: tuple[str, ...]
    steps: tuple[tuple[Step, ...], ...]
    gists: tuple[str, ...]
    whys: tuple[str, ...]


@dataclass(frozen=True)
class Plot:
    """A schema: its name, how it begins and its outcomes, kind ones and unkind ones.

    `stays` tells whether the main character may be said to stay where they are at the end.
    """

    name: str
    stays: bool
    setup: tuple[tuple[Step, ...], ...]
    kind_outcomes: tuple[Outcome, ...]
    unkind_outcomes: tuple[Outcome, ...]


def _step(text: str) -> Step:
    optional = text.startswith("?")
    kind, _, rest = text.lstrip("?").partition(" ")
    rest, _, place = rest.partition("@")
    roles, _, thing = rest.partition(".")
    return Step(kind, roles[:1] or "a", roles[1:2], thing, place, optional)


def _steps(text: str) -> tuple[tuple[Step, ...], ...]:
    return tuple(tuple(_step(option.strip()) for option in part.split("/")) for part in text.split(";") if part.strip())


def _outcome(kind: bool, moods: str, other_moods: str, steps: str, gist: str, why: str) -> Outcome:
    return Outcome(
        kind,
        tuple(moods.split()),
        tuple(other_moods.split()),
        _steps(steps),
        tuple(part.strip() for part in gist.split("|")),
        tuple(part.strip() for part in why.split("|")),
    )


def _kind(moods: str, other_moods: str, steps: str, gist: str, why: str) -> Outcome:
    return _outcome(True, moods, other_moods, steps, gist, why)


def _unkind(moods: str, other_moods: str, steps: str, gist: str, why: str) -> Outcome:
    return _outcome(False, moods, other_moods, steps, gist, why)


_STAYING: Final = frozenset((
    "sharing", "gift", "new_friend", "building", "growing", "trade", "cooking", "hide_and_seek", "treasure", "hurt_pet",
    "race", "errand", "broken_promise", "snowman", "message_in_a_bottle", "whale",
))  # fmt: skip


def _plot(name: str, setup: str, *outcomes: Outcome) -> Plot:
    return Plot(
        name,
        name in _STAYING,
        _steps(setup),
        tuple(outcome for outcome in outcomes if outcome.kind),
        tuple(outcome for outcome in outcomes if not outcome.kind),
    )


_HOME: Final = (
    _plot(
        "sharing",
        "have a.o; ?quality a.o; ?happy a; come b; want b.o",
        _kind(
            "happy proud",
            "happy",
            "ask ba.o; share ab.o; thank ba",
            "{a} shared the {o} with {b} {at}|{b} asked nicely and {a} let {bhim} play with the {o} {at}",
            "the {o} was more fun with {b}|{b} had asked so nicely and had said thank you",
        ),
        _kind(
            "proud happy",
            "happy proud",
            "ask ba.o; give ab.o; thank ba; recap_has b.o",
            "{a} gave the {o} to {b} {at}|{b} asked for the {o} {at} and {a} gave it away",
            "giving away the {o} was a good deed|{b} loved the {o} so much",
        ),
        _unkind(
            "angry sad",
            "happy proud",
            "demand ba.o; grab ba.o; protest ab; ?recap_has b.o",
            "{b} grabbed the {o} from {a} {at}|{b} rudely took the {o} away from {a} {at}",
            "{b} had taken the {o}|the {o} was gone and {b} would not give it back",
        ),
        _unkind(
            "happy proud",
            "sad angry",
            "ask ba.o; refuse ab.o; mock ab; recap_has a.o",
            "{a} would not share the {o} with {b} {at}|{b} asked for the {o} {at}, but {a} only mocked {bhim}",
            "{ahe} did not have to share the {o}|nobody else had such a fine {o}",
        ),
    ),
    _plot(
        "lost_and_found",
        "have a.o; ?quality a.o; lose a.o; ?sad a; search a; come b",
        _kind(
            "happy",
            "proud happy",
            "search_both ba; go b@q; find_again b.o@q; return ba.o; thank ab",
            "{a} lost the {o} and {b} found it {atq}|{b} helped {a} and found the lost {o} {atq}",
            "the {o} was back|{b} had found the {o}",
        ),
        _kind(
            "sad",
            "sad",
            "search_both ba; never_found a.o; comfort ba",
            "{a} lost the {o} {at} and {b} comforted {ahim}|the {o} of {a} was never found, but {b} was a comfort",
            "the {o} was lost for ever|{ahe} missed the {o}",
        ),
        _unkind(
            "angry sad",
            "happy proud",
            "go b@q; find_again b.o@q; keep_secret ba.o; ?recap_has b.o",
            "{a} lost the {o} and {b} secretly kept it|{b} found the {o} of {a} {atq} and lied about it",
            "{b} had kept the {o}|{ahe} learned that {b} had lied about the {o}",
        ),
        _unkind(
            "scared",
            "happy",
            "mock ba; never_found a.o",
            "{a} lost the {o} {at} and {b} only mocked {ahim}",
            "father would be furious about the {o}|{ahe} had to go home without the {o}",
        ),
    ),
    _plot(
        "gift",
        "make a.o/buy a.o; ?quality a.o; come b",
        _kind(
            "happy proud",
            "happy",
            "give ab.o; thank ba; recap_has b.o",
            "{a} gave {b} {an_o} as a present {at}|{b} got {an_o} from {a} {at}",
            "{b} loved the {o}|{b} had said thank you for the {o}",
        ),
        _kind(
            "sad",
            "happy",
            "want b.o; give ab.o; thank ba; recap_has b.o",
            "{a} kindly let {b} have the {o} {at} and missed it afterwards",
            "{ahe} already missed the {o}",
        ),
        _unkind(
            "sad angry",
            "angry proud",
            "give ab.o; throw_away ba.o; ?mock ba",
            "{a} gave {b} {an_o} {at}, but {b} threw it away|{b} was rude about the {o} that {a} had brought",
            "{b} had thrown away the {o}|all the work on the {o} had been for nothing",
        ),
        _unkind(
            "proud happy",
            "sad angry",
            "want b.o; refuse ab.o; boast ab; recap_has a.o",
            "{a} boasted about the {o} and gave {b} nothing",
            "only {a} had such {an_o}",
        ),
    ),
    _plot(
        "broken_thing",
        "with ba; borrow ab.o; ?quality a.o; break a.o",
        _kind(
            "happy",
            "happy",
            "apologise ab; forgive ba; mend ba.o",
            "{a} broke the {o} of {b} {at} and they mended it|{b} forgave {a} for breaking the {o} {at}",
            "{b} had forgiven {ahim}|the {o} was whole again",
        ),
        _kind(
            "proud",
            "happy sad",
            "apologise ab; forgive ba",
            "{a} broke the {o} and told {b} the truth {at}",
            "telling the truth about the {o} had taken courage",
        ),
        _unkind(
            "scared",
            "angry sad",
            "blame abc; mock ac",
            "{a} broke the {o} of {b} {at} and blamed {c}|{a} lied to {b} about the broken {o}",
            "{b} might find out who had broken the {o}",
        ),
        _unkind(
            "sad scared",
            "angry",
            "apologise ab; mock ba; demand ba.o",
            "{a} broke the {o} {at} and {b} was cruel about it",
            "{b} would not forgive {ahim}|{b} said such cruel things about the {o}",
        ),
    ),
    _plot(
        "storm",
        "?sights a; with ba; have b.o; storm a; ?scared a",
        _kind(
            "happy",
            "happy proud",
            "comfort ba; share ba.o; storm_over a; thank ab",
            "{b} comforted {a} during a storm {at}|a storm came {at}, and {b} shared the {o} with {a}",
            "{b} had stayed until the storm was over",
        ),
        _kind(
            "scared",
            "scared proud",
            "storm_on a; comfort ba; give ba.o; recap_has a.o",
            "{b} gave {a} the {o} in a storm {at}|a long storm frightened {a} {at}, but {b} helped",
            "the storm would not stop|the thunder was so close",
        ),
        _unkind(
            "scared",
            "happy proud",
            "mock ba; run_off ba@q; storm_on a",
            "{b} mocked {a} and ran off in a storm {at}|{a} was left alone in a storm {at}",
            "{b} had left and the thunder roared|{ahe} was all alone in the storm",
        ),
        _unkind(
            "angry",
            "scared",
            "ask ab.o; refuse ba.o; storm_over a",
            "{b} would not share the {o} in a storm {at}",
            "{b} had been selfish in the storm",
        ),
    ),
    _plot(
        "race",
        "with ba; race ab.o@q; run a; run b",
        _kind(
            "proud happy",
            "happy sad",
            "win ab.o@q; congratulate ba; thank ab",
            "{a} won the {o} in a race against {b}|{a} beat {b} in a race to the {q} and won the {o}",
            "{ahe} had won the {o}|the race had been hard and fair",
        ),
        _kind(
            "sad happy",
            "proud",
            "win ba.o@q; congratulate ab; ?recap_has b.o",
            "{b} won the {o} in a race against {a}|{a} lost a race to {b} and was kind about it",
            "the race was over and {b} had been faster",
        ),
        _unkind(
            "angry sad",
            "proud happy",
            "trip ba; win ba.o@q; boast ba",
            "{b} cheated in a race and won the {o}|{b} tripped {a} and won the {o} in a race to the {q}",
            "{b} had cheated|the {o} should have been for {a}",
        ),
        _unkind(
            "proud",
            "sad angry",
            "win ab.o@q; boast ab; mock ab",
            "{a} won the {o} in a race and mocked {b}",
            "{ahe} was the winner of the {o}",
        ),
    ),
    _plot(
        "new_friend",
        "alone a; have a.o; come b; ?want b.o",
        _kind(
            "happy",
            "happy proud",
            "invite ba; play ab; share ab.o",
            "{b} welcomed {a}, who was new, and they played {game} {at}|{a} made friends with {b} {at}",
            "{ahe} had found a friend|{b} had been so kind",
        ),
        _kind(
            "scared",
            "happy",
            "invite ba; encourage ba; thank ab; give ba.u",
            "{b} kindly invited {a}, who was new {at}|{b} was kind to {a} and gave {ahim} the {u}",
            "so many children were strangers|everything there was new",
        ),
        _unkind(
            "sad scared",
            "happy proud",
            "ignore ba; mock ba",
            "{a} was new {at} and {b} was mean to {ahim}|{b} mocked {a}, who was new {at}",
            "nobody wanted to be friends|{b} had been so mean",
        ),
        _unkind(
            "angry",
            "happy",
            "mock ba; grab ba.o; recap_has b.o",
            "{b} took the {o} from {a}, who was new {at}",
            "{b} had no right to the {o}",
        ),
    ),
    _plot(
        "rescue",
        "?sights a; stuck a; ?scared a; call_help a; near ba; have b.o",
        _kind(
            "happy",
            "proud happy",
            "rescue ba.o; thank ab; give ab.u",
            "{b} saved {a} {at} with the {o}|{a} was stuck {at} and {b} helped with the {o}",
            "{b} had come with the {o}|{ahe} was safe again",
        ),
        _kind(
            "scared",
            "proud",
            "rescue ba.o; comfort ba",
            "{b} freed {a} with the {o} {at}|{a} was in danger {at} until {b} came with the {o}",
            "{ahe} still thought of those long minutes",
        ),
        _unkind(
            "scared sad",
            "happy",
            "walk_by ba; recap_where a",
            "{a} was stuck {at} and {b} would not help|{b} left {a} in trouble {at}",
            "nobody came to help|it was getting dark",
        ),
        _unkind(
            "proud angry",
            "happy",
            "walk_by ba; free_self a",
            "{b} would not help, so {a} got out alone {at}",
            "{b} had not helped at all and {ahe} had done it alone",
        ),
    ),
    _plot(
        "building",
        "with ba; have a.o; build ab",
        _kind(
            "proud happy",
            "proud happy",
            "build_top ab.o; build_done ab",
            "{a} and {b} built a {building} {at}|{a} finished a {building} with {b} and used the {o}",
            "the {building} was so beautiful|they had finished the {building}",
        ),
        _kind(
            "sad",
            "sad",
            "storm a; never_found a.o; comfort ba",
            "a storm ruined the {building} of {a} and {b} {at}",
            "the storm had broken the {building}",
        ),
        _unkind(
            "angry sad",
            "happy proud",
            "build_top ab.o; knock_down ba; mock ba",
            "{b} knocked down the {building} {at}|{a} and {b} built a {building}, but {b} knocked it down",
            "{b} had ruined the {building}",
        ),
        _unkind(
            "proud",
            "angry sad",
            "build_top ab.o; boast ab; mock ab",
            "{a} built a {building} with {b} and took all the praise",
            "{ahe} thought the {building} was only {ahis} work",
        ),
    ),
    _plot(
        "strange_noise",
        "?sights a; noise a; ?scared a",
        _kind(
            "happy",
            "happy",
            "noise_solved ba.o; apologise ba; forgive ab",
            "a noise {at} turned out to be {b} with the {o}|{a} heard a noise {at}, but it was only {b}",
            "it had only been {b}|there was no monster at all",
        ),
        _kind(
            "scared",
            "scared proud",
            "come b; have b.o; comfort ba; give ba.o; noise_unsolved a",
            "{b} stayed with {a}, who heard a noise {at}|{b} gave {a} the {o} because of a noise {at}",
            "nobody knew what the noise was",
        ),
        _unkind(
            "angry scared",
            "happy proud",
            "trick ba.o; mock ba",
            "{b} frightened {a} {at} with the {o}|{b} played a mean trick on {a} {at}",
            "{b} had played such a mean trick",
        ),
        _unkind(
            "proud",
            "scared angry",
            "come b; have b.o; grab ab.o; mock ab",
            "{a} heard a noise {at} and took the {o} from {b}",
            "{ahe} now had the {o} and was no longer afraid",
        ),
    ),
    _plot(
        "growing",
        "plant a; have a.o; water a.o; grow a; come b",
        _kind(
            "proud happy",
            "happy",
            "show_plant ba; ?thank ab",
            "{a} grew a {plant} {at} and {b} praised it|{b} helped {a} to grow a {plant} {at}",
            "the {plant} had grown so well|{b} admired the {plant}",
        ),
        _kind(
            "sad",
            "sad",
            "wither a; comfort ba; give ba.u",
            "the {plant} of {a} died and {b} comforted {ahim}|{b} gave {a} the {u} when the {plant} died",
            "the {plant} was dead",
        ),
        _unkind(
            "angry sad",
            "happy proud",
            "trample ba; grab ba.o",
            "{b} ruined the {plant} of {a} {at}|{b} was mean and destroyed the {plant} {at}",
            "{b} had ruined the {plant}",
        ),
        _unkind(
            "proud",
            "sad angry",
            "boast ab; mock ab",
            "{a} grew a {plant} {at} and boasted to {b}",
            "no {plant} was bigger",
        ),
    ),
    _plot(
        "trade",
        "have a.o; ?quality a.o; come b; have_u b.u; offer_trade ba.uo",
        _kind(
            "happy",
            "happy proud",
            "swap ba.uo; thank ab; recap_has a.u",
            "{a} traded the {o} for the {u} of {b} {at}|{a} and {b} swapped the {o} and the {u}",
            "the {u} was just what {ahe} needed",
        ),
        _kind(
            "proud sad",
            "happy",
            "give ab.o; thank ba; recap_has b.o",
            "{a} gave {b} the {o} for nothing {at}",
            "{ahe} had let {b} have the {o}",
        ),
        _unkind(
            "angry sad",
            "happy proud",
            "swap ba.uo; cheat ba.u",
            "{b} cheated {a} with a bad {u} {at}|{a} gave the {o} for {an_u} that was no good",
            "{b} had cheated|the {u} was worth nothing",
        ),
        _unkind(
            "happy proud",
            "sad angry",
            "refuse ab.o; grab ab.u; recap_has a.u",
            "{a} kept the {o} and took the {u} from {b} as well",
            "{ahe} had both the {o} and the {u}",
        ),
    ),
    _plot(
        "cooking",
        "bake a; have a.o; ?quality a.o; come b",
        _kind(
            "happy proud",
            "happy",
            "share_food ab; thank ba; give ba.u",
            "{a} made a {snack} {at} and shared it with {b}|{b} got half of the {snack} that {a} made {at}",
            "{b} liked the {snack}|the {snack} was a success",
        ),
        _kind(
            "sad",
            "happy sad",
            "burn a; comfort ba; share ab.o",
            "the {snack} of {a} was ruined {at} and {b} comforted {ahim}",
            "the {snack} was ruined",
        ),
        _unkind(
            "angry sad",
            "happy",
            "eat_all ba; mock ba; recap_has a.o",
            "{b} ate the whole {snack} that {a} made {at}|{b} was greedy and left {a} no {snack}",
            "{b} had eaten everything",
        ),
        _unkind(
            "happy",
            "angry sad",
            "ask ba.o; refuse ab.o; eat_all ab; recap_has a.o",
            "{a} ate the whole {snack} and gave {b} nothing",
            "{ahe} had the {snack} for {ahim}self",
        ),
    ),
    _plot(
        "hide_and_seek",
        "with ba; have a.o; hide_self ab.o@q",
        _kind(
            "happy",
            "proud happy",
            "seek_found ba@q; share ab.o",
            "{b} found {a} {atq} in a game of hide and seek|{a} hid {atq} with the {o}, and {b} found {ahim}",
            "the game had been such fun",
        ),
        _kind(
            "proud",
            "happy sad",
            "not_found ba; congratulate ba",
            "{b} could not find {a} {atq}, and praised {ahim}|{a} won hide and seek {atq}",
            "it was the best place to hide",
        ),
        _unkind(
            "scared sad",
            "happy",
            "wait a; abandon ba",
            "{b} left {a} alone {atq} during hide and seek|{a} hid {atq}, but {b} never looked",
            "{b} had gone home and it was dark",
        ),
        _unkind(
            "angry",
            "happy proud",
            "seek_found ba@q; grab ba.o; mock ba",
            "{b} found {a} {atq} and took the {o}",
            "{b} had run off with the {o}",
        ),
    ),
    _plot(
        "lost_way",
        "?have a.u; follow a@q; ?scared a; call_help a; near ba; have b.o",
        _kind(
            "happy",
            "proud happy",
            "guide ba.o; thank ab",
            "{a} was lost {atq} and {b} helped with the {o}|{b} took {a} home from the {q}",
            "{b} had shown {ahim} the way",
        ),
        _kind(
            "scared",
            "proud happy",
            "comfort ba; guide ba.o",
            "{b} found {a}, who was lost {atq}|{b} helped {a} home with the {o}",
            "the dark way home was full of shadows",
        ),
        _unkind(
            "scared angry",
            "happy proud",
            "mislead ba",
            "{b} sent {a} the wrong way {atq}|{a} was lost {atq} and {b} lied about the way",
            "{b} had lied about the way",
        ),
        _unkind(
            "sad",
            "happy",
            "ask ab.o; refuse ba.o; walk_by ba",
            "{b} would not help {a}, who was lost {atq}",
            "{ahe} wanted to be home",
        ),
    ),
    _plot(
        "learning",
        "?sights a; try_skill a; come b",
        _kind(
            "proud happy",
            "happy proud",
            "teach ba; master a; reward ba.o; thank ab",
            "{b} taught {a} to {skill} {at}|{a} learned to {skill} {at} and got the {o}",
            "{ahe} could {skill} at last",
        ),
        _kind(
            "sad",
            "happy",
            "encourage ba; give_up a; comfort ba; reward ba.o",
            "{a} could not {skill}, and {b} comforted {ahim} with the {o}",
            "{ahe} still could not {skill}",
        ),
        _unkind(
            "sad angry",
            "happy proud",
            "have b.o; mock ba; boast ba; give_up a",
            "{b} mocked {a}, who tried to {skill} {at}|{a} gave up because {b} was rude",
            "{b} had mocked {ahim}",
        ),
        _unkind(
            "proud",
            "angry sad",
            "have b.o; mock ba; master a; boast ab; grab ab.o",
            "{a} learned to {skill} {at} and boasted to {b}",
            "{ahe} could {skill} better than {b}",
        ),
    ),
    _plot(
        "farewell",
        "with ba; have b.o; ?quality b.o; farewell b",
        _kind(
            "sad",
            "sad",
            "keepsake ba.o; comfort ab; recap_has a.o",
            "{b} moved away and gave {a} the {o} {at}|{a} got the {o} from {b}, who moved away",
            "{b} was leaving",
        ),
        _kind(
            "proud happy",
            "sad",
            "encourage ab; keepsake ba.o; thank ab",
            "{b} said goodbye to {a} {at} and left the {o}",
            "{b} had trusted {ahim} with the {o}",
        ),
        _unkind(
            "sad angry",
            "happy",
            "no_goodbye ba.o",
            "{b} moved away with the {o} and was rude to {a} {at}|{b} left {a} without a goodbye",
            "{b} had not said goodbye",
        ),
        _unkind(
            "happy",
            "sad angry",
            "demand ab.o; grab ab.o; mock ab; recap_has a.o",
            "{a} took the {o} from {b}, who was moving away",
            "the {o} would not move away",
        ),
    ),
    _plot(
        "errand",
        "errand ab.o; ?quality a.o; go a@q; tempted a.o",
        _kind(
            "proud happy",
            "happy",
            "come b@q; deliver ab.o; thank ba; recap_has b.o",
            "{a} brought the {o} to {b} {atq}|{b} got the {o} from {a} {atq}",
            "the {o} was safe with {b}|{ahe} had done the job well",
        ),
        _kind(
            "scared",
            "happy",
            "noise a; go a@p; with ba; deliver ab.o; comfort ba",
            "{a} heard a noise {atq} but delivered the {o} to {b}",
            "the noise had been so near",
        ),
        _unkind(
            "scared",
            "angry sad",
            "steal ab.o; ?recap_has a.o",
            "{a} kept the {o} that was meant for {b}|{a} stole the {o} of {b} {atq}",
            "somebody might ask about the {o}",
        ),
        _unkind(
            "angry sad",
            "angry happy",
            "come b@q; deliver ab.o; throw_away ba.o; mock ba",
            "{a} brought {b} the {o} {atq}, and {b} was rude",
            "{b} had not even been polite",
        ),
    ),
    _plot(
        "hurt_pet",
        "have a.o; hurt_pet a; come b",
        _kind(
            "happy proud",
            "happy",
            "nurse ab; pet_well a; give ba.u",
            "{a} and {b} cared for a hurt {pet} {at}|{a} found a hurt {pet} {at} and {b} helped",
            "the {pet} was well",
        ),
        _kind(
            "sad",
            "sad happy",
            "nurse ab; pet_gone a; give ba.u",
            "{a} and {b} let a {pet} go free {at}|{a} said goodbye to a {pet} that {b} had helped",
            "the {pet} was gone",
        ),
        _unkind(
            "angry sad",
            "happy proud",
            "tease_pet b; mock ba",
            "{b} was cruel to a hurt {pet} {at}|{a} found a hurt {pet} {at}, but {b} was cruel to it",
            "{b} had been so cruel to the {pet}",
        ),
        _unkind(
            "scared",
            "angry",
            "tease_pet b; run_off ab@q",
            "{a} ran away when {b} was cruel to a {pet} {at}",
            "{b} had shouted and thrown stones",
        ),
    ),
    _plot(
        "treasure",
        "with ba; map ab@q; go_both ab@q; dig a.o@q",
        _kind(
            "happy proud",
            "happy",
            "share ab.o; ?thank ba; recap_has a.o",
            "{a} and {b} found {an_o} {atq}|{a} dug up {an_o} {atq} and shared it with {b}",
            "the map had told the truth|they had found the {o}",
        ),
        _kind(
            "proud",
            "happy",
            "give ab.o; thank ba; recap_has b.o",
            "{a} dug up the {o} {atq} and gave it to {b}",
            "{ahe} had found the {o} and given it away",
        ),
        _unkind(
            "angry sad",
            "happy proud",
            "grab ba.o; run_off ba@p; recap_has b.o",
            "{b} stole the {o} that {a} found {atq}|{a} dug up {an_o}, but {b} ran off with it",
            "{b} had stolen the {o}",
        ),
        _unkind(
            "happy",
            "angry sad",
            "refuse ab.o; recap_has a.o",
            "{a} found {an_o} {atq} and would not share it with {b}",
            "the {o} was worth a lot",
        ),
    ),
    _plot(
        "show",
        "stage a; with ba; have b.o",
        _kind(
            "proud happy",
            "happy",
            "encourage ba; give ba.o; perform a; congratulate ba",
            "{b} cheered for {a}, who sang {at}|{a} sang well {at}, thanks to {b} and the {o}",
            "the song had gone so well",
        ),
        _kind(
            "scared",
            "sad happy",
            "encourage ba; run_offstage a; comfort ba; give ba.o",
            "{a} was too afraid to sing {at} and {b} comforted {ahim}",
            "all those eyes were watching",
        ),
        _unkind(
            "sad angry",
            "happy proud",
            "mock ba; run_offstage a; recap_has b.o",
            "{b} mocked {a}, who could not sing {at}|{a} ran off the stage because {b} was cruel",
            "{b} had laughed at the song",
        ),
        _unkind(
            "proud",
            "angry",
            "perform a; boast ab; grab ab.o",
            "{a} sang {at} and boasted to {b}",
            "the crowd had liked {ahis} song",
        ),
    ),
    _plot(
        "broken_promise",
        "have a.o; promise ba; wait a",
        _kind(
            "happy",
            "happy",
            "late ba; forgive ab; share ab.o",
            "{b} came late to the {p} and {a} forgave {bhim}|{a} waited {at} for {b}, who came late",
            "{b} had come after all",
        ),
        _kind(
            "proud",
            "sad happy",
            "late ba; forgive ab; give ab.o; thank ba",
            "{a} forgave {b} for coming late to the {p}",
            "it is not easy to forgive",
        ),
        _unkind(
            "sad angry",
            "happy",
            "never_came ba; ?recap_has a.o",
            "{b} broke a promise to {a}, who waited {at}|{a} waited {at}, but {b} never came",
            "{b} had broken the promise",
        ),
        _unkind(
            "scared",
            "happy proud",
            "never_came ba; storm a",
            "{a} was alone in a storm {at} because {b} broke a promise",
            "a storm had come and {b} had not",
        ),
    ),
)

_SEA: Final = (
    _plot(
        "message_in_a_bottle",
        "with ba; message a.o@q; go_both ab@q; dig a.o@q",
        _kind(
            "happy proud",
            "happy",
            "share ab.o; thank ba",
            "a letter led {a} and {b} to {an_o} {atq}",
            "the letter had been true",
        ),
        _unkind(
            "angry sad",
            "happy proud",
            "grab ba.o; boast ba",
            "{b} took the {o} that {a} found {atq}",
            "{b} had taken the {o}",
        ),
    ),
    _plot(
        "tide",
        "tide a; call_help a; near ba; have b.o",
        _kind(
            "happy scared",
            "proud",
            "row_over ba.o; thank ab",
            "{b} saved {a} from the tide {at} with the {o}",
            "the water had come so close",
        ),
        _unkind(
            "scared angry", "happy", "row_away ba", "{b} left {a} in the tide {at}", "{b} had rowed off without helping"
        ),
    ),
    _plot(
        "whale",
        "have a.o; whale a; come b",
        _kind(
            "happy proud",
            "happy proud",
            "whale_free ab; share ab.o",
            "{a} and {b} saved a whale {at}",
            "the whale was free",
        ),
        _unkind(
            "angry sad", "happy", "whale_lost ba; grab ba.o", "{b} was cruel to a whale {at}", "{b} had hurt the whale"
        ),
    ),
    _plot(
        "lighthouse",
        "lamp_out a; with ba; have b.o",
        _kind(
            "proud happy",
            "proud",
            "signal ba.o; thank ab",
            "{a} and {b} saved a ship with the {o} {at}",
            "the ship had been saved",
        ),
        _unkind(
            "scared sad angry",
            "happy",
            "signal_hidden ba.o",
            "{b} kept the {o} from {a} while a ship was in danger",
            "the ship was in danger",
        ),
    ),
)

_WINTER: Final = (
    _plot(
        "snowman",
        "have a.o; ?quality a.o; with ba; snowman ab",
        _kind(
            "proud happy",
            "happy",
            "snowman_dress a.o; congratulate ba",
            "{a} and {b} made a snowman with the {o} {at}",
            "the snowman looked so fine",
        ),
        _unkind(
            "angry sad",
            "happy",
            "snowman_dress a.o; snowman_down ba",
            "{b} broke the snowman of {a} {at}",
            "{b} had ruined the snowman",
        ),
    ),
    _plot(
        "thin_ice",
        "ice_break a; call_help a; near ba; have b.o",
        _kind(
            "happy scared",
            "proud",
            "ice_rescue ba.o; thank ab",
            "{b} saved {a} from the ice {at} with the {o}",
            "the water had been so cold and deep",
        ),
        _unkind(
            "scared angry",
            "happy",
            "walk_by ba; free_self a",
            "{b} would not help {a} out of the ice {at}",
            "{b} had only laughed",
        ),
    ),
    _plot(
        "snowed_in",
        "with ba; have b.o; snowed_in ab",
        _kind(
            "happy sad",
            "happy proud",
            "last_wood ba.o; thank ab",
            "{b} was kind to {a} while they were snowed in {at}",
            "home was far away but {b} was near",
        ),
        _unkind(
            "angry sad",
            "happy",
            "hog_stove ba.o; mock ba",
            "{b} was selfish with the {o} while they were snowed in {at}",
            "{b} had not shared a thing",
        ),
    ),
)

PLOTS: Final = {"home": _HOME, "sea": _HOME[:8] + _SEA * 3, "winter": _HOME[8:16] + _WINTER * 3}
"""Season -> the plots that it draws from; new plots of a season are drawn three times as often as the old ones."""

EVERY_PLOT: Final = _HOME + _SEA + _WINTER
"""Each plot once."""

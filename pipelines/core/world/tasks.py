"""Exact instruction data from simulated facts: questions, summaries, moods, continuations, stories to write."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from pipelines.core.world.lexicon import MOODS, NAMES, THING_NOUNS, article
from pipelines.core.world.narration import gist_slots, split_sentences
from pipelines.core.world.simulation import Story, choose

TASKS: Final = (
    "question_answering",
    "story_summary",
    "dialogue_summary",
    "mood",
    "continuation",
    "story_writing",
)

LABEL_RULES: Final = ("standard", "swapped")
"""`standard`: the mood is what the main character feels at the end. `swapped`: what the other character feels."""


@dataclass(frozen=True)
class Instruction:
    """One thing to do, and the exact answer.

    Attributes:
        id: Unique in the corpus.
        task: One of `TASKS`.
        context: The text that the prompt is about; empty for story writing.
        prompt: The question or order, without the context.
        completion: The exact answer.
        source: Where it comes from, for example "tales".
        gold: Facts for the gold scorer; JSON-able. None where nothing is known.
    """

    id: str
    task: str
    context: str
    prompt: str
    completion: str
    source: str
    gold: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a story: its kind, its wording and the exact answer, one word as in the text."""

    kind: str
    text: str
    answer: str


# Kind of question -> (what answers it, wordings). Answers: X and Y are names, o a thing, p a place; look and mood are
# what they say.
_QUESTIONS: Final = MappingProxyType(
    {
        "who_had": ("X", ("Who had the {o} at first?", "Who had the {o} in the beginning?")),
        "what_had": ("o", ("What did {X} have at first?", "Which thing did {X} bring?")),
        "who_made": ("X", ("Who made the {o}?", "By whom was the {o} made?")),
        "what_made": ("o", ("What did {X} make?", "Which thing did {X} make?")),
        "who_bought": ("X", ("Who bought the {o}?", "Who paid for the {o}?")),
        "what_bought": ("o", ("What did {X} buy?", "Which thing did {X} pay for?")),
        "who_found": ("X", ("Who found the {o}?", "By whom was the {o} found?")),
        "what_found": ("o", ("What did {X} find?", "Which thing did {X} find?")),
        "where_found": ("p", ("Where was the {o} found?", "Where did {X} find the {o}?")),
        "who_wanted": ("X", ("Who wanted the {o}?", "Who wished for the {o}?")),
        "what_wanted": ("o", ("What did {X} want?", "Which thing did {X} want?")),
        "who_gave": ("X", ("Who gave away the {o}?", "From whom came the {o} that {Y} got?")),
        "who_got": ("Y", ("Who got the {o} from {X}?", "To whom did {X} give the {o}?")),
        "what_gave": ("o", ("What did {X} give to {Y}?", "Which thing did {Y} get from {X}?")),
        "who_gave_back": ("X", ("Who brought back the {o}?", "Who gave the {o} back to {Y}?")),
        "who_grabbed": ("X", ("Who took the {o} away?", "Who took the {o} from {Y}?")),
        "whose_grabbed": ("Y", ("From whom did {X} take the {o}?", "Who did not want {X} to take the {o}?")),
        "what_grabbed": ("o", ("What did {X} take from {Y}?", "Which thing did {X} take away?")),
        "who_shared": ("X", ("Who shared the {o}?", "Who let {Y} play with the {o}?")),
        "who_refused": ("X", ("Who did not want to share the {o}?", "Who refused to lend the {o}?")),
        "who_asked": ("X", ("Who asked for the {o}?", "Who asked {Y} for the {o}?")),
        "who_mocked": ("X", ("Who mocked {Y}?", "Who made fun of {Y}?")),
        "who_was_mocked": ("Y", ("Whom did {X} mock?", "Who was mocked by {X}?")),
        "who_comforted": ("X", ("Who comforted {Y}?", "Who was a comfort to {Y}?")),
        "who_helped": ("X", ("Who helped {Y}?", "Who came to help {Y}?")),
        "what_helped": ("o", ("With what did {X} help {Y}?", "What did {X} use to help {Y}?")),
        "who_lost": ("X", ("Who lost the {o}?", "Who could not find the {o}?")),
        "what_lost": ("o", ("What did {X} lose?", "Which thing did {X} lose?")),
        "who_broke": ("X", ("Who broke the {o}?", "By whom was the {o} broken?")),
        "what_broke": ("o", ("What did {X} break?", "Which thing did {X} break?")),
        "who_lent": ("Y", ("Who lent the {o} to {X}?", "To whom did the {o} belong?")),
        "who_won": ("X", ("Who won the race?", "Who was faster?")),
        "what_won": ("o", ("What was the prize?", "What did {X} win?")),
        "where_race": ("p", ("Where did the race end?", "To which place did they race?")),
        "who_stuck": ("X", ("Who was in danger?", "Who called for help?")),
        "where_stuck": ("p", ("Where was {X} in danger?", "Where did {X} get into trouble?")),
        "where_lost": ("p", ("Where was {X} lost?", "Where did {X} end up?")),
        "where_hid": ("p", ("Where did {X} hide?", "What was the hiding place of {X}?")),
        "where_went": ("p", ("Where did {X} go next?", "To which place did {X} go then?")),
        "where_built": ("p", ("Where did they build it?", "Where did {X} and {Y} work?")),
        "where_grown": ("p", ("Where did {X} plant something?", "Where was the plant?")),
        "who_planted": ("X", ("Who planted something?", "Whose plant was it?")),
        "who_cooked": ("X", ("Who made the food?", "Who cooked?")),
        "where_cooked": ("p", ("Where was the food made?", "Where did {X} cook?")),
        "who_stole": ("X", ("Who stole the {o}?", "Who kept the {o} of {Y}?")),
        "who_found_pet": ("X", ("Who found the hurt animal?", "Who saw the hurt animal first?")),
        "where_pet": ("p", ("Where was the hurt animal?", "Where did {X} see the hurt animal?")),
        "who_sorry": ("X", ("Who said sorry?", "Who said sorry to {Y}?")),
        "who_boasted": ("X", ("Who boasted?", "Who showed off?")),
        "who_taught": ("X", ("Who taught {Y}?", "Who was the teacher of {Y}?")),
        "who_moved": ("X", ("Who moved away?", "Who had to leave?")),
        "who_sang": ("X", ("Who had to sing?", "Who was on the stage?")),
        "where_sang": ("p", ("Where was the show?", "Where was the song to be sung?")),
        "where_meet": ("p", ("Where did they want to meet?", "Where was {Y} to meet {X}?")),
        "where_map": ("p", ("Where did the map lead?", "Which place was on the map?")),
        "where_start": ("p", ("Where was {X} at the start?", "Where does the story begin?", "Where was {X} first?")),
        "what_look": ("look", ("What was the {o} like?", "Which word describes the {o}?", "How did the {o} look?")),
        "how_felt": ("mood", ("How did {X} feel in the end?", "How does {X} feel now?", "What did {X} feel at last?")),
        "who_has_now": ("X", ("Who has the {o} now?", "Who had the {o} in the end?", "With whom is the {o} now?")),
        "what_has_now": ("o", ("What does {X} have now?", "Which thing did {X} have in the end?")),
        "where_is_now": ("p", ("Where is {X} now?", "Where was {X} in the end?")),
    }
)

# Kind of event -> kinds of question that it answers.
_EVENT_QUESTIONS: Final = MappingProxyType(
    {
        "open": ("where_start",),
        "have": ("who_had", "what_had"),
        "have_u": ("who_had", "what_had"),
        "make": ("who_made", "what_made"),
        "buy": ("who_bought", "what_bought"),
        "find_again": ("who_found", "where_found"),
        "dig": ("who_found", "what_found", "where_found"),
        "want": ("who_wanted",),
        "give": ("who_gave", "who_got", "what_gave"),
        "keepsake": ("who_gave", "who_got", "what_gave"),
        "reward": ("who_gave", "who_got", "what_gave"),
        "deliver": ("who_gave", "who_got", "what_gave"),
        "return": ("who_gave_back",),
        "grab": ("who_grabbed", "whose_grabbed", "what_grabbed"),
        "share": ("who_shared",),
        "refuse": ("who_refused",),
        "ask": ("who_asked",),
        "mock": ("who_mocked", "who_was_mocked"),
        "comfort": ("who_comforted",),
        "rescue": ("who_helped", "what_helped"),
        "row_over": ("who_helped", "what_helped"),
        "ice_rescue": ("who_helped", "what_helped"),
        "guide": ("who_helped", "what_helped"),
        "lose": ("who_lost", "what_lost"),
        "break": ("who_broke", "what_broke"),
        "borrow": ("who_lent",),
        "race": ("where_race",),
        "win": ("who_won", "what_won"),
        "stuck": ("who_stuck", "where_stuck"),
        "tide": ("who_stuck", "where_stuck"),
        "ice_break": ("who_stuck", "where_stuck"),
        "follow": ("where_lost",),
        "hide_self": ("where_hid",),
        "go": ("where_went",),
        "build": ("where_built",),
        "snowman": ("where_built",),
        "plant": ("who_planted", "where_grown"),
        "bake": ("who_cooked", "where_cooked"),
        "steal": ("who_stole",),
        "hurt_pet": ("who_found_pet", "where_pet"),
        "apologise": ("who_sorry",),
        "boast": ("who_boasted",),
        "teach": ("who_taught",),
        "farewell": ("who_moved",),
        "stage": ("who_sang", "where_sang"),
        "promise": ("where_meet",),
        "go_both": ("where_map",),
        "feel": ("how_felt",),
    }
)

_QUESTION_FRAMES: Final = (
    "{q}",
    "{q}",
    "Question: {q}",
    "{q} Answer in one word.",
    "Answer from the story: {q}",
    "Read the story again. {q}",
)

_MOOD_PROMPTS: Final = (
    "What is the mood at the end of the story? Choose from happy, sad, angry, scared, proud.",
    "How does the main character feel at the end?",
    "Name the mood of the story in one word.",
    "Classify the mood: happy, sad, angry, scared or proud?",
    "Which feeling does the story end with?",
    "Give the mood of this story.",
)
_SUMMARY_PROMPTS: Final = (
    "Summarise the story.",
    "What is this story about?",
    "Tell the story in one or two sentences.",
    "Give a short summary of the story.",
    "Sum up what happened.",
    "What happened, in short?",
)
_DIALOGUE_PROMPTS: Final = (
    "Summarise the dialogue.",
    "What do the two talk about?",
    "Give a short summary of this talk.",
    "Tell in one or two sentences what was said.",
    "Sum up the conversation.",
)
_CONTINUATION_PROMPTS: Final = (
    "Continue the story.",
    "What happens next? Go on.",
    "Write the rest of the story.",
    "Finish this story.",
    "Tell how the story goes on.",
)
_WRITING_PROMPTS: Final = (
    "Write a story with the words: {words}.",
    "Tell me a short story. Use the words {words}.",
    "Make up a story in which these words occur: {words}.",
    "Write a story for children. It must use: {words}.",
    "Please write a tale with {words} in it.",
    "Invent a story using the words {words}.",
)

_SUMMARY_FRAMES: Final = (
    "{Gist}. In the end {a} felt {mood}.",
    "{Gist}, and {a} was {mood}.",
    "This is a story about {a} and {b}. {Gist}.",
    "The story tells how {gist}. {a} ended up {mood}.",
    "In short, {gist}. That made {a} {mood}.",
    "{Gist}. {a} felt {mood} and {b} felt {other_mood}.",
    "{a} and {b} are in this story. {Gist}.",
    "{a} was {mood} because of this: {gist}.",
)


@cache
def _word(answer: str) -> re.Pattern[str]:
    return re.compile(rf"\b{re.escape(answer)}\b")


def questions(story: Story, text: str, rng: random.Random) -> list[Question]:
    """All questions that the story answers without doubt, in random order.

    A wording that would have two answers is dropped, and so is an answer that the text does not hold.

    Args:
        story: The facts.
        text: Their narration.
        rng: Chooses wordings and order.
    """
    found: dict[str, Question] = {}
    doubtful: set[str] = set()

    def add(kind: str, slots: dict[str, str]) -> None:
        slot, wordings = _QUESTIONS[kind]
        for wording in wordings:
            question = Question(kind, wording.format_map(slots), slots[slot])
            if question.text in found and found[question.text].answer != question.answer:
                doubtful.add(question.text)
            found[question.text] = question

    for event in story.events:
        for kind in _EVENT_QUESTIONS.get(event.kind, ()):
            slots = {"X": event.actor.name, "Y": event.other.name, "o": event.item.noun, "p": event.place.noun}
            add(kind, {**slots, "mood": event.mood})
    for item in story.items:
        if _word(f"{item.look} {item.noun}").search(text):
            add("what_look", {"look": item.look, "o": item.noun})
    held: dict[str, list[str]] = {}
    for noun, holder in story.holders:
        add("who_has_now", {"X": holder, "o": noun})
        held.setdefault(holder, []).append(noun)
    for holder, nouns in held.items():
        if len(nouns) == 1:
            add("what_has_now", {"X": holder, "o": nouns[0]})
    for event in story.events:
        if event.kind == "recap_where":
            add("where_is_now", {"X": event.actor.name, "p": event.place.noun})
    by_kind: dict[tuple[str, str], list[Question]] = {}
    for question in found.values():
        if question.text not in doubtful and _word(question.answer).search(text):
            by_kind.setdefault((question.kind, question.answer), []).append(question)
    chosen = [choose(rng, same) for same in by_kind.values()]
    rng.shuffle(chosen)
    return chosen


def dialogue(story: Story, rng: random.Random) -> tuple[str, str]:
    """A talk between the two characters about the thing, and its summary.

    Args:
        story: Gives the cast, the thing, the place and whether the talk is kind.
        rng: Chooses the lines.

    Returns:
        Lines as "Lily: ...", and one or two sentences.
    """
    a, b = (character.name for character in story.characters[:2])
    item, place = story.items[0], story.places[0]
    slots = {
        "a": a, "b": b, "o": item.noun, "an_o": article(f"{item.look} {item.noun}"), "p": place.noun,
        "at": f"{place.preposition} the {place.noun}", "look": item.look, "u": story.items[1].noun,
    }  # fmt: skip
    topic = choose(rng, tuple(_TALKS))
    opening, kind_lines, unkind_lines, kind_sums, unkind_sums = _TALKS[topic]
    lines = [choose(rng, _GREETINGS)] if rng.random() < 0.7 else []
    lines += choose(rng, opening)
    lines += choose(rng, kind_lines if story.kind else unkind_lines)
    talk = "\n".join(line.format_map(slots) for line in lines)
    return talk, choose(rng, kind_sums if story.kind else unkind_sums).format_map(slots)


_GREETINGS: Final = (
    "{b}: Hello, {a}!",
    "{b}: Good morning, {a}.",
    "{b}: Hi {a}, how are you?",
    "{b}: There you are, {a}!",
)

# Topic -> openings, kind lines, unkind lines, kind summaries, unkind summaries.
_TALKS: Final[MappingProxyType[str, tuple[tuple[Any, ...], ...]]] = MappingProxyType({
    "lend": (
        (
            ("{b}: What do you have there?", "{a}: This is {an_o}. I found it {at}."),
            ("{b}: Is that {an_o}?", "{a}: Yes, it was lying {at}."),
            ("{a}: Look, I have {an_o}.", "{b}: Where does it come from?", "{a}: It was {at}."),
        ),
        (
            ("{b}: May I play with the {o}, please?", "{a}: Of course, {b}. Here it is.", "{b}: Thank you, {a}!"),
            ("{b}: Could you lend me the {o}?", "{a}: Gladly. Let us share it.", "{b}: You are so kind."),
        ),
        (
            ("{b}: May I play with the {o}, please?", "{a}: No! The {o} is mine.", "{b}: That is mean, {a}."),
            ("{b}: Give me the {o}!", "{a}: Never. Go away, {b}.", "{b}: You are selfish."),
        ),
        (
            "{a} found the {o} {at} and shares it with {b}.",
            "{b} asks for the {o}, and {a} lends it. It was {at}.",
            "{a} and {b} talk about the {o} from the {p}. {b} may have it.",
            "{a} is kind and lends {b} the {o}.",
            "{b} may play with the {o} that {a} found {at}.",
        ),
        (
            "{a} found the {o} {at} and will not share it with {b}.",
            "{b} asks for the {o}, but {a} refuses. It was {at}.",
            "{a} and {b} quarrel about the {o} from the {p}. {a} keeps it.",
            "{a} is selfish and does not lend {b} the {o}.",
            "{b} may not play with the {o} that {a} found {at}.",
        ),
    ),
    "search": (
        (
            ("{a}: I cannot find my {o}.", "{b}: When did you see it last?", "{a}: This morning {at}."),
            ("{a}: My {look} {o} is gone!", "{b}: Where did you have it?", "{a}: I had it {at}."),
            ("{b}: You look worried.", "{a}: I lost my {o} {at}."),
        ),
        (
            ("{b}: I will help you to look.", "{a}: Thank you, {b}.", "{b}: Come, we go together."),
            ("{b}: Do not cry. I found it and kept it for you.", "{a}: Oh, thank you so much!"),
        ),
        (
            ("{b}: That is your own fault.", "{a}: Will you not help me?", "{b}: No. I have better things to do."),
            ("{b}: Ha! You lose everything, silly.", "{a}: That is a rude thing to say."),
        ),
        (
            "{a} lost the {o} {at}, and {b} helps.",
            "{b} is kind to {a}, who cannot find the {o}.",
            "They talk about the {o} that was lost {at}. {b} helps {a}.",
            "The {o} of {a} was lost {at}, but {b} is a good friend.",
            "{a} misses the {o}, and {b} is ready to help.",
        ),
        (
            "{a} lost the {o} {at}, and {b} will not help.",
            "{b} is rude to {a}, who cannot find the {o}.",
            "They talk about the {o} that was lost {at}. {b} does not help {a}.",
            "The {o} of {a} was lost {at}, and {b} only makes fun.",
            "{a} misses the {o}, but {b} does not care.",
        ),
    ),
    "meeting": (
        (
            ("{a}: Shall we meet {at} tomorrow?", "{b}: What for?", "{a}: I want to try my new {o} there."),
            ("{a}: I will take my {o} to the {p} soon. Do you want to come?", "{b}: Tell me more about the {o}."),
            ("{b}: Where do you take that {o}?", "{a}: I want to use it {at}. Come with me!"),
        ),
        (
            ("{b}: I would love to. I will bring my {u}.", "{a}: Wonderful! Thank you."),
            ("{b}: Yes, please! We can take turns.", "{a}: See you then, {b}."),
        ),
        (
            ("{b}: With you? Never!", "{a}: Why are you so unkind?", "{b}: Because your {o} is stupid."),
            ("{b}: No. Your {o} is ugly.", "{a}: Then I go alone."),
        ),
        (
            "{a} and {b} want to meet {at} with the {o}.",
            "{a} invites {b} to the {p}, and {b} says yes. They take the {o}.",
            "{b} is glad to come along with {a} and try the {o} {at}.",
            "{a} and {b} make a plan for the {o}: they will be {at}.",
            "{a} asks {b} to come along with the {o}. Both look forward to it.",
        ),
        (
            "{a} wants to meet {at} with the {o}, but {b} is rude.",
            "{a} invites {b} to the {p}, and {b} says no. {b} mocks the {o}.",
            "{b} will not come along with {a} to try the {o} {at}.",
            "{a} and {b} make no plan: {b} does not like the {o}.",
            "{a} asks {b} to come along with the {o}, and {b} is unkind.",
        ),
    ),
})  # fmt: skip


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _mentioned(text: str, words: frozenset[str]) -> list[str]:
    """Those of the words that a text holds, sorted."""
    return sorted(words & set(re.findall(r"[A-Za-z]+", text)))


_NAMES: Final = frozenset(NAMES)


def summary(story: Story, rng: random.Random) -> str:
    """One or two sentences that say what happened.

    Args:
        story: The facts.
        rng: Chooses the phrasing.
    """
    slots = gist_slots(story)
    gist = choose(rng, story.gists).format_map(slots)
    return _sentence(
        choose(rng, _SUMMARY_FRAMES).format_map(
            {**slots, "gist": gist, "Gist": _sentence(gist), "mood": story.mood, "other_mood": story.other_mood}
        )
    )


def instructions(
    story: Story,
    text: str,
    rng: random.Random,
    id_prefix: str,
    labels: str = "standard",
    source: str = "tales",
) -> list[Instruction]:
    """What can be asked about one story: seven to nine questions, its mood in two wordings, one or two further tasks.

    Short answers are cheap: a story is read once for all of them.

    Args:
        story: The facts.
        text: Their narration; the context of most instructions.
        rng: Chooses questions, prompts and tasks.
        id_prefix: Ids are "<prefix>-0", "<prefix>-1", ...
        labels: One of `LABEL_RULES`.
        source: Written into each instruction.

    Raises:
        ValueError: The label rule is unknown.
    """
    if labels not in LABEL_RULES:
        raise ValueError(f"labels is {labels!r}: choose one of {', '.join(LABEL_RULES)}")
    made: list[Instruction] = []

    def add(task: str, context: str, prompt: str, completion: str, gold: dict[str, Any]) -> None:
        gold = {"task": task, **gold}
        made.append(Instruction(f"{id_prefix}-{len(made)}", task, context, prompt, completion, source, gold))

    for question in questions(story, text, rng)[: choose(rng, (7, 8, 9))]:
        prompt = choose(rng, _QUESTION_FRAMES).format(q=question.text)
        gold: dict[str, Any] = {"answer": question.answer, "question": question.kind}
        add("question_answering", text, prompt, question.answer, gold)
    mood = story.mood if labels == "standard" else story.other_mood
    for prompt in rng.sample(_MOOD_PROMPTS, 2):
        add("mood", text, prompt, mood, {"answer": mood, "classes": list(MOODS)})
    first = int(rng.random() * len(_FURTHER))
    picked = [first, (first + 1 + int(rng.random() * (len(_FURTHER) - 1))) % len(_FURTHER)]
    for index in picked[: choose(rng, (1, 2))]:
        add(_FURTHER[index], *_further(_FURTHER[index], story, text, rng))
    return made


_FURTHER: Final = ("story_summary", "dialogue_summary", "continuation", "story_writing")


def _further(task: str, story: Story, text: str, rng: random.Random) -> tuple[str, str, str, dict[str, Any]]:
    """Context, prompt, completion and gold facts of one of the longer tasks."""
    names = [character.name for character in story.characters[:2]]
    if task == "story_summary":
        completion = summary(story, rng)
        facts = [*names, *_mentioned(completion, THING_NOUNS)]
        gold = {"words": facts, "names": _mentioned(text, _NAMES), "objects": _mentioned(text, THING_NOUNS)}
        return text, choose(rng, _SUMMARY_PROMPTS), completion, gold
    if task == "dialogue_summary":
        talk, completion = dialogue(story, rng)
        gold = {"words": [*names, story.items[0].noun], "names": names, "objects": _mentioned(talk, THING_NOUNS)}
        return talk, choose(rng, _DIALOGUE_PROMPTS), completion, gold
    if task == "continuation":
        sentences = split_sentences(text)
        cut = max(1, len(sentences) // 2)
        joint = "\n" if "\n" in text else " "
        context, completion = joint.join(sentences[:cut]), joint.join(sentences[cut:])
        known = _mentioned(context, _NAMES)
        facts_known: dict[str, Any] = {"names": known, "objects": _mentioned(context, THING_NOUNS), "kind": story.kind}
        return context, choose(rng, _CONTINUATION_PROMPTS), completion, facts_known
    return "", *_writing(story, text, rng)


def _writing(story: Story, text: str, rng: random.Random) -> tuple[str, str, dict[str, Any]]:
    """Ask for a story with words that this story uses."""
    props = dict(story.props)
    candidates = [story.characters[0].trait, props["weather"], story.items[0].look, story.characters[0].kin, story.mood]
    third = [word for word in candidates if _word(word).search(text)]
    words = [story.items[0].noun, story.places[0].noun]
    if third:
        words.append(choose(rng, third))
    names: list[str] = []
    if rng.random() < 0.4:
        names = [story.characters[0].name]
        words.append(names[0])
    rng.shuffle(words)
    prompt = choose(rng, _WRITING_PROMPTS).format(words=", ".join(words))
    return prompt, text, {"words": words, "names": names, "objects": [], "kind": story.kind}

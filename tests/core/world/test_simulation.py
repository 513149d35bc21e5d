"""The simulation: plots run without contradiction, and what is told is what happened."""

import random
import re
from collections import Counter

import pytest

from pipelines.core.world.lexicon import ENDINGS, KIND_MARKERS, MOODS, NAMES, SEASONS, THING_NOUNS, UNKIND_MARKERS
from pipelines.core.world.narration import narrate, split_sentences
from pipelines.core.world.phrases import EVENT_PHRASES, FEELING_PHRASES, REASON_PHRASES
from pipelines.core.world.plots import EVERY_PLOT, PLOTS
from pipelines.core.world.simulation import simulate
from pipelines.core.world.tasks import questions


def _many(season, num):
    for index in range(num):
        rng = random.Random(f"{season}:{index}")
        story = simulate(rng, season)
        yield story, narrate(story, rng)


def test_there_are_at_least_eighteen_schemas_and_four_and_three_new_ones_by_season():
    assert len(PLOTS["home"]) >= 18
    home = {plot.name for plot in PLOTS["home"]}
    assert len({plot.name for plot in PLOTS["sea"]} - home) >= 3
    assert len({plot.name for plot in PLOTS["winter"]} - home) >= 3


def test_sixteen_names_half_of_them_girls():
    assert len(set(NAMES)) == 16


def test_every_kind_of_event_has_at_least_four_phrasings_and_every_step_is_a_kind():
    assert all(len(set(phrases)) >= 4 for phrases in EVENT_PHRASES.values())
    assert set(FEELING_PHRASES) == set(MOODS)
    for plot in EVERY_PLOT:
        outcomes = plot.kind_outcomes + plot.unkind_outcomes
        steps = [step for options in plot.setup for step in options]
        steps += [step for outcome in outcomes for options in outcome.steps for step in options]
        assert {step.kind for step in steps} <= set(EVENT_PHRASES) | set(MOODS), plot.name


def test_phrasings_name_no_thing_that_is_not_in_the_story():
    texts = [text for phrases in EVENT_PHRASES.values() for text in phrases]
    texts += [text for phrases in FEELING_PHRASES.values() for text in phrases]
    texts += [*REASON_PHRASES, *ENDINGS]
    texts += [place.sights for season in SEASONS.values() for place in season.places]
    texts += [thing.quality for season in SEASONS.values() for thing in season.things]
    for text in texts:
        assert not set(re.findall(r"[a-z]+", re.sub(r"\{.*?\}", "", text.lower()))) & THING_NOUNS, text


def test_kind_and_unkind_markers_do_not_overlap():
    assert not KIND_MARKERS & UNKIND_MARKERS


@pytest.mark.parametrize("season", list(SEASONS))
def test_every_story_names_both_characters_the_thing_and_the_place(season):
    for story, text in _many(season, 1000):
        names = [character.name for character in story.characters[:2]]
        for word in (*names, story.items[0].noun, story.places[0].noun):
            assert re.search(rf"\b{word}\b", text), (story.plot, word, text)


def test_all_schemas_occur_and_none_decides_thing_or_place():
    stories = [story for story, _ in _many("home", 3000)]
    assert {story.plot for story in stories} == {plot.name for plot in PLOTS["home"]}
    for plot in PLOTS["home"]:
        places = Counter(story.places[0].noun for story in stories if story.plot == plot.name)
        assert max(places.values()) / sum(places.values()) < 0.15


def test_about_half_of_the_stories_are_kind():
    assert 0.45 < sum(story.kind for story, _ in _many("home", 1500)) / 1500 < 0.55


def test_every_event_but_the_first_has_an_earlier_cause():
    for story, _ in _many("home", 200):
        assert story.events[0].cause is None
        assert all(event.cause is not None and event.cause < i for i, event in enumerate(story.events) if i)


def test_a_thing_that_was_given_is_with_its_receiver_at_the_end():
    seen = 0
    for story, _ in _many("home", 800):
        moves = [
            e for e in story.events if e.kind in ("give", "grab", "return", "keepsake", "reward", "deliver", "swap")
        ]
        if moves and moves[-1].kind == "grab" and dict(story.holders).get(moves[-1].item.noun):
            assert dict(story.holders)[moves[-1].item.noun] == moves[-1].actor.name
            seen += 1
    assert seen > 50


def test_the_last_feeling_told_of_the_main_character_is_the_mood():
    for story, _ in _many("home", 300):
        main = [e for e in story.events if e.kind == "feel" and e.actor == story.characters[0]]
        assert main[-1].mood == story.mood


def test_who_is_asked_about_in_the_end_felt_what_was_told_last_of_them():
    asked = 0
    for seed, (story, text) in enumerate(_many("home", 300)):
        last = {event.actor.name: event.mood for event in story.events if event.kind == "feel"}
        for question in questions(story, text, random.Random(seed)):
            if question.kind == "how_felt":
                names = [name for name in last if name in question.text]
                assert [last[name] for name in names] == [question.answer]
                asked += 1
    assert asked > 300


def test_splitting_into_sentences_loses_nothing_and_keeps_quotations_whole():
    for _, text in _many("home", 200):
        sentences = split_sentences(text)
        assert " ".join(sentences) == text
        assert all(sentence.count('"') % 2 == 0 for sentence in sentences)


def test_an_unknown_season_is_refused():
    with pytest.raises(ValueError, match="season is 'mars': choose one of home, sea, winter"):
        simulate(random.Random(0), "mars")

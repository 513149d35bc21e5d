"""The corpus: enough to learn from, not to be guessed, the same every time, and never across splits."""

import hashlib
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict

import pytest

from pipelines.core.world.corpus import FORMATS, SPLITS, TalesSource, documents, instruction_records
from pipelines.core.world.lexicon import ENDINGS, MOODS, NAMES, PLACE_NOUNS, SEASONS, THING_NOUNS
from pipelines.core.world.tasks import TASKS

_SOURCE = TalesSource(stories=100, seed=7)


@pytest.fixture(scope="module")
def stories():
    return [document.text for document in documents(TalesSource(notes=0.0), "train", 3000)]


@pytest.fixture(scope="module")
def records():
    return list(instruction_records(_SOURCE, "train", 2000))


def _types(texts):
    return set(re.findall(r"[a-z']+", " ".join(texts).lower()))


def test_three_thousand_stories_hold_at_least_a_thousand_word_types(stories):
    assert len(_types(stories)) >= 1000


def test_nearly_all_stories_have_between_60_and_250_words(stories):
    lengths = [len(text.split()) for text in stories]
    assert sum(60 <= length <= 250 for length in lengths) / len(lengths) > 0.97
    assert 70 <= sum(lengths) / len(lengths) <= 100


def test_stories_are_all_different_and_no_slot_is_left_open(stories):
    assert len(set(stories)) == len(stories)
    assert not any("{" in text or "}" in text for text in stories)


def test_articles_agree_with_the_next_word(stories):
    assert not any(re.search(r"\b[Aa] [aeio]|\b[Aa]n (?!hour)[^aeiouAEIOU]|  | [.,]|\.\.", text) for text in stories)


def test_every_sentence_starts_with_a_capital(stories):
    assert not any(re.search(r"[a-z][.!] [a-z]", text) for text in stories)


def test_about_three_in_five_stories_have_an_ending(stories):
    assert 0.55 < sum(text.endswith(ENDINGS) for text in stories) / len(stories) < 0.65


def test_a_quarter_of_the_documents_are_notes_and_none_asks_questions_by_default():
    sources = Counter(document.source for document in documents(_SOURCE, "train", 2000))
    assert set(sources) == {"tales/story", "tales/notes"}
    assert 0.22 < sources["tales/notes"] / 2000 < 0.28


def test_reading_share_adds_stories_followed_by_questions_and_answers():
    texts = [d.text for d in documents(TalesSource(notes=0, reading_share=1), "train", 20)]
    assert all(re.search(r"\nQuestion: .+\? Answer: \w+", text) for text in texts)


def test_every_task_occurs_with_at_least_five_prompts(records):
    prompts = defaultdict(set)
    for record in records:
        prompts[record.task].add(record.prompt)
    assert set(prompts) == set(TASKS)
    assert all(len(texts) >= 5 for texts in prompts.values())


def test_every_answer_is_one_word_that_occurs_in_its_context(records):
    for record in records:
        if record.task == "question_answering":
            assert re.fullmatch(r"\w+", record.completion)
            assert re.search(rf"\b{record.completion}\b", record.context)


def test_each_story_gets_up_to_nine_different_questions(records):
    per_story = Counter(r.id.rsplit("-", 1)[0] for r in records if r.task == "question_answering")
    assert set(per_story.values()) <= set(range(3, 10))
    assert sum(per_story.values()) / len(per_story) > 7


def test_the_mood_of_a_story_is_asked_twice_in_other_words_with_one_answer(records):
    asked = defaultdict(list)
    for record in records:
        if record.task == "mood":
            asked[record.id.rsplit("-", 1)[0]].append(record)
    for first, second in asked.values():
        assert first.prompt != second.prompt
        assert first.completion == second.completion


def test_without_the_story_the_best_constant_answer_for_each_question_is_nearly_always_wrong(records):
    answers = defaultdict(Counter)
    for record in records:
        if record.task == "question_answering":
            answers[record.gold["question"]][record.completion] += 1
    hits = sum(max(counter.values()) for counter in answers.values())
    assert hits / sum(sum(counter.values()) for counter in answers.values()) < 0.15


def test_no_mood_is_so_common_that_guessing_pays(records):
    moods = Counter(record.completion for record in records if record.task == "mood")
    assert set(moods) == set(MOODS)
    assert max(moods.values()) / sum(moods.values()) < 0.35


def test_the_words_to_use_are_used_by_the_completion(records):
    for record in records:
        if record.task == "story_writing":
            assert all(word in record.completion for word in record.gold["words"])
            assert all(word in record.prompt for word in record.gold["words"])


def test_a_continuation_takes_up_where_its_context_stops():
    first = {r.context: r.completion for r in instruction_records(_SOURCE, "train", 60) if r.task == "continuation"}
    assert first
    assert all(completion[0].isupper() or completion[0] == '"' for completion in first.values())


def test_the_same_seed_gives_the_same_bytes_in_another_process_with_another_hash_seed():
    code = (
        "import hashlib; from pipelines.core.world.corpus import *; s = TalesSource(seed=3, reading_share=0.2);"
        "t = repr([list(documents(s, 'valid', 60)), list(instruction_records(s, 'test', 40))]);"
        "print(hashlib.sha256(t.encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    source = TalesSource(seed=3, reading_share=0.2)
    here = repr([list(documents(source, "valid", 60)), list(instruction_records(source, "test", 40))])
    assert digests == {hashlib.sha256(here.encode()).hexdigest() + "\n"}


def test_a_document_does_not_depend_on_how_many_are_asked_for():
    assert list(documents(_SOURCE, "train", 5)) == list(documents(_SOURCE, "train", 50))[:5]
    assert len(list(documents(_SOURCE, "train"))) == 100


def test_another_seed_gives_another_corpus():
    other = {document.text for document in documents(TalesSource(seed=8), "train", 100)}
    assert not other & {document.text for document in documents(_SOURCE, "train", 100)}


def test_the_splits_share_neither_a_text_nor_an_id_nor_a_cast():
    texts, ids, casts = {}, {}, {}
    for split in SPLITS:
        made = list(documents(_SOURCE, split, 800))
        asked = list(instruction_records(_SOURCE, split, 200))
        texts[split] = {d.text for d in made} | {r.context for r in asked if r.task == "question_answering"}
        ids[split] = {d.id for d in made} | {r.id for r in asked}
        casts[split] = {_cast(text) for text in texts[split]}
    for one, two in (("train", "valid"), ("train", "test"), ("valid", "test")):
        assert not texts[one] & texts[two]
        assert not ids[one] & ids[two]


def _cast(text):
    return tuple(word for word in re.findall(r"\w+", text) if word in NAMES or word in THING_NOUNS)[:4]


@pytest.mark.parametrize("season", ["sea", "winter"])
def test_another_season_has_other_things_places_and_words(season, stories):
    drifted = [d.text for d in documents(TalesSource(season=season, notes=0.0), "train", 1000)]
    home, away = _types(stories), _types(drifted)
    assert len(away - home) / len(away) > 0.2
    assert not home & {thing.noun for thing in SEASONS[season].things}
    new_places = {place.noun for place in SEASONS[season].places} & PLACE_NOUNS
    assert len(away & new_places) >= 15


def test_upper_is_all_capitals_and_script_writes_speech_as_lines():
    upper = [d.text for d in documents(TalesSource(format="upper"), "train", 30)]
    assert all(text == text.upper() for text in upper)
    script = "\n".join(d.text for d in documents(TalesSource(format="script", notes=0.0), "train", 30))
    assert re.search(r"^[A-Z]+: \w", script, re.MULTILINE)
    assert '"' not in script


@pytest.mark.parametrize("form", FORMATS)
def test_answers_occur_in_their_contexts_in_every_format(form):
    for record in instruction_records(TalesSource(format=form), "train", 50):
        assert record.completion
        if record.task == "question_answering":
            assert record.completion in record.context


def test_swapped_labels_change_moods_and_nothing_else():
    standard = list(instruction_records(_SOURCE, "test", 200))
    swapped = list(instruction_records(TalesSource(stories=100, labels="swapped"), "test", 200))
    changed = [a.task for a, b in zip(standard, swapped, strict=True) if a.completion != b.completion]
    assert set(changed) == {"mood"}
    assert len(changed) > 120
    assert [r.prompt for r in standard] == [r.prompt for r in swapped]


def test_a_uri_parses_and_comes_back():
    uri = "tales://?stories=5000&seed=9&season=sea&format=script&labels=swapped&notes=0.1&reading_share=0.2"
    source = TalesSource.parse(uri)
    assert source == TalesSource(5000, 9, "sea", "script", "swapped", 0.1, 0.2)
    assert source.uri == uri
    assert TalesSource.parse("tales://") == TalesSource()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("tales://?season=mars", "season is 'mars': permitted is one of home, sea, winter"),
        ("tales://?colour=red", "unknown key 'colour' (value 'red')"),
        ("tales://?stories=many", "stories is 'many' in 'tales://?stories=many': permitted is a whole number"),
        ("tales://?stories=0", "stories is 0: permitted is a whole number of at least 1"),
        ("tales://?format=morse", "format is 'morse': permitted is one of plain, upper, script"),
        ("tales://?labels=x", "labels is 'x': permitted is one of standard, swapped"),
        ("tales://?notes=2", "notes is 2.0: permitted is a share between 0 and 1"),
        ("tales://?notes=nan", "notes is nan: permitted is a share"),
        ("tales://?notes=0.7&reading_share=0.7", "notes + reading_share is 1.4: permitted is at most 1 together"),
        ("tales://?seed=1&seed=2", "key 'seed' occurs twice"),
        ("hf://tales", "is no tales source"),
    ],
)
def test_a_bad_uri_is_refused_with_the_remedy(uri, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        TalesSource.parse(uri)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split is 'dev': permitted is one of train, valid, test"):
        next(documents(_SOURCE, "dev", 1))

"""The gold scorer: it knows good from bad, and no trick pays."""

import random
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.world.corpus import TalesSource, instruction_records
from pipelines.core.world.gold import LENGTHS, WEIGHTS, check, distinct_share, gold_score, has_ending
from pipelines.core.world.lexicon import ENDINGS, KIND_MARKERS, NAMES, THING_NOUNS, UNKIND_MARKERS

_WRITE = {"task": "story_writing", "words": ["drum", "barn", "kind"], "names": ["Lily"], "objects": []}
_GOLDS = [
    _WRITE,
    {"task": "continuation", "names": ["Lily", "Tom"], "objects": ["drum"]},
    {"task": "story_summary", "words": ["Lily", "drum"], "names": ["Lily", "Tom"], "objects": ["drum"]},
    {"task": "dialogue_summary", "words": ["Tom"], "names": ["Tom"], "objects": []},
    {"task": "question_answering", "answer": "Tom"},
    {"task": "mood", "answer": "sad"},
]
_MARKERS = [*sorted(KIND_MARKERS), *sorted(UNKIND_MARKERS)]
_VOCABULARY = [*NAMES, *sorted(THING_NOUNS)[:6], *_MARKERS, *ENDINGS, "barn.", "the", "sad"]
_TEXTS = st.one_of(st.text(max_size=200), st.lists(st.sampled_from(_VOCABULARY), max_size=120).map(" ".join))


@given(st.sampled_from(_GOLDS), _TEXTS)
@settings(max_examples=150, deadline=None)
def test_scores_lie_between_zero_and_one_and_do_not_change(gold, text):
    score = gold_score(gold, text)
    assert 0.0 <= score.total <= 1.0
    assert all(0.0 <= part <= 1.0 for part in score.parts.values())
    assert score == gold_score(gold, text)


@given(st.sampled_from(_GOLDS), _TEXTS)
@settings(max_examples=200, deadline=None)
def test_saying_a_text_twice_never_raises_its_score(gold, text):
    assert gold_score(gold, text + " " + text).total <= gold_score(gold, text).total + 1e-9


@pytest.mark.parametrize("gold", _GOLDS, ids=lambda gold: gold["task"])
@pytest.mark.parametrize("text", ["", "  \n", "!?"])
def test_an_empty_text_scores_nothing(gold, text):
    assert gold_score(gold, text).total == 0.0


def test_the_weights_of_each_task_sum_to_one():
    assert all(sum(weights.values()) == pytest.approx(1.0) for weights in WEIGHTS.values())
    assert set(LENGTHS) == {task for task, weights in WEIGHTS.items() if "length" in weights}


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match="gold task is 'poem': choose one of story_writing"):
        gold_score({"task": "poem"}, "x")


@pytest.mark.parametrize("gold", _GOLDS, ids=lambda gold: gold["task"])
def test_facts_that_can_be_judged_by_are_no_fault(gold):
    check(gold)


@pytest.mark.parametrize(
    ("gold", "said"),
    [
        ({"label": 3}, "gold task is ''"),
        ({"task": ["mood"]}, "gold task is .'mood'.: choose one of"),
        ({"task": "mood"}, "gold answer is None: a text is needed for mood"),
        ({"task": "continuation", "names": "Lily"}, "gold names is 'Lily': a list of texts is needed"),
        ({"task": "continuation", "words": [3]}, "gold words is .3."),
    ],
)
def test_facts_that_nothing_can_be_judged_by_are_told_with_what_is_needed(gold, said):
    with pytest.raises(ValueError, match=said):
        check(gold)


@pytest.mark.parametrize(
    "text", ["thank you " * 40, "please thank sorry shared hugged. The end.", "The end.", "Lily " * 60]
)
def test_tricks_score_low(text):
    assert gold_score(_WRITE, text).total < 0.35


_GOOD = (
    "Lily was a kind girl. One sunny day, Lily was in the barn. Lily had a red drum. Then Tom came to the barn. "
    '"Please may I play with the drum?" asked Tom. Lily shared the drum with Tom. "Thank you!" said Tom. '
    "Lily was happy. The end."
)


def test_each_fault_lowers_the_score_of_a_good_story():
    best = gold_score(_WRITE, _GOOD).total
    assert best > 0.95
    faults = {
        "no ending": _GOOD.removesuffix(" The end."),
        "a word missing": _GOOD.replace("barn", "tower"),
        "another character": _GOOD.replace("Lily", "Zoe"),
        "rude": _GOOD.replace("shared the drum with", "grabbed the drum from").replace("Please may", "Mine! May"),
        "a loop": _GOOD.removesuffix("The end.") + "Lily was happy. " * 12 + "The end.",
        "cut short": "Lily was a kind girl. The end.",
        "garbled": " ".join(random.Random(0).sample(_GOOD.split(), 12)),
        "many strangers": _GOOD.replace("Tom came", "Tom, Ben, Zoe, Max and Finn came"),
        "many things": _GOOD.replace("a red drum", "a red drum, a kite, a lamp, a doll and a flute"),
    }
    scores = {fault: gold_score(_WRITE, text).total for fault, text in faults.items()}
    assert all(score < best - 0.015 for score in scores.values()), scores


def test_a_right_answer_beats_a_wordy_one_beats_a_wrong_one():
    gold = {"task": "question_answering", "answer": "Tom"}
    right, wordy, hedged, wrong = (
        gold_score(gold, text).total for text in ("Tom.", "It was Tom who had it", "Tom or Lily", "Lily")
    )
    assert right == 1.0 > wordy > hedged > wrong
    assert wrong < 0.1
    assert gold_score({"task": "question_answering", "answer": "drum"}, "The drum").total == 1.0


def test_naming_every_mood_scores_little():
    assert gold_score({"task": "mood", "answer": "sad"}, "happy sad angry scared proud").total < 0.2


def test_true_kind_stories_with_an_ending_score_clearly_above_the_others():
    groups = {}
    for record in instruction_records(TalesSource(), "valid", 300):
        if record.task in ("story_writing", "continuation"):
            key = (record.gold["kind"], has_ending(record.completion))
            groups.setdefault(key, []).append(gold_score(record.gold, record.completion).total)
    best = mean(groups[True, True])
    assert best > 0.88
    assert best > mean(groups[True, False]) + 0.1
    assert best > mean(groups[False, True]) + 0.07
    assert mean(groups[False, False]) < 0.72


def test_true_answers_and_summaries_score_high():
    for record in instruction_records(TalesSource(), "valid", 100):
        if record.task in ("question_answering", "mood"):
            assert gold_score(record.gold, record.completion).total == 1.0
        elif record.task.endswith("summary"):
            assert gold_score(record.gold, record.completion).total > 0.6


def test_the_distinct_share_of_a_loop_is_small_and_of_prose_is_one():
    assert distinct_share(list("abcdefg")) == 1.0
    assert distinct_share(("a b c d " * 20).split()) < 0.1
    assert distinct_share([]) == 0.0

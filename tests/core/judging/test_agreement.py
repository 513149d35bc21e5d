"""Agreement beyond chance, against a worked example of the literature."""

import random

import pytest

from pipelines.core.judging.agreement import agreement_with_others, krippendorff_alpha, pairwise_agreement
from pipelines.core.learning import preferences
from pipelines.core.learning.preferences import Ranking

RELIABILITY = {
    "A": [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    "B": [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    "C": [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    "D": [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
}
"""Krippendorff 2011, Computing Krippendorff's alpha-reliability, example C: interval alpha .849."""


def labels(table):
    return [
        (coder, f"unit {unit:02}", float(value))
        for coder, values in table.items()
        for unit, value in enumerate(values)
        if value is not None
    ]


def test_the_published_example_gives_the_published_alpha():
    assert krippendorff_alpha(labels(RELIABILITY)) == pytest.approx(0.849, abs=5e-4)


def test_equal_labels_agree_perfectly():
    assert krippendorff_alpha([(coder, item, float(ord(item))) for coder in "xy" for item in "abc"]) == 1.0


def test_labels_at_random_agree_as_by_chance():
    draw = random.Random(0)
    given = [(coder, f"{item:04}", float(draw.randint(1, 4))) for coder in "xy" for item in range(1000)]
    assert krippendorff_alpha(given) == pytest.approx(0, abs=0.1)


def test_items_with_a_single_label_change_nothing():
    given = labels(RELIABILITY)
    alone = [("A", "unit 98", 100.0), ("B", "unit 99", -100.0)]
    assert krippendorff_alpha(given + alone) == krippendorff_alpha(given)


def test_without_an_item_labelled_twice_there_is_no_agreement_to_measure():
    assert krippendorff_alpha([("A", "one", 1.0), ("B", "two", 1.0)]) is None
    assert krippendorff_alpha([]) is None
    assert krippendorff_alpha([("A", "one", 1.0), ("B", "one", 1.0)]) is None


class TestWithOthers:
    def test_of_two_coders_each_agrees_with_the_other_as_both_do(self):
        two = [label for label in labels(RELIABILITY) if label[0] in "AB"]
        assert agreement_with_others(two) == {
            "A": pytest.approx(krippendorff_alpha(two)),
            "B": pytest.approx(krippendorff_alpha(two)),
        }

    def test_who_contradicts_the_others_stands_out_and_is_not_held_against_those_who_agree(self):
        straight, turned = ({item: float(place) for place, item in enumerate(items)} for items in ("abcd", "dcba"))
        given = [(coder, item, place) for coder in "xy" for item, place in straight.items()]
        given += [("z", item, place) for item, place in turned.items()]
        found = agreement_with_others(given)
        assert found["z"] < 0 < found["x"] == found["y"]

    def test_who_met_nobody_has_none_also_beside_others_who_met(self):
        given = [("x", "a", 1.0), ("y", "a", 1.0), ("x", "b", 2.0), ("y", "b", 2.0), ("alone", "c", 1.0)]
        assert agreement_with_others(given) == {"alone": None, "x": 1.0, "y": 1.0}
        assert agreement_with_others([]) == {}

    def test_the_order_of_the_labels_changes_nothing_but_rounding(self):
        given = labels(RELIABILITY)
        shuffled = random.Random(0).sample(given, len(given))
        found = agreement_with_others(given)
        assert list(agreement_with_others(shuffled)) == list(found) == list("ABCD")
        assert agreement_with_others(shuffled) == pytest.approx(found)


def ranking(annotator, prompt, responses, ranks, kind="simulated"):
    return Ranking(
        id=f"{annotator} {prompt}",
        prompt=prompt,
        responses=tuple(responses),
        ranks=tuple(ranks),
        annotator=annotator,
        kind=kind,
    )


class TestPairwiseAgreement:
    def test_hits_misses_and_half_hits_are_counted_over_the_pairs_that_others_order(self):
        judge = [ranking("judge", "one", "abc", [1, 2, 3]), ranking("judge", "two", "de", [1, 1])]
        others = [
            ranking("ann", "one", "abc", [1, 3, 2]),  # a>b and a>c right, c>b wrong
            ranking("ben", "two", "de", [1, None]),  # a tie of the judge
            ranking("ben", "one", "abc", [1, 1, 1]),  # says nothing
            ranking("ben", "three", "fg", [1, 2]),  # not the judge's
        ]
        found = pairwise_agreement(judge, others, seed=0)
        assert (found.num_prompts, found.num_pairs, found.accuracy) == (2, 4, 2.5 / 4)
        assert found.accuracy_low == 0.5
        assert found.accuracy_high == pytest.approx(2 / 3)

    def test_the_order_in_which_somebody_saw_the_responses_does_not_matter(self):
        judge = [ranking("judge", f"{n}", "abc", [1, 2, 3]) for n in range(3)]
        others = [ranking("ann", f"{n}", "cab", [3, 1, 2]) for n in range(3)]
        found = pairwise_agreement(judge, others, seed=0)
        assert (found.accuracy, found.alpha, found.accuracy_low) == (1.0, 1.0, 1.0)

    def test_alpha_is_that_of_the_preferences_of_two_coders(self):
        judge = [ranking("judge", "one", "abcd", [1, 2, 3, 4])]
        others = [ranking("ann", "one", "abcd", [2, 1, 3, 4])]
        found = pairwise_agreement(judge, others, seed=0)
        assert found.alpha == pytest.approx(krippendorff_alpha(preferences.labels(judge + others)))
        assert (found.accuracy, found.accuracy_low) == (pytest.approx(5 / 6), None)

    def test_nothing_in_common_is_no_agreement_at_all(self):
        found = pairwise_agreement([ranking("judge", "one", "ab", [1, 2])], [], seed=0)
        assert (found.num_prompts, found.num_pairs, found.alpha, found.accuracy) == (0, 0, None, None)

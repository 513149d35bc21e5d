"""Rankings and ratings to pairs."""

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.judging.agreement import krippendorff_alpha
from pipelines.core.learning import preferences
from pipelines.core.learning.preferences import Ranking, Rating


def ranking(ranks, *, responses=None, gold=None, prompt="p", annotator="ann"):
    return Ranking(
        id="r",
        prompt=prompt,
        responses=tuple(responses or (f"response {number}" for number in range(len(ranks)))),
        ranks=tuple(ranks),
        annotator=annotator,
        kind="human",
        gold=gold,
    )


def order(ranks, **options):
    return [(pair["chosen"][-1], pair["rejected"][-1]) for pair in preferences.pairs(ranking(ranks, **options))]


class TestPairs:
    def test_different_ranks_give_every_pair_with_the_better_one_chosen(self):
        assert order([2, 1, 3]) == [("1", "0"), ("0", "2"), ("1", "2")]

    def test_a_tie_gives_no_pair_and_is_counted(self):
        assert order([1, 1, 2]) == [("0", "2"), ("1", "2")]
        assert preferences.num_ties(ranking([1, 1, 2])) == 1

    def test_a_failed_response_loses_against_every_ranked_one_and_two_failed_ones_say_nothing(self):
        assert order([None, 5, None]) == [("1", "0"), ("1", "2")]
        assert preferences.num_ties(ranking([None, 5, None])) == 0
        assert preferences.num_failed(ranking([None, 5, None])) == 2

    def test_equal_texts_give_no_pair(self):
        assert order([1, 2], responses=["same", "same"]) == []

    def test_a_pair_says_where_it_comes_from_and_what_gold_thinks(self):
        (pair,) = preferences.pairs(ranking([2, 1], gold=(0.25, 0.5)))
        assert pair == {
            "id": "r:1>0",
            "prompt": "p",
            "chosen": "response 1",
            "rejected": "response 0",
            "source": "human",
            "ranking_id": "r",
            "annotator": "ann",
            "task": None,
            "gold_chosen": 0.5,
            "gold_rejected": 0.25,
        }

    @given(st.lists(st.one_of(st.none(), st.integers(1, 4)), min_size=2, max_size=7))
    def test_pairs_ties_and_failures_account_for_every_two_responses(self, ranks):
        one = ranking(ranks)
        both_failed = len(list(combinations([rank for rank in ranks if rank is None], 2)))
        accounted = len(preferences.pairs(one)) + preferences.num_ties(one) + both_failed
        assert accounted == len(ranks) * (len(ranks) - 1) // 2

    @given(st.lists(st.one_of(st.none(), st.integers(1, 4)), min_size=2, max_size=7))
    def test_no_response_is_preferred_to_one_with_a_better_rank(self, ranks):
        for pair in preferences.pairs(ranking(ranks)):
            better, worse = (ranks[int(pair[side].split()[-1])] for side in ("chosen", "rejected"))
            assert better is not None
            assert worse is None or better < worse


class TestLabels:
    def test_every_two_responses_are_labelled_in_both_orders(self):
        two = [ranking([1, 2, None], annotator=name) for name in ("ann", "ben")]
        one, other, failed = two[0].responses
        found = {item.split("\0", 1)[1]: value for name, item, value in preferences.labels(two) if name == "ann"}
        assert found[f"{one}\0{other}"] == found[f"{other}\0{failed}"] == found[f"{one}\0{failed}"] == 1
        assert found[f"{other}\0{one}"] == -1
        assert len(found) == 6

    def test_annotators_who_chose_between_some_of_the_responses_agree_with_those_who_ranked_all(self):
        whole = [ranking([1, 2, 3, 4], annotator="ann")]
        texts = whole[0].responses
        chosen = [
            replace(whole[0], annotator="ben", responses=(texts[first], texts[second]), ranks=(1, 2))
            for first, second in combinations(range(4), 2)
        ]
        assert krippendorff_alpha(preferences.labels(whole + chosen)) == 1.0
        assert krippendorff_alpha(preferences.labels(whole + chosen[:1])) == 1.0

    def test_who_ranked_twice_counts_once_and_whom_nobody_met_not_at_all(self):
        again = [ranking([1, 2], annotator="ann"), ranking([2, 1], annotator="ann"), ranking([1, 2], annotator="ben")]
        alone = replace(ranking([1, 2], annotator="cleo"), prompt="another")
        values = {(name, value) for name, _, value in preferences.labels([*again, alone])}
        assert values == {("ann", 0), ("ben", 1), ("ben", -1)}

    def test_where_everything_is_a_tie_there_is_no_agreement_to_measure(self):
        tied = [ranking([1, 1, 1], annotator=name) for name in ("ann", "ben")]
        assert krippendorff_alpha(preferences.labels(tied)) is None


class TestRatings:
    def test_ratings_of_one_prompt_by_one_annotator_become_a_ranking(self):
        rated = [
            Rating(prompt="p", response=name, score=score, annotator="ann")
            for name, score in (("low", 1), ("high", 4.5), ("also high", 4.5), ("failed", None))
        ]
        (made,), alone = preferences.from_ratings(rated, kind="human")
        assert dict(zip(made.responses, made.ranks, strict=True)) == {
            "low": 2,
            "high": 1,
            "also high": 1,
            "failed": None,
        }
        assert alone == 0

    @pytest.mark.parametrize(("others", "kept"), [("aa", "aa"), ("bb", None), (None, None)])
    def test_a_ranking_out_of_ratings_keeps_the_instructions_that_all_of_them_were_made_by(self, others, kept):
        rated = [
            Rating(prompt="p", response=name, score=1, annotator="ann", instructions=instructions)
            for name, instructions in (("one", "aa"), ("two", others))
        ]
        assert preferences.from_ratings(rated, kind="human")[0][0].instructions == kept

    def test_annotators_are_not_mixed_and_a_lone_rating_is_counted(self):
        rated = [
            Rating(prompt="p", response="a", score=1, annotator="ann"),
            Rating(prompt="p", response="b", score=2, annotator="ben"),
            Rating(prompt="q", response="b", score=2, annotator="ann"),
        ]
        assert preferences.from_ratings(rated, kind="human") == ([], 3)


class TestSplit:
    def test_about_the_share_is_held_out_and_it_depends_on_the_seed(self):
        prompts = [f"prompt {number}" for number in range(4000)]
        held = [preferences.held_out(prompt, seed=1, share=0.2) for prompt in prompts]
        assert sum(held) / len(held) == pytest.approx(0.2, abs=0.02)
        assert held != [preferences.held_out(prompt, seed=2, share=0.2) for prompt in prompts]

    def test_nothing_and_everything_can_be_held_out(self):
        assert not preferences.held_out("p", seed=0, share=0.0)
        assert preferences.held_out("p", seed=0, share=1.0)


def test_the_best_reachable_accuracy_counts_equal_gold_as_half():
    records = [
        {"gold_chosen": 0.9, "gold_rejected": 0.1},
        {"gold_chosen": 0.2, "gold_rejected": 0.1},
        {"gold_chosen": 0.1, "gold_rejected": 0.2},
        {"gold_chosen": 0.1, "gold_rejected": 0.1},
        {"prompt": "without gold"},
    ]
    assert preferences.best_reachable_accuracy(records) == 2.5 / 4
    assert preferences.best_reachable_accuracy([{"prompt": "p"}]) is None


def test_the_chosen_tasks_are_taken_and_all_where_none_occurs():
    records = [{"task": "a"}, {"task": "b"}]
    assert preferences.about(records, ["b", "c"]) == [{"task": "b"}]
    assert preferences.about(records, ["c"]) == records


def test_the_pairs_of_a_ranking_come_together_and_ready_pairs_stand_alone():
    records = [
        {"id": "1", "ranking_id": "x", "prompt": "p"},
        {"id": "2", "prompt": "p"},
        {"id": "3", "ranking_id": "x", "prompt": "p"},
        {"id": "4", "prompt": "p", "ranking_id": None},
    ]
    assert [[record["id"] for record in group] for group in preferences.grouped(records)] == [["1", "3"], ["2"], ["4"]]


def test_the_prompts_of_the_held_out_model_are_their_share_of_those_that_are_trained_on():
    trained_on = [f"p{n}" for n in range(6000) if not preferences.held_out(f"p{n}", seed=7, share=0.2)]
    chosen = [text for text in trained_on if preferences.for_held_out_model(text, seed=7, share=0.25)]
    assert abs(len(chosen) / len(trained_on) - 0.25) < 0.025
    assert chosen == [text for text in trained_on if preferences.for_held_out_model(text, seed=7, share=0.25)]

"""Labels of every form become lines of one schema."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.learning import labels
from pipelines.core.learning.preferences import Ranking, Rating

WHO = {"prompt": "Sing.", "annotator": "ann"}


@pytest.mark.parametrize(
    ("given_label", "line"),
    [
        ({"responses": ["la", "no"], "ranks": [1, 2]}, {"responses": ["la", "no"], "ranks": [1, 2]}),
        ({"responses": ["la", "no"], "ranks": [1, "F"]}, {"responses": ["la", "no"], "ranks": [1, None]}),
        ({"response": "la", "score": 4}, {"response": "la", "score": 4}),
        ({"response": "la", "score": "F"}, {"response": "la", "score": None}),
        ({"chosen": "la", "rejected": "no"}, {"responses": ["la", "no"], "ranks": [1, 2]}),
        ({"response_a": "la", "response_b": "no", "choice": "a"}, {"responses": ["la", "no"], "ranks": [1, 2]}),
        ({"response_a": "la", "response_b": "no", "choice": "b"}, {"responses": ["la", "no"], "ranks": [2, 1]}),
        ({"response_a": "la", "response_b": "no", "choice": "tie"}, {"responses": ["la", "no"], "ranks": [1, 1]}),
        (
            {"response_a": "la", "response_b": "no", "choice": "both_bad"},
            {"responses": ["la", "no"], "ranks": [None, None]},
        ),
    ],
)
def test_every_form_becomes_a_line_of_the_schema(given_label, line):
    assert labels.line(WHO | given_label) == WHO | line


@pytest.mark.parametrize(
    "given_label",
    [
        {"responses": ["la", "no"]},
        {"responses": ["la", "no"], "ranks": None},
        {"responses": ["la", "no"], "ranks": []},
        {"response": "la", "score": None},
        {"response": "la", "score": ""},
        {"response_a": "la", "response_b": "no", "choice": None},
    ],
)
def test_what_is_not_labelled_yet_is_no_fault(given_label):
    assert labels.line(WHO | given_label) is None


@pytest.mark.parametrize(
    ("given_label", "reason"),
    [
        ([1], "a list instead of an object"),
        (WHO, "fields of no form"),
        (WHO | {"score": 1, "chosen": "la"}, "fields of rating and choice"),
        (WHO | {"chosen": "la", "rejected": "la"}, "the same text"),
        (WHO | {"response_a": "la", "response_b": "no", "choice": "c"}, "one of a, b, tie, both_bad"),
        (WHO | {"response_a": "la", "response_b": "no", "choice": ["a"]}, "one of a, b, tie, both_bad"),
    ],
)
def test_what_has_no_form_is_refused_with_the_reason(given_label, reason):
    with pytest.raises(ValueError, match=reason):
        labels.line(given_label)


def test_an_id_that_is_a_number_is_kept_and_fields_of_other_tools_are_left_behind():
    given_label = WHO | {"id": 7, "chosen": "la", "rejected": "no", "seconds": 12, "kind": "", "instructions": None}
    assert labels.line(given_label) == WHO | {"id": "7", "responses": ["la", "no"], "ranks": [1, 2]}


@pytest.mark.parametrize(
    ("cells", "value"),
    [
        ({"responses": '["la", "no"]', "ranks": "[1, null]"}, {"responses": ["la", "no"], "ranks": [1, None]}),
        ({"ranks": "1 f, 2"}, {"ranks": [1, "F", 2]}),
        ({"ranks": " "}, {}),
        ({"response": "", "score": "4"}, {"response": "", "score": 4}),
        ({"score": " f "}, {"score": "F"}),
        ({"score": "4.5"}, {"score": 4.5}),
        ({"score": "good"}, {"score": "good"}),
        ({"choice": " Tie "}, {"choice": " Tie "}),
    ],
)
def test_cells_of_a_table_become_fields_and_an_empty_cell_none(cells, value):
    assert labels.from_cells(cells) == value


def test_responses_that_are_no_list_in_a_cell_are_refused():
    with pytest.raises(ValueError, match="responses is not a JSON list"):
        labels.from_cells({"responses": "la; no"})


@given(st.dictionaries(st.sampled_from([*labels.TEXTS, "responses", "ranks", "score", "choice"]), st.text()))
def test_whatever_stands_in_the_cells_of_a_table_is_read_or_refused(cells):
    with suppress(ValueError):
        labels.line(labels.from_cells(cells))


def ranking(responses, ranks, **changes):
    values = {"id": "x", "prompt": "Sing.", "annotator": "ann", "kind": "human", **changes}
    return Ranking(responses=tuple(responses), ranks=tuple(ranks), **values)


def test_the_same_label_has_the_same_content_whatever_its_id_and_order_and_another_one_another():
    one = labels.content(ranking(["la", "no"], [1, None]))
    assert labels.content(ranking(["no", "la"], [None, 1], id="y", instructions="a" * 64)) == one
    others = [
        ranking(["la", "no"], [1, 2]),
        ranking(["la", "no"], [None, 1]),
        ranking(["la", "no"], [1, None], annotator="ben"),
        ranking(["la", "no"], [1, None], prompt="Hum."),
        Rating(prompt="Sing.", annotator="ann", response="la", score=1),
    ]
    assert len({one, *map(labels.content, others)}) == 6

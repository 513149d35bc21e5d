from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.text.records import UnfitError, conform, drawn_split, grouping_key

BOTH = frozenset({"valid", "test"})


def made(kind: str, row: dict[str, Any], **settings: dict[str, str]) -> dict[str, Any]:
    columns, constants = settings.get("columns", {}), settings.get("constants", {})
    return conform(kind, row, columns=columns, constants=constants, source="file")


def test_columns_rename_and_constants_fill() -> None:
    record = made(
        "instructions",
        {"question": "Who?", "input": "A story.", "answer": "Ann", "others": ["Anna"], "extra": 1},
        columns={"prompt": "question", "context": "input", "completion": "answer", "references": "others"},
        constants={"task": "question_answering"},
    )
    assert record == {
        "id": record["id"],
        "task": "question_answering",
        "context": "A story.",
        "prompt": "Who?",
        "completion": "Ann",
        "references": ["Anna"],
        "source": "file",
    }


def test_a_missing_id_is_made_from_the_content_and_nothing_else() -> None:
    one = conform("corpus", {"text": "a"}, columns={}, constants={}, source="x")
    two = conform("corpus", {"text": "a"}, columns={}, constants={"id": ""}, source="y")
    three = conform("corpus", {"text": "b"}, columns={}, constants={}, source="x")
    assert one["id"] == two["id"] != three["id"]


def test_numbers_may_be_ids() -> None:
    assert made("corpus", {"id": 12, "text": "a"})["id"] == "12"


def test_preferences_without_a_ranking_are_rankings_of_their_own() -> None:
    record = made("preferences", {"id": "p", "prompt": "a", "chosen": "b", "rejected": "c"})
    assert record["ranking_id"] == "p"


def test_windows_line_ends_inside_fields_are_normalised() -> None:
    assert made("corpus", {"text": "a\r\nb"})["text"] == "a\nb"


@pytest.mark.parametrize(
    ("kind", "row", "reason", "named"),
    [
        ("corpus", {}, "field missing", "text"),
        ("corpus", {"text": None}, "field missing", "text"),
        ("corpus", {"text": 5}, "field of wrong type", "text is a int"),
        ("corpus", {"text": "a\0b"}, "NUL character", "text"),
        ("corpus", {"text": "a\ud800"}, "not UTF-8", "text"),
        ("corpus", {"text": "a", "id": 1.5}, "field of wrong type", "id is a float"),
        ("instructions", {"task": "t", "prompt": "p"}, "field missing", "completion"),
        ("instructions", {"task": "t", "prompt": "p", "completion": "c", "gold": "g"}, "field of wrong type", "gold"),
        (
            "instructions",
            {"task": "t", "prompt": "p", "completion": "c", "gold": {"a": float("nan")}},
            "field of wrong type",
            "gold is not JSON",
        ),
        (
            "instructions",
            {"task": "t", "prompt": "p", "completion": "c", "references": "r"},
            "field of wrong type",
            "references",
        ),
        ("preferences", {"prompt": "p", "chosen": "c"}, "field missing", "rejected"),
    ],
)
def test_what_does_not_fit_is_named_with_its_field(kind: str, row: dict[str, Any], reason: str, named: str) -> None:
    with pytest.raises(UnfitError) as caught:
        made(kind, row)
    assert caught.value.reason == reason
    assert named in caught.value.detail


@given(st.text(), st.floats(0, 0.49))
def test_a_key_always_falls_to_the_same_split(key: str, share: float) -> None:
    assert drawn_split(key, share, BOTH) == drawn_split(key, share, BOTH)


@given(st.text(), st.floats(0, 0.24))
def test_what_is_held_out_stays_so_when_the_share_grows(key: str, share: float) -> None:
    if drawn_split(key, share, frozenset({"valid"})) == "valid":
        assert drawn_split(key, share * 2, frozenset({"valid"})) == "valid"


def test_each_lacking_split_gets_about_its_share() -> None:
    drawn = [drawn_split(f"text {number}", 0.1, BOTH) for number in range(5000)]
    assert 400 < drawn.count("valid") < 600
    assert 400 < drawn.count("test") < 600
    assert "valid" not in {drawn_split(f"text {number}", 0.1, frozenset({"test"})) for number in range(500)}


def test_questions_about_one_story_have_one_key() -> None:
    asked = [{"context": "story", "prompt": prompt} for prompt in ("Who?", "Where?")]
    assert len({grouping_key("instructions", record) for record in asked}) == 1
    assert grouping_key("instructions", {"context": "", "prompt": "Write."}) == "Write."

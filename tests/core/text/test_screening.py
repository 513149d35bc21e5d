import random
from typing import Any

import pytest

from pipelines.core.text.screening import REASONS, Rules, Screen

RULES: dict[str, Any] = {
    "min_characters": 5,
    "max_characters": 5000,
    "near_duplicate_similarity": 0.8,
    "max_control_character_share": 0.01,
    "max_damaged_character_share": 0.01,
    "personal_data": "reject",
    "contamination_words": 8,
}


def screen(**changes: Any) -> Screen:
    return Screen(Rules(**{**RULES, **changes}))


def corpus(*texts: str) -> list[dict[str, Any]]:
    return [{"id": f"d{number}", "text": text, "source": "x"} for number, text in enumerate(texts)]


def asked(context: str, prompt: str, completion: str) -> dict[str, Any]:
    return {"id": prompt, "task": "t", "context": context, "prompt": prompt, "completion": completion, "source": "x"}


def some_text(words: int, seed: int) -> str:
    rng = random.Random(seed)
    return " ".join(f"w{rng.randrange(10**6)}" for _ in range(words))


def reasons(judge: Screen, kind: str, split: str, records: list[dict[str, Any]]) -> list[str]:
    return [REASONS[code] for code in judge.judge(kind, split, records).codes_N]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n ", "empty"),
        ("four", "too short"),
        ("long " * 1001, "too long"),
        ("a text \x07\x08\x1b with bells", "control characters"),
        ("a cafÃ© that was naÃ¯ve", "encoding damage"),
        ("what is this \ufffd\ufffd", "encoding damage"),
        ("write to ann@mail.org please", "personal data"),
        ("a text as it should be", "accepted"),
    ],
)
def test_each_fault_of_form_has_its_reason(text: str, reason: str) -> None:
    assert reasons(screen(), "corpus", "train", corpus(text)) == [reason]


def test_a_context_may_be_empty_and_a_completion_may_not() -> None:
    records = [asked("", "Write.", "A story."), asked("A story.", "Who?", " "), asked("A story.", "", "Ann")]
    judged = screen().judge("instructions", "train", records)
    assert [REASONS[code] for code in judged.codes_N] == ["accepted", "empty", "empty"]
    assert judged.details == {1: "completion", 2: "prompt"}


def test_equal_responses_are_no_preference() -> None:
    record = {"id": "p", "prompt": "a", "chosen": "same", "rejected": "same", "source": "x", "ranking_id": "p"}
    assert reasons(screen(), "preferences", "train", [record]) == ["equal responses"]


def test_the_copy_for_evaluation_stays_and_the_one_for_training_goes() -> None:
    judge = screen()
    short = "only six words stand in here"
    assert reasons(judge, "corpus", "test", corpus(short)) == ["accepted"]
    assert reasons(judge, "corpus", "train", corpus(short.upper(), "something else")) == ["exact duplicate", "accepted"]


def test_training_text_that_quotes_evaluation_text_of_any_kind_is_contaminated() -> None:
    judge = screen()
    story, answer = some_text(20, 1), some_text(20, 2)
    judge.judge("instructions", "test", [asked(story, "Who?", "Ann")])
    judge.judge("preferences", "valid", [{"id": "p", "prompt": "x", "chosen": answer, "rejected": "no", "source": "x"}])
    texts = corpus(f"so {story} end", f"so {answer} end", some_text(20, 3))
    assert reasons(judge, "corpus", "train", texts) == ["contamination", "contamination", "accepted"]
    assert reasons(judge, "instructions", "train", [asked(story, "Where?", "There")]) == ["contamination"]


def test_stories_of_the_instructions_may_stand_in_the_training_corpus() -> None:
    judge, story = screen(), some_text(50, 1)
    assert reasons(judge, "corpus", "train", corpus(story)) == ["accepted"]
    records = [asked(story, "Who?", "Ann"), asked(story, "Where?", "There")]
    assert reasons(judge, "instructions", "train", records) == ["accepted", "accepted"]


def test_a_near_duplicate_of_a_rejected_text_is_accepted() -> None:
    text = some_text(100, 1)
    judge = screen()
    texts = corpus(f"ann@mail.org {text}", text, f"{text} more")
    assert reasons(judge, "corpus", "train", texts) == ["personal data", "accepted", "near duplicate"]


def test_personal_data_can_be_redacted() -> None:
    records = [asked("Call 626-555-1739.", "Who?", "ann@mail.org")]
    judged = screen(personal_data="redact").judge("instructions", "train", records)
    assert judged.codes_N.tolist() == [0]
    assert judged.personal == {0: ["email", "phone"]}
    assert records[0]["context"] == "Call [phone]."
    assert records[0]["completion"] == "[e-mail]"
    assert judged.columns["completion_characters"].tolist() == [len("[e-mail]")]


def test_personal_data_are_looked_for_in_further_accepted_answers_too() -> None:
    def told() -> list[dict[str, Any]]:
        return [asked("A story.", "Who?", "Ann") | {"references": ["Ann", "ann@mail.org"]}]

    assert reasons(screen(), "instructions", "train", told()) == ["personal data"]
    records = told()
    judged = screen(personal_data="redact").judge("instructions", "train", records)
    assert (judged.codes_N.tolist(), judged.personal) == ([0], {0: ["email"]})
    assert records[0]["references"] == ["Ann", "[e-mail]"]


def test_personal_data_can_be_reported_only() -> None:
    records = corpus("write to ann@mail.org please")
    judged = screen(personal_data="report").judge("corpus", "train", records)
    assert (judged.codes_N.tolist(), judged.personal) == ([0], {0: ["email"]})
    assert "ann@mail.org" in records[0]["text"]


@pytest.mark.parametrize("kind", ["corpus", "instructions", "preferences"])
def test_the_columns_of_a_kind_are_known_without_records(kind: str) -> None:
    record = {"id": "a", "text": "text", **asked("c", "p", "d"), "chosen": "x", "rejected": "y"}
    columns = screen().judge(kind, "train", [record]).columns
    assert {name: values.dtype.kind for name, values in columns.items()} == {
        name: values.dtype.kind for name, values in Screen.columns(kind).items()
    }

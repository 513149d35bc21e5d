import pytest

from pipelines.core.judging import few_shot
from tests import fixtures

RECORDS = fixtures.instruction_records(20)
POOL = {
    task: [record for record in RECORDS if record["task"] == task] for task in ("question_answering", "summarisation")
}


@pytest.fixture(scope="module")
def tokenizer():
    return fixtures.tiny_tokenizer(record["context"] for record in RECORDS)


def test_examples_are_of_the_same_task_about_other_texts_and_always_the_same():
    record = RECORDS[0]
    shots = few_shot.examples(record, POOL, 5)
    assert len({shot["id"] for shot in shots}) == 5
    assert {shot["task"] for shot in shots} == {record["task"]}
    assert record["id"] not in {shot["id"] for shot in shots}
    assert shots == few_shot.examples(record, POOL, 5)


def test_a_task_without_examples_has_none():
    assert few_shot.examples({**RECORDS[0], "task": "other"}, POOL, 3) == []


def test_the_plain_prompt_shows_answered_questions_and_stops_before_the_answer(tokenizer):
    shot, record = RECORDS[3], RECORDS[0]
    text = tokenizer.decode(few_shot.prompt_ids(tokenizer, record, [shot], "plain", 10_000))
    assert text == (
        f"{shot['context']}\nQuestion: {shot['prompt']} Answer: {shot['completion']}\n\n"
        f"{record['context']}\nQuestion: {record['prompt']} Answer:"
    )


def test_the_chat_prompt_is_a_conversation(tokenizer):
    shot, record = RECORDS[3], RECORDS[0]
    text = tokenizer.decode(few_shot.prompt_ids(tokenizer, record, [shot], "chat", 10_000))
    assert text == (
        f"<|user|> {shot['context']}\n\n{shot['prompt']}<|assistant|> {shot['completion']}<|endoftext|>"
        f"<|user|> {record['context']}\n\n{record['prompt']}<|assistant|>"
    )


@pytest.mark.parametrize("style", few_shot.STYLES)
def test_examples_that_do_not_fit_are_left_out_but_never_the_question(tokenizer, style):
    record = RECORDS[0]
    alone = few_shot.prompt_ids(tokenizer, record, [], style, 10_000)
    full = few_shot.prompt_ids(tokenizer, record, RECORDS[3:6], style, 10_000)
    cut = few_shot.prompt_ids(tokenizer, record, RECORDS[3:6], style, len(full) - 1)
    assert len(alone) < len(cut) < len(full)
    assert few_shot.prompt_ids(tokenizer, record, RECORDS[3:6], style, 1) == alone


def test_of_a_plain_answer_the_first_line_counts():
    assert few_shot.cut(" red ball \nQuestion: And?", "plain") == "red ball"
    assert few_shot.cut("one\ntwo", "chat") == "one\ntwo"

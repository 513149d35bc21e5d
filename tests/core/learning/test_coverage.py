"""What the loss covers, found by the template's tokens."""

import pytest

from pipelines.core.learning.coverage import Coverage, answered, coverage
from pipelines.core.learning.mixture import Example, encode
from pipelines.core.learning.padding import IGNORED
from tests import fixtures

USER, ASSISTANT, END = 1, 2, 3


def example(labels: list[int]) -> Example:
    return Example(input_ids=[USER, 7, 8, ASSISTANT, 9, END, USER, 7, ASSISTANT, 9, 9, END], labels=labels)


def test_an_answer_goes_from_the_assistants_token_to_the_end_token() -> None:
    found = list(answered(example([]).input_ids, ASSISTANT, END))
    assert [place for place, inside in enumerate(found) if inside] == [4, 5, 9, 10, 11]


@pytest.mark.parametrize(
    ("in_loss", "wanted"),
    [
        ([4, 5, 9, 10, 11], Coverage(loss_in_answers=1.0, answers_in_loss=1.0)),
        (list(range(12)), Coverage(loss_in_answers=5 / 12, answers_in_loss=1.0)),
        ([4, 9, 10], Coverage(loss_in_answers=1.0, answers_in_loss=3 / 5)),
        ([], Coverage(loss_in_answers=0.0, answers_in_loss=0.0)),
    ],
)
def test_prompt_tokens_in_the_loss_and_answers_outside_it_are_counted(in_loss: list[int], wanted: Coverage) -> None:
    ids = example([]).input_ids
    labels = [token if place in in_loss else IGNORED for place, token in enumerate(ids)]
    assert coverage([example(labels)], opens=ASSISTANT, closes=END) == wanted


def test_the_mixture_of_the_pipeline_has_its_loss_on_answers_alone() -> None:
    tokenizer = fixtures.tiny_tokenizer([fixtures.NAMES[0] * 3, "had a ball and a cake"])
    talk = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "A ball."}]
    made = encode(tokenizer, [talk * 2])
    found = coverage(made, opens=tokenizer.convert_tokens_to_ids("<|assistant|>"), closes=tokenizer.eos_token_id)
    assert found == Coverage(loss_in_answers=1.0, answers_in_loss=1.0)

"""Probabilities of letters, against the model's own logits."""

import pytest
import torch

from pipelines.core.learning import letters
from tests.core.learning.architectures import causal
from tests.fixtures import corpus_records, tiny_model, tiny_tokenizer

TOKENIZER = tiny_tokenizer([record["text"] for record in corpus_records(40)])
MODEL = tiny_model(TOKENIZER, context=64)


def asked(text):
    return [{"role": "user", "content": text}]


def chances(*texts, **options):
    return letters.chances(MODEL, TOKENIZER, [asked(text) for text in texts], ("A", "B"), **options)


def test_the_chance_is_that_of_the_one_letter_against_the_other():
    prompt = TOKENIZER.apply_chat_template(asked("Ann had a hat."), add_generation_prompt=True, return_dict=False)
    one, other = (TOKENIZER.encode(f" {letter}", add_special_tokens=False) for letter in "AB")
    shared = prompt + [token for token, same in zip(one, other, strict=True) if token == same]
    with torch.inference_mode():
        logits = MODEL(input_ids=torch.tensor([shared])).logits[0, -1]
    first, second = (next(a for a, b in zip(*pair, strict=True) if a != b) for pair in ((one, other), (other, one)))
    wanted = torch.sigmoid(logits[first] - logits[second]).item()
    assert chances("Ann had a hat.") == [pytest.approx(wanted, abs=1e-6)]


def test_the_answers_turned_give_the_rest_of_one():
    (forth,) = chances("Ann had a hat.")
    (back,) = letters.chances(MODEL, TOKENIZER, [asked("Ann had a hat.")], ("B", "A"))
    assert forth + back == pytest.approx(1)
    assert forth != pytest.approx(0.5, abs=1e-4)


def test_what_else_is_in_the_batch_changes_nothing():
    texts = ["Ann had a hat.", "Ben went to the park. There he met Eve.", "Hi.", "Cleo had a drum and a cake."]
    alone = [chances(text)[0] for text in texts]
    assert chances(*texts) == pytest.approx(alone, abs=1e-6)
    assert chances(*texts, batch_size=2) == pytest.approx(alone, abs=1e-6)


def test_nothing_is_too_long_for_a_model_whose_positions_have_no_end():
    bloom = causal("bloom", vocab_size=len(TOKENIZER), pad=TOKENIZER.pad_token_id)
    (found,) = letters.chances(bloom, TOKENIZER, [asked("Ann had a hat. " * 40)], ("A", "B"))
    assert found is not None


def test_what_is_too_long_for_the_model_has_no_chance():
    found = chances("Hi.", "Ann had a hat. " * 40)
    assert found[1] is None
    assert found[0] is not None

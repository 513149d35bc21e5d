"""Scoring by a reward model and the plan of its training."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.learning import rewards
from tests.fixtures import corpus_records, tiny_model, tiny_tokenizer
from tests.learning import reward_model

TEXTS = [record["text"] for record in corpus_records(12)]
PROMPTS = [f"Tell me about {number}." + " Please." * number for number in range(12)]


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer(TEXTS)


@pytest.fixture(scope="module")
def model(tokenizer):
    return reward_model(tiny_model(tokenizer))


def test_a_reward_does_not_depend_on_what_else_is_in_the_batch(model, tokenizer):
    together = rewards.score(model, tokenizer, PROMPTS, TEXTS, batch_size=12)
    in_fives = rewards.score(model, tokenizer, PROMPTS, TEXTS, batch_size=5)
    alone = [rewards.score(model, tokenizer, [p], [t])[0] for p, t in zip(PROMPTS, TEXTS, strict=True)]
    assert together == pytest.approx(alone, abs=1e-5)
    assert in_fives == pytest.approx(alone, abs=1e-5)
    assert len({round(reward, 4) for reward in alone}) > 6


def test_a_reward_depends_on_the_prompt(model, tokenizer):
    one, other = rewards.score(model, tokenizer, ["Sing.", "Be quiet."], ["La la."] * 2)
    assert one != pytest.approx(other, abs=1e-6)


def test_the_reward_is_read_at_the_end_token(model, tokenizer):
    (ids,) = rewards.conversation_ids(tokenizer, PROMPTS[:1], TEXTS[:1])
    assert ids[-1] == tokenizer.eos_token_id
    with torch.inference_mode():
        at_each = rewards.token_rewards(model, input_ids=torch.tensor([ids]))
    assert rewards.score(model, tokenizer, PROMPTS[:1], TEXTS[:1])[0] == pytest.approx(float(at_each[0, -1]), abs=1e-6)


def test_an_empty_response_has_a_reward_and_no_responses_have_none(model, tokenizer):
    assert len(rewards.score(model, tokenizer, ["Sing."], [""])) == 1
    assert rewards.score(model, tokenizer, [], []) == []


def pair(chosen, rejected):
    return {"id": f"{chosen}>{rejected}", "prompt": "Sing.", "chosen": chosen, "rejected": rejected}


def test_each_response_of_a_ranking_is_tokenized_once(tokenizer):
    item = rewards.comparison(tokenizer, [pair("a", "b"), pair("a", "c"), pair("b", "c")])
    assert len(item.sequences) == 3
    texts = [tokenizer.decode(ids[item.prompt_tokens :], skip_special_tokens=True).strip() for ids in item.sequences]
    assert [(texts[one], texts[other]) for one, other in zip(item.chosen, item.rejected, strict=True)] == [
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
    ]


def test_pairs_with_a_sequence_that_is_too_long_are_left_out_and_no_other(tokenizer):
    item = rewards.comparison(tokenizer, [pair("a", "b " * 50), pair("c", "a"), pair("c", "b " * 50)])
    kept = item.within(item.longest - 1)
    assert [record["id"] for record in kept.records] == ["c>a"]
    assert len(kept.sequences) == 2
    assert kept.sequences[kept.chosen[0]] == item.sequences[item.chosen[1]]
    assert kept.sequences[kept.rejected[0]] == item.sequences[item.rejected[1]]
    assert item.within(item.longest) == item
    assert item.within(1).records == []


@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=80),
    batch_size=st.integers(1, 9),
    epochs=st.integers(1, 3),
    seed=st.integers(0, 5),
)
def test_whole_epochs_hold_every_index_once_each(lengths, batch_size, epochs, seed):
    per_epoch = -(-len(lengths) // batch_size)
    batches = rewards.planned(lengths, batch_size=batch_size, epochs=epochs, seed=seed)
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    for epoch in range(epochs):
        drawn = Counter(row for batch in batches[epoch * per_epoch : (epoch + 1) * per_epoch] for row in batch)
        assert drawn == Counter(range(len(lengths)))
    assert len(batches) == epochs * per_epoch


def test_batches_are_alike_in_length_and_random_in_order():
    lengths = [number % 100 + 1 for number in range(1600)]
    batches = rewards.planned(lengths, batch_size=8, epochs=1, seed=0)
    spread = [max(lengths[row] for row in batch) - min(lengths[row] for row in batch) for batch in batches]
    assert sum(spread) / len(spread) < 20
    assert batches != rewards.planned(lengths, batch_size=8, epochs=1, seed=1)
    assert batches == rewards.planned(lengths, batch_size=8, epochs=1, seed=0)


def test_half_an_epoch_is_half_the_batches():
    assert len(rewards.planned([1] * 80, batch_size=8, epochs=0.5, seed=0)) == 5

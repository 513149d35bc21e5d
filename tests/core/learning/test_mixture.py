from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.learning import mixture
from pipelines.core.learning.padding import IGNORED
from tests import fixtures

RECORDS = fixtures.instruction_records(60)


def seen(weights, epochs):
    return Counter(record["id"] for resampled in mixture.passes(RECORDS, weights, epochs, 7) for record in resampled)


def test_without_weights_one_epoch_shows_each_record_once():
    assert seen({}, 1.0) == Counter(record["id"] for record in RECORDS)


def test_a_weight_of_two_shows_a_task_twice_and_zero_never():
    counts = seen({"question_answering": 2.0, "summarisation": 0.0}, 1.0)
    assert counts == Counter({record["id"]: 2 for record in RECORDS if record["task"] == "question_answering"})


def test_a_fractional_weight_shows_about_that_share():
    counts = seen({"question_answering": 1.5, "summarisation": 0.5}, 1.0)
    asked = [counts[record["id"]] for record in RECORDS if record["task"] == "question_answering"]
    assert set(asked) == {1, 2}
    assert sum(asked) / len(asked) == pytest.approx(1.5, abs=0.12)


def test_half_an_epoch_shows_half_of_the_stories_each_with_all_its_records():
    counts = seen({}, 0.5)
    stories = {record["id"].split("-")[0] for record in RECORDS}
    shown = {name.split("-")[0] for name in counts}
    assert len(shown) / len(stories) == pytest.approx(0.5, abs=0.12)
    assert counts == Counter(record["id"] for record in RECORDS if record["id"].split("-")[0] in shown)


def test_another_epoch_draws_the_fraction_of_a_weight_anew():
    counts = seen({"summarisation": 0.5}, 2.0)
    told = [counts[record["id"]] for record in RECORDS if record["task"] == "summarisation"]
    assert set(told) == {0, 1, 2}
    assert sum(told) / len(told) == pytest.approx(1.0, abs=0.15)


def test_a_record_is_never_twice_in_one_pass_and_stories_stay_together():
    for resampled in mixture.passes(RECORDS, {"question_answering": 2.5}, 2.0, 7):
        ids = [record["id"] for record in resampled]
        assert len(set(ids)) == len(ids)
        contexts = [record["context"] for record in resampled]
        changes = 1 + sum(before != after for before, after in pairwise(contexts))
        assert changes <= len({record["id"].split("-")[0] for record in RECORDS})


def test_the_order_of_the_turns_varies():
    firsts = Counter(
        record["id"].split("-")[1]
        for resampled in mixture.passes(RECORDS, {}, 3.0, 7)
        for record, before in zip(resampled, [{"context": None}, *resampled], strict=False)
        if record["context"] != before["context"]
    )
    assert min(firsts.values()) > 20


@given(st.lists(st.integers(1, 400), max_size=300), st.integers(1, 9), st.integers(0, 3))
def test_batches_hold_each_row_once_and_none_is_larger_than_asked(lengths, size, seed):
    planned = mixture.batches_by_length(lengths, size, seed)
    assert sorted(row for batch in planned for row in batch) == list(range(len(lengths)))
    assert all(0 < len(batch) <= size for batch in planned)


def test_batches_hold_rows_of_like_length():
    lengths = np.random.default_rng(0).integers(50, 400, 800).tolist()
    planned = mixture.batches_by_length(lengths, 8, 0)
    padded = sum(max(lengths[row] for row in batch) * len(batch) for batch in planned)
    assert padded < 1.05 * sum(lengths)


@settings(max_examples=40)
@given(st.lists(st.integers(20, 200), min_size=40, max_size=120), st.floats(0, 0.6), st.integers(0, 3))
def test_replayed_text_has_its_share_of_the_tokens_and_adds_no_padding(lengths, share, seed):
    text = np.arange(5000, dtype=np.uint16)
    planned = mixture.batches_by_length(lengths, 8, seed)
    grown, replayed = mixture.with_replay(planned, lengths, share, text, seed)
    tokens = sum(len(example.input_ids) for example in replayed)
    assert abs(tokens - share / (1 - share) * sum(lengths)) <= max(lengths)
    for before, after in zip(planned, grown, strict=True):
        assert after[: len(before)] == list(before)
        longest = max(lengths[row] for row in before)
        assert all(len(replayed[row - len(lengths)].input_ids) == longest for row in after[len(before) :])
    for example in replayed:
        assert example.input_ids == list(range(example.input_ids[0], example.input_ids[0] + len(example.input_ids)))
        assert example.labels == example.input_ids


def test_the_loss_covers_exactly_what_the_assistant_says_and_its_end_token():
    tokenizer = fixtures.tiny_tokenizer(record["context"] for record in RECORDS)
    built = mixture.build(
        tokenizer,
        RECORDS,
        weights={},
        epochs=1.0,
        max_turns=8,
        max_length=500,
        batch_size=4,
        replay_share=0.0,
        text=np.arange(10),
        seed=0,
    )
    said = Counter(
        part.strip()
        for example in built.examples
        for part in tokenizer.decode([label for label in example.labels if label != IGNORED]).split("<|endoftext|>")
        if part.strip()
    )
    assert said == Counter(record["completion"] for record in RECORDS)
    assert all(
        label in (IGNORED, token)
        for example in built.examples
        for token, label in zip(example.input_ids, example.labels, strict=True)
    )
    ends = [label for example in built.examples for label in example.labels if label == tokenizer.eos_token_id]
    assert len(ends) == len(RECORDS)


def test_conversations_that_are_too_long_are_left_out_and_counted():
    tokenizer = fixtures.tiny_tokenizer(record["context"] for record in RECORDS)
    options = {
        "weights": {},
        "epochs": 1.0,
        "max_turns": 8,
        "batch_size": 4,
        "replay_share": 0.2,
        "text": np.arange(1000),
        "seed": 0,
    }
    every = mixture.build(tokenizer, RECORDS, max_length=500, **options)
    lengths = sorted(len(example.input_ids) for example in every.examples[: every.num_conversations])
    limit = lengths[len(lengths) // 2]
    some = mixture.build(tokenizer, RECORDS, max_length=limit, **options)
    assert some.num_conversations == sum(length <= limit for length in lengths)
    assert some.num_left_out == every.num_conversations - some.num_conversations
    assert some.num_tokens == sum(len(some.examples[row].input_ids) for batch in some.batches for row in batch)

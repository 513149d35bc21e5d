"""What is hidden, how much of it, and that text and targets together are the text again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.learning import corruption
from pipelines.core.learning.padding import IGNORED

VOCAB, SEPARATOR, MASK, FIRST_SENTINEL = 50, 1, 50, 50

texts = st.lists(st.integers(0, VOCAB - 1), min_size=2, max_size=300).map(lambda ids: np.array(ids, dtype=np.int64))
seeds = st.integers(0, 2**32)


def masked(ids, seed=0):
    draw = np.random.default_rng(seed)
    return corruption.masked(ids, draw, mask=MASK, vocab_size=VOCAB, separator=SEPARATOR)


def spans_corrupted(ids, seed=0):
    return corruption.spans_corrupted(ids, np.random.default_rng(seed), first_sentinel=FIRST_SENTINEL)


def restored(gaps):
    """The text with every sentinel replaced by what the targets say it hides."""
    hidden, sentinel = {}, None
    for token in gaps.targets_M.tolist():
        if token >= FIRST_SENTINEL:
            sentinel, hidden[token] = token, []
        else:
            hidden[sentinel].append(token)
    return [part for token in gaps.inputs_N.tolist() for part in hidden.get(token, [token])]


@given(ids=texts, seed=seeds)
def test_what_is_asked_put_into_the_masked_text_is_the_text(ids, seed):
    gaps = masked(ids, seed)
    asked = gaps.targets_M != IGNORED
    assert (np.where(asked, gaps.targets_M, gaps.inputs_N) == ids).all()


@given(ids=texts, seed=seeds)
def test_fifteen_percent_of_the_tokens_are_asked_and_never_a_separator(ids, seed):
    asked = masked(ids, seed).targets_M != IGNORED
    candidates = int((ids != SEPARATOR).sum())
    assert asked.sum() == min(candidates, max(1, round(0.15 * candidates)))
    assert not asked[ids == SEPARATOR].any()


def test_of_the_tokens_asked_eighty_percent_are_masked_ten_random_and_ten_as_they_were():
    ids = np.random.default_rng(3).integers(2, VOCAB, 400_000)
    gaps = masked(ids)
    asked = gaps.targets_M != IGNORED
    read, said = gaps.inputs_N[asked], gaps.targets_M[asked]
    assert asked.sum() == 60_000
    assert (read == MASK).mean() == pytest.approx(0.8, abs=0.01)
    by_chance = 0.1 / VOCAB
    assert (read == said).mean() == pytest.approx(0.1 + by_chance, abs=0.01)
    others = read[(read != MASK) & (read != said)]
    assert len(others) / asked.sum() == pytest.approx(0.1 - by_chance, abs=0.01)
    assert set(others.tolist()) == set(range(VOCAB))


def test_a_text_of_separators_alone_has_nothing_to_hide():
    gaps = masked(np.full(20, SEPARATOR))
    assert (gaps.targets_M == IGNORED).all()
    assert (gaps.inputs_N == SEPARATOR).all()


@given(ids=texts, seed=seeds)
def test_what_the_sentinels_hide_put_in_their_place_is_the_text(ids, seed):
    assert restored(spans_corrupted(ids, seed)) == ids.tolist()


@given(ids=texts, seed=seeds)
def test_spans_hide_fifteen_percent_and_every_draw_gives_the_same_lengths(ids, seed):
    gaps = spans_corrupted(ids, seed)
    hidden, spans = corruption.span_counts(len(ids))
    assert hidden == min(max(round(0.15 * len(ids)), 1), len(ids) - 1)
    assert len(gaps.inputs_N) == len(ids) - hidden + spans
    assert len(gaps.targets_M) == hidden + spans + 1


@given(ids=texts, seed=seeds)
def test_sentinels_stand_in_order_once_in_the_text_and_one_more_ends_the_targets(ids, seed):
    gaps = spans_corrupted(ids, seed)
    count = corruption.num_sentinels(len(ids))
    everyone = list(range(FIRST_SENTINEL, FIRST_SENTINEL + count))
    assert gaps.targets_M[gaps.targets_M >= FIRST_SENTINEL].tolist() == everyone
    assert gaps.inputs_N[gaps.inputs_N >= FIRST_SENTINEL].tolist() == everyone[:-1]
    assert gaps.targets_M[-1] == everyone[-1]


def test_a_known_text_of_twenty_tokens_loses_one_span_of_three():
    gaps = spans_corrupted(np.arange(2, 22))
    start = gaps.inputs_N.tolist().index(FIRST_SENTINEL)
    assert gaps.targets_M.tolist() == [FIRST_SENTINEL, start + 2, start + 3, start + 4, FIRST_SENTINEL + 1]


def test_spans_are_three_tokens_long_in_the_mean_and_of_different_lengths():
    lengths = []
    for seed in range(50):
        targets = spans_corrupted(np.arange(256) % VOCAB, seed).targets_M
        lengths += np.diff(np.flatnonzero(targets >= FIRST_SENTINEL)).tolist()
    assert np.mean(lengths) - 1 == pytest.approx(3, abs=0.1)
    assert {1, 2, 3, 4, 5, 6} <= {length - 1 for length in lengths}


def test_every_place_is_hidden_about_as_often_but_the_ends():
    """The text begins with what is kept and ends with what is hidden, as in the original."""
    ids, hidden = np.arange(100), np.zeros(100)
    for seed in range(2000):
        said = corruption.spans_corrupted(ids, np.random.default_rng(seed), first_sentinel=1000).targets_M
        hidden[said[said < 1000]] += 1 / 2000
    assert hidden[0] == 0
    assert hidden[99] == pytest.approx(1)
    assert hidden.sum() == pytest.approx(15)
    assert hidden[5:85].min() > 0.1
    assert hidden[5:85].max() < 0.16


@settings(max_examples=20)
@given(ids=st.lists(st.integers(2, VOCAB - 1), min_size=40, max_size=300).map(np.array), seed=seeds)
def test_gaps_follow_from_the_generator_alone(ids, seed):
    for corrupt in (masked, spans_corrupted):
        first, again = corrupt(ids, seed), corrupt(ids, seed)
        assert all((one == two).all() for one, two in zip(first, again, strict=True))
        assert any(corrupt(ids, other).inputs_N.tolist() != first.inputs_N.tolist() for other in range(1, 9))

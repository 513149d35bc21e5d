"""Samples: documents stay whole, whatever is taken and joined."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.drift.sample import Sample, evenly, joined


def sample(documents, columns=("words",)):
    """A sample of documents given as lists of token ids."""
    lengths = [len(document) for document in documents]
    return Sample(
        tokens=np.array([token for document in documents for token in document], dtype=np.uint16),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        embeddings=np.array([[sum(document), len(document)] for document in documents], dtype=np.float32).reshape(
            -1, 2
        ),
        columns={name: np.array(lengths, dtype=np.float32) for name in columns},
        texts=tuple(map(str, documents)),
    )


def told(one):
    """Back to lists of token ids."""
    return [one.tokens[start:stop].tolist() for start, stop in zip(one.offsets, one.offsets[1:], strict=False)]


lists = st.lists(st.lists(st.integers(0, 9), max_size=5), max_size=12)


@settings(deadline=None)
@given(lists, st.data())
def test_taken_documents_keep_all_their_parts(documents, data):
    rows = data.draw(st.lists(st.sampled_from(range(len(documents))))) if documents else []
    taken = sample(documents).take(rows)
    wanted = [documents[row] for row in rows]
    assert told(taken) == wanted
    assert taken.texts == tuple(map(str, wanted))
    assert taken.embeddings[:, 0].tolist() == [sum(document) for document in wanted]
    assert taken.columns["words"].tolist() == [len(document) for document in wanted]


@settings(deadline=None)
@given(lists, lists)
def test_joined_samples_hold_the_documents_of_both_in_order(one, other):
    both = joined([sample(one), sample(other)])
    assert told(both) == one + other
    assert len(both) == len(one) + len(other)


def test_what_one_of_two_samples_lacks_is_left_out():
    bare = Sample(columns={"words": np.ones(2, dtype=np.float32)})
    both = joined([sample([[1], [2, 3]], columns=("words", "lines")), bare])
    assert (len(both), both.tokens, both.embeddings, both.texts) == (4, None, None, ())
    assert list(both.columns) == ["words"]


@settings(deadline=None)
@given(lists)
def test_counts_are_those_of_each_document(documents):
    types = np.array([1, 4, 7])
    counted = sample(documents).counts(types)
    assert counted.tolist() == [[document.count(token) for token in (1, 4, 7)] for document in documents]


def test_a_drawn_part_keeps_its_order_and_size():
    drawn = evenly(sample([[number] for number in range(10)]), 4, np.random.default_rng(1))
    assert len(drawn) == 4
    assert told(drawn) == sorted(told(drawn))


def test_parts_that_speak_of_different_documents_are_refused():
    with pytest.raises(ValueError, match="differ in documents"):
        Sample(columns={"words": np.ones(2)}, embeddings=np.ones((3, 1)))
    with pytest.raises(ValueError, match="do not part the 3 tokens"):
        Sample(columns={}, tokens=np.arange(3), offsets=np.array([0, 2]))

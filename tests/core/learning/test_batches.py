import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.learning import batches
from pipelines.core.learning.batches import Packed, windows


def packed(length=1000, context=16, batch_size=4, seed=7):
    return Packed(np.arange(length, dtype=np.uint16), context, batch_size, seed)


def test_targets_are_the_inputs_moved_by_one():
    batch = packed()(0)
    assert batch.inputs_BT.shape == batch.targets_BT.shape == (4, 16)
    assert (batch.targets_BT == batch.inputs_BT + 1).all()


def test_an_epoch_asks_no_token_twice_and_leaves_out_less_than_two_batches():
    batches = packed()
    asked = [token for step in range(batches.steps_per_epoch) for token in batches(step).targets_BT.flatten().tolist()]
    assert len(asked) == len(set(asked))
    assert len(asked) > 1000 - 2 * 4 * 16


def test_every_epoch_has_an_order_of_its_own():
    batches = packed()
    first, second = batches(0), batches(batches.steps_per_epoch)
    assert not (first.inputs_BT == second.inputs_BT).all()


def test_a_batch_depends_on_seed_and_step_alone():
    batches = packed()
    for step in (5, 0, 40):
        assert (batches(step).inputs_BT == packed()(step).inputs_BT).all()
    assert not (packed(seed=8)(5).inputs_BT == batches(5).inputs_BT).all()


@pytest.mark.parametrize(("missing", "steps"), [(0, 1), (1, 0)])
def test_the_smallest_row_holds_exactly_one_batch(missing, steps):
    assert packed(length=packed().smallest_row - missing).steps_per_epoch == steps


@given(
    length=st.integers(1, 200),
    context=st.integers(1, 20),
    batch_size=st.integers(1, 5),
    limit=st.none() | st.integers(1, 250),
)
@settings(max_examples=60, deadline=None)
def test_windows_ask_every_token_once_in_order_after_the_one_before_it(length, context, batch_size, limit):
    row = np.arange(1000, 1000 + length, dtype=np.uint16)
    asked, read = [], []
    for inputs, targets, _ in windows(row, context=context, batch_size=batch_size, start_token=1, limit=limit):
        assert inputs.shape[1] == context
        assert inputs.shape[0] <= batch_size
        covered = targets != -100
        asked += targets[covered].tolist()
        read += inputs[covered].tolist()
    assert asked == row[:limit].tolist()
    assert read == [1, *asked[:-1]]


@pytest.mark.parametrize(
    ("context", "entries", "rows"),
    [(256, 1536, 64), (256, 8192, 64), (256, 65_536, 8), (512, 151_936, 1), (4096, 151_936, 1), (32_768, 1536, 1)],
)
def test_fewer_windows_are_read_at_once_by_a_model_with_a_large_vocabulary(context, entries, rows):
    assert batches.rows_read(context=context, entries=entries) == rows


def test_positions_begin_anew_at_each_document():
    ids = torch.tensor([[5, 6, 1, 5, 6], [1, 5, 1, 1, 5]])
    assert batches.positions(ids, 1).tolist() == [[0, 1, 0, 1, 2], [0, 1, 0, 0, 1]]
    assert batches.positions(ids, None).tolist() == [[0, 1, 2, 3, 4]] * 2


@given(st.lists(st.integers(1, 30), min_size=12, max_size=40), st.integers(1, 20), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_a_row_begins_with_the_first_document_that_opens_in_its_block(lengths, context, seed):
    row = np.arange(1000, 1000 + sum(lengths), dtype=np.uint16)
    opens = np.cumsum([0, *lengths[:-1]])
    marked = row.copy()
    marked[opens] = 0
    for step in range(Packed(row, context, 1, seed).steps_per_epoch):
        start = int(Packed(row, context, 1, seed)(step).inputs_BT[0, 0]) - 1000
        inputs, targets, places = Packed(marked, context, 1, seed, separator=0)(step)
        within = opens[(opens >= start) & (opens < start + context) & (opens + context < len(row))]
        begin = int(within[0]) if len(within) else start
        assert inputs[0].tolist() == marked[begin : begin + context].tolist()
        assert targets[0].tolist() == marked[begin + 1 : begin + context + 1].tolist()
        assert places.equal(batches.positions(inputs, 0))

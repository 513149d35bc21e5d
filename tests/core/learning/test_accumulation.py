"""Gradients from parts of a batch: the same as from the whole, whatever the cut and however targets are spread."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.learning import training
from pipelines.core.learning.accumulation import InParts, share
from pipelines.core.learning.batches import Batch
from tests.core.learning.test_denoising import corrupted
from tests.core.learning.test_training import CPU, VOCAB, model


class Wire:
    """The group of one process of several that are run one after the other: `sums` is what all of them sent."""

    def __init__(self, rank, size, sums=None):
        self.rank, self.size, self.sums, self.sent = rank, size, sums, []

    def add_up(self, values):
        self.sent.append(values.clone())
        if self.sums is not None:
            values.copy_(self.sums)


def batch(rows=32, spread=(1, 16)):
    """Row i asks between the two numbers of `spread` targets."""
    ids_BT = torch.randint(2, VOCAB, (rows, 17), generator=torch.Generator().manual_seed(5))
    targets_BT = ids_BT[:, 1:].clone()
    for row in range(rows):
        targets_BT[row, spread[0] + row * (spread[1] - spread[0]) // rows :] = -100
    return Batch(ids_BT[:, :-1], targets_BT)


def gradients(made, gradient, data):
    loss = gradient(partial(training.next_token_loss, made, device=CPU, precision=torch.float32), data)
    found = {name: weight.grad for name, weight in made.named_parameters()}
    made.zero_grad(set_to_none=True)
    return float(loss), found


def in_parts(made, **settings):
    return InParts(weights=list(made.parameters()), **{"group": Wire(0, 1), **settings})


def together(made, data, size, microbatch_size=None):
    """What each of `size` processes ends with."""
    run = partial(in_parts, made, microbatch_size=microbatch_size)
    wires = [Wire(rank, size) for rank in range(size)]
    for wire in wires:
        gradients(made, run(group=wire), data)
    sums = torch.stack([wire.sent[0] for wire in wires]).sum(0)
    return [gradients(made, run(group=Wire(rank, size, sums)), data) for rank in range(size)]


def same(ours, theirs):
    assert ours[0] == pytest.approx(theirs[0], rel=1e-6)
    for name, wanted in theirs[1].items():
        assert torch.allclose(ours[1][name], wanted, rtol=1e-4, atol=1e-7), name


@pytest.mark.parametrize("size", [16, 5, 1, 64])
def test_accumulated_microbatches_give_the_loss_and_gradient_of_the_batch(size):
    made, data = model(), batch()
    same(gradients(made, in_parts(made, microbatch_size=size), data), gradients(made, training.whole, data))


@pytest.mark.parametrize("objective", ["masked", "span_corruption"])
def test_texts_with_gaps_are_cut_as_well(objective):
    """Of a model that says the same everywhere, the loss depends on what is asked and on how often."""
    questions = corrupted(objective)(0)
    same_everywhere = torch.nn.Parameter(torch.randn(VOCAB + 40, generator=torch.Generator().manual_seed(1)))

    def loss(part):
        targets_K = part.targets_BM[part.targets_BM != -100]
        return -same_everywhere.log_softmax(0)[targets_K].mean()

    whole = training.whole(loss, questions), same_everywhere.grad.clone()
    same_everywhere.grad = None
    parts = InParts(weights=[same_everywhere], group=Wire(0, 1), microbatch_size=3)(loss, questions)
    torch.testing.assert_close((parts, same_everywhere.grad), whole)


@pytest.mark.parametrize(("size", "microbatch_size"), [(2, None), (3, None), (2, 4), (33, None)])
def test_processes_that_share_a_batch_all_end_with_its_loss_and_gradient(size, microbatch_size):
    made, data = model(), batch()
    whole = gradients(made, training.whole, data)
    for ours in together(made, data, size, microbatch_size):
        same(ours, whole)


def test_a_process_whose_rows_ask_nothing_has_the_gradient_of_the_others():
    made, data = model(), batch(rows=4)
    data.targets_BT[:2] = -100
    whole = gradients(made, training.whole, data)
    for ours in together(made, data, 2):
        same(ours, whole)


def test_a_weight_without_a_gradient_anywhere_keeps_none_and_one_with_it_somewhere_has_it_everywhere():
    used, unused, by_one = (torch.nn.Parameter(torch.ones(2)) for _ in range(3))

    def loss(data):
        first = data.inputs_BT[0, 0] == 0
        return (used * 3).mean() + (by_one.sum() if first else 0)

    data = Batch(torch.tensor([[0], [1]]), torch.tensor([[1], [1]]))
    weights = [used, unused, by_one]
    wires = [Wire(rank, 2) for rank in range(2)]
    for wire in wires:
        InParts(weights=weights, group=wire)(loss, data)
        for weight in weights:
            weight.grad = None
    sums = wires[0].sent[0] + wires[1].sent[0]
    for rank in range(2):
        InParts(weights=weights, group=Wire(rank, 2, sums))(loss, data)
        assert [None if weight.grad is None else weight.grad.tolist() for weight in weights] == [
            [1.5, 1.5],
            None,
            [0.5, 0.5],
        ]
        for weight in weights:
            weight.grad = None


@given(length=st.integers(1, 50), size=st.integers(1, 10))
def test_every_row_is_in_one_share_and_shares_are_as_even_as_can_be(length, size):
    rows = [list(range(length))[share(length, rank, size)] for rank in range(size)]
    assert [row for mine in rows for row in mine] == list(range(length))
    assert max(map(len, rows)) - min(map(len, rows)) <= 1

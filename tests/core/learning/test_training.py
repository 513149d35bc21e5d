import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from pipelines.core.learning import attention, optimizers, training
from pipelines.core.learning.architecture import llama
from pipelines.core.learning.batches import Batch, Packed, windows
from pipelines.errors import TrainingError
from pipelines.params import Model
from tests.core.learning import architectures

CPU = torch.device("cpu")
SHAPE = Model(
    architecture="llama",
    hidden_size=32,
    num_layers=2,
    num_heads=2,
    intermediate_size=64,
    context=64,
    tie_embeddings=True,
    initializer_range=0.02,
    rope_theta=10_000.0,
    attention_bias=False,
    look_back=[],
    value_output_correlation=0.0,
)
VOCAB = 300


def model(seed=0, shape=SHAPE):
    torch.manual_seed(seed)
    return llama(shape, vocab_size=VOCAB, eos=1, pad=0)


def row(length=5000):
    return np.random.default_rng(0).integers(2, VOCAB, length, dtype=np.uint16)


def steps(made, optimizer, batches, last, *, start=0, rate=3e-3, precision=torch.float32):
    loss = partial(training.next_token_loss, made, device=CPU, precision=precision)
    return training.train(
        loss, batches, optimizer, schedule=lambda _step: rate, steps=last, start=start, gradient_clip=1.0
    )


def test_before_training_every_token_is_about_as_likely_as_any_other():
    batch = Packed(row(), 32, 8, 0)(0)
    loss = training.next_token_loss(model(), batch, device=CPU, precision=torch.float32)
    assert float(loss.detach()) == pytest.approx(math.log(VOCAB), abs=0.15)


def test_one_batch_can_be_learnt_by_heart():
    made = model()
    batch = Packed(row(), 16, 2, 0)(0)
    losses = [
        step.loss for step in steps(made, optimizers.adamw(made, weight_decay=0.0), lambda _: batch, 150, rate=1e-2)
    ]
    assert losses[-1] < 0.05 < 4 < losses[0]


def test_the_loss_of_a_batch_is_the_mean_of_minus_log_probabilities():
    made = model()
    batch = Packed(row(), 8, 2, 0)(0)
    log_p = made(input_ids=batch.inputs_BT).logits.double().log_softmax(-1)
    wanted = -log_p.gather(-1, batch.targets_BT[..., None]).mean()
    loss = training.next_token_loss(made, batch, device=CPU, precision=torch.float32)
    assert float(loss.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)


@pytest.mark.parametrize("kind", sorted(attention.PLAIN))
@pytest.mark.parametrize("separator", [None, 5])
def test_loss_and_gradients_are_those_of_all_logits_at_once_for_every_plain_type(kind, separator):
    made = architectures.causal(kind).eval()
    batch = Packed(np.random.default_rng(1).integers(2, 50, 500), 24, 3, 0, separator)(0)
    logits = made(input_ids=batch.inputs_BT, position_ids=batch.positions_BT, use_cache=False).logits
    wanted = functional.cross_entropy(logits.flatten(0, 1), batch.targets_BT.flatten())
    found = training.next_token_loss(made, batch, device=CPU, precision=torch.float32)
    torch.testing.assert_close(found, wanted)
    ours, theirs = (torch.autograd.grad(loss, list(made.parameters())) for loss in (found, wanted))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_in_bfloat16_the_gradient_of_a_token_that_comes_a_thousand_times_is_not_lost():
    made = model(shape=SHAPE.model_copy(update={"tie_embeddings": False}))
    ids = torch.where(torch.rand(16, 64, generator=torch.Generator().manual_seed(0)) < 0.98, 7, 8)
    batch = Batch(ids, torch.full_like(ids, 9))
    exact, half = (
        torch.autograd.grad(
            training.next_token_loss(made, batch, device=CPU, precision=precision), made.get_input_embeddings().weight
        )[0][7]
        for precision in (torch.float32, torch.bfloat16)
    )
    assert float((half - exact).norm() / exact.norm()) < 0.02


def test_a_run_stopped_and_taken_up_again_is_the_same_to_the_bit():
    batches = Packed(row(), 16, 4, 3)
    whole = model()
    through = list(steps(whole, optimizers.adamw(whole, weight_decay=0.1), batches, 12, precision=torch.bfloat16))
    first = model()
    optimizer = optimizers.adamw(first, weight_decay=0.1)
    before = list(steps(first, optimizer, batches, 7, precision=torch.bfloat16))
    state = training.state_of(first, optimizer)
    second = model(seed=99)
    fresh = optimizers.adamw(second, weight_decay=0.1)
    training.load_state(second, fresh, state)
    after = list(steps(second, fresh, batches, 12, start=7, precision=torch.bfloat16))
    assert before + after == through
    for name, tensor in training.weights_of(whole).items():
        assert torch.equal(tensor, training.weights_of(second)[name]), name


def test_state_holds_the_random_generator():
    made = model()
    optimizer = optimizers.adamw(made, weight_decay=0.1)
    state = training.state_of(made, optimizer)
    wanted = torch.rand(3)
    training.load_state(made, optimizer, state)
    assert torch.equal(torch.rand(3), wanted)


def test_tied_weights_are_copied_once_and_stay_tied():
    made = model()
    weights = training.weights_of(made)
    assert "lm_head.weight" not in weights
    training.load_weights(made, {name: tensor + 1 for name, tensor in weights.items()})
    assert made.lm_head.weight is made.model.embed_tokens.weight


def test_copied_weights_do_not_move_with_the_model():
    made = model()
    weights = training.weights_of(made)
    held = {name: tensor.clone() for name, tensor in weights.items()}
    list(steps(made, optimizers.adamw(made, weight_decay=0.1), Packed(row(), 16, 4, 3), 2))
    assert all(torch.equal(weights[name], held[name]) for name in held)
    assert any(not torch.equal(weights[name], moved) for name, moved in training.weights_of(made).items())


def test_matrices_are_decayed_and_vectors_are_not():
    optimizer = optimizers.adamw(model(), weight_decay=0.1)
    assert {(group["weight_decay"], weight.ndim) for group in optimizer.param_groups for weight in group["params"]} == {
        (0.1, 2),
        (0.0, 1),
    }


def test_weights_that_are_frozen_are_left_alone():
    made = model()
    made.model.embed_tokens.weight.requires_grad_(requires_grad=False)
    held = {id(weight) for group in optimizers.adamw(made, weight_decay=0.1).param_groups for weight in group["params"]}
    assert id(made.model.embed_tokens.weight) not in held


def test_a_loss_that_is_not_a_number_ends_training_and_names_the_rate():
    made = model()
    with torch.no_grad():
        made.model.norm.weight.fill_(float("nan"))
    with pytest.raises(
        TrainingError, match=r"loss is nan .* at step 1: lower pretraining\.learning_rate \(now 0.003\)"
    ):
        next(steps(made, optimizers.adamw(made, weight_decay=0.1), Packed(row(), 16, 4, 3), 2))


def test_gradients_are_clipped_to_the_norm():
    made = model()
    seen = []

    class Looking(torch.optim.SGD):
        def step(self, closure=None):
            seen.append(torch.cat([weight.grad.flatten() for weight in made.parameters()]).norm())
            return super().step(closure)

    loss = partial(training.next_token_loss, made, device=CPU, precision=torch.float32)
    run = training.train(
        lambda batch: 100 * loss(batch),
        Packed(row(), 16, 4, 3),
        Looking(made.parameters(), lr=0.0),
        schedule=lambda _: 1e-3,
        steps=1,
        gradient_clip=0.5,
    )
    assert next(run).gradient_norm > 0.5
    assert float(seen[0]) == pytest.approx(0.5, rel=1e-3)


def test_nats_sum_over_the_asked_targets_alone_and_the_mode_comes_back():
    made = model().train()
    long_row = row(101)
    whole, count = training.nats(
        made, windows(long_row, context=16, batch_size=3, start_token=1), device=CPU, precision=torch.float32
    )
    assert count == 101
    assert made.training
    half = Batch(torch.tensor([[1, 2, 3]]), torch.tensor([[-100, 7, -100]]))
    nats, asked = training.nats(made, [half], device=CPU, precision=torch.float32)
    wanted = -made(input_ids=half.inputs_BT).logits[0, 1].log_softmax(-1)[7]
    assert (asked, nats) == (1, pytest.approx(float(wanted.detach()), rel=1e-5))
    assert whole == pytest.approx(101 * math.log(VOCAB), rel=0.05)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=30), st.integers(1, 5))
def test_patience_remembers_the_first_best_and_ends_after_so_many_no_better(values, limit):
    patience = training.Patience(limit=limit)
    for step, value in enumerate(values):
        patience = patience.after(step, value)
    assert patience.best == min(values)
    assert patience.best_step == values.index(min(values))
    assert patience.exhausted == (len(values) - 1 - values.index(min(values)) >= limit)


def test_a_value_that_is_not_a_number_is_no_improvement():
    assert training.Patience(limit=1).after(1, math.nan).exhausted

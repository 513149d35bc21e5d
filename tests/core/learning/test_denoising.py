"""Batches with gaps by step, held-out gaps that are the same for every model, and how they are scored."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipelines.core.learning import denoising
from pipelines.core.learning.batches import Packed
from pipelines.core.learning.denoising import Corrupted

CPU = torch.device("cpu")
VOCAB, SEPARATOR, CONTEXT = 60, 1, 40
OBJECTIVES = ("masked", "span_corruption")


def corrupting(objective):
    return denoising.corrupting(objective, vocab_size=VOCAB, separator=SEPARATOR)


def row(length=2000):
    return np.random.default_rng(0).integers(1, VOCAB, length).astype(np.uint16)


def corrupted(objective, seed=7):
    return Corrupted(Packed(row(), CONTEXT, 4, seed, SEPARATOR), corrupting(objective))


def restored(objective, inputs, targets):
    """The text that was there before it got gaps."""
    if objective == "masked":
        return torch.where(targets >= 0, targets, inputs).tolist()
    said, hidden, sentinel = inputs.tolist(), {}, None
    for token in targets.tolist():
        if token >= VOCAB:
            sentinel, hidden[token] = token, []
        elif token >= 0:
            hidden[sentinel].append(token)
    return [part for token in said for part in hidden.get(token, [token])]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_text_behind_the_gaps_is_what_causal_models_read_at_this_step(objective):
    batches = corrupted(objective)
    for step in (0, 3, batches.packed.steps_per_epoch + 2):
        batch, plain = batches(step), batches.packed(step)
        for inputs, targets, text in zip(*batch, plain.inputs_BT, strict=True):
            assert restored(objective, inputs, targets) == text.tolist()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gaps_depend_on_seed_and_step_alone(objective):
    batches = corrupted(objective)
    for step in (5, 0, 40):
        for one, two in zip(batches(step), corrupted(objective)(step), strict=True):
            assert torch.equal(one, two)
    assert not torch.equal(corrupted(objective, seed=8)(5).inputs_BN, batches(5).inputs_BN)


def test_a_text_that_comes_again_gets_other_gaps():
    packed = Packed(np.arange(2, 22).repeat(1).astype(np.uint16), 10, 1, 0)
    batches = Corrupted(packed, corrupting("masked"))
    hidden = {tuple((batches(step).targets_BM[0] >= 0).tolist()) for step in range(12)}
    assert len(hidden) > 3


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(("length", "limit"), [(100, None), (81, None), (100, 95), (39, None), (120, None)])
def test_held_out_text_is_asked_about_once_and_in_order(objective, length, limit):
    text = row(length)
    found = []
    for batch in denoising.held_out(text, corrupting(objective), context=CONTEXT, batch_size=2, limit=limit):
        for inputs, targets in zip(*batch, strict=True):
            found += restored(objective, inputs, targets)
    end = limit or length
    assert found == text[: end - (end % CONTEXT == 1)].tolist()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_held_out_gaps_are_the_same_however_many_windows_are_read_at_once(objective):
    def gaps(batch_size):
        read = denoising.held_out(row(300), corrupting(objective), context=CONTEXT, batch_size=batch_size)
        return [inputs.tolist() for batch in read for inputs in batch.inputs_BN]

    assert gaps(1) == gaps(3) == gaps(50)


class Decoder:
    """Says with certainty that the next token is the one after the one its decoder has just read."""

    config = SimpleNamespace(is_encoder_decoder=True, decoder_start_token_id=0)

    def __call__(self, *, input_ids, decoder_input_ids, use_cache):
        self.read = decoder_input_ids
        said = torch.nn.functional.one_hot((decoder_input_ids + 1) % (VOCAB + 20), VOCAB + 20) * 50.0
        return SimpleNamespace(logits=said)


def test_a_decoder_reads_the_start_token_and_then_the_targets_before_the_one_it_is_asked():
    model, targets = Decoder(), torch.tensor([[60, 5, 6, 61, 9, 62]])
    batch = denoising.Questions(torch.tensor([[3, 60, 4, 61]]), targets)
    denoising.logits(model, batch, device=CPU, precision=torch.float32)
    assert model.read.tolist() == [[0, 60, 5, 6, 61, 9]]
    assert batch.targets_BM is targets


def test_hidden_tokens_are_scored_and_sentinels_and_the_rest_are_not():
    """One of 5, 6 and 9 is foretold by the token before; the others get a probability of about nothing."""
    targets = torch.tensor([[60, 5, 6, 61, 9, 62, -100]])
    logits = torch.zeros(1, 7, VOCAB + 20)
    logits[0, 2, 6] = math.log(VOCAB + 20 - 1)  # a probability of one half
    found = denoising.filled(torch.nn.Linear(1, 1), [(logits, targets)], vocab_size=VOCAB)
    assert found.tokens == 3
    assert found.right == 1
    assert found.accuracy == pytest.approx(1 / 3)
    assert found.nats == pytest.approx(2 * math.log(VOCAB + 20) + math.log(2), rel=1e-5)
    assert found.perplexity == pytest.approx(math.exp(found.loss))


def test_measuring_leaves_a_model_in_training_in_training():
    model = torch.nn.Linear(1, 1).train()
    denoising.filled(model, [(torch.zeros(1, 1, VOCAB), torch.tensor([[3]]))], vocab_size=VOCAB)
    assert model.training


def test_masks_need_one_entry_above_the_vocabulary_and_spans_one_for_each_and_one_more():
    assert denoising.extra_entries("causal", 256) == 0
    assert denoising.extra_entries("masked", 256) == 1
    assert denoising.extra_entries("span_corruption", 256) == 14

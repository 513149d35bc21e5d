"""Every objective and architecture: size, first loss, learning by heart, and who sees what."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from pipelines.core.learning import base_models, denoising, optimizers, training
from pipelines.core.learning.architecture import llama
from pipelines.core.learning.baselines import Baseline
from pipelines.core.learning.batches import Batch, Packed, positions
from pipelines.core.learning.denoising import Corrupted
from pipelines.params import Model

CPU, VOCAB, CONTEXT, SEPARATOR = torch.device("cpu"), 300, 32, 1
BASELINES = ("rnn", "lstm", "mlp")
DENOISERS = ("masked", "span_corruption")
ALL = [("causal", "llama"), *(("causal", name) for name in BASELINES), *((name, "llama") for name in DENOISERS)]


def shape(architecture="llama", **changes):
    settings = {
        "hidden_size": 48,
        "num_layers": 3,
        "num_heads": 4,
        "intermediate_size": 128,
        "context": 64,
        "tie_embeddings": True,
        "rope_theta": 500.0,
        "attention_bias": True,
        "look_back": [1],
        "initializer_range": 0.02,
        "value_output_correlation": 0.7,
    }
    return Model(architecture=architecture, **{**settings, **changes})


def made(objective="causal", architecture="llama", seed=0, **changes):
    torch.manual_seed(seed)
    extra = denoising.extra_entries(objective, CONTEXT)
    return base_models.build(
        shape(architecture, **changes), objective, vocab_size=VOCAB, extra_entries=extra, eos=SEPARATOR, pad=0
    )


def row(length=4000):
    return np.random.default_rng(0).integers(1, VOCAB, length).astype(np.uint16)


def batches(objective, batch_size=8):
    packed = Packed(row(), CONTEXT, batch_size, 0, SEPARATOR)
    if objective == "causal":
        return packed
    return Corrupted(packed, denoising.corrupting(objective, vocab_size=VOCAB, separator=SEPARATOR))


def loss_of(objective, model):
    loss = training.next_token_loss if objective == "causal" else denoising.loss
    return partial(loss, model, device=CPU, precision=torch.float32)


def said(model, ids, places=None):
    with torch.no_grad():
        return model.eval()(input_ids=ids, position_ids=places, use_cache=False).logits


def ids(seed=1, length=CONTEXT):
    return torch.randint(2, VOCAB, (2, length), generator=torch.Generator().manual_seed(seed))


def test_the_default_is_the_llama_to_the_bit():
    torch.manual_seed(0)
    plain = llama(shape(), vocab_size=VOCAB, eos=SEPARATOR, pad=0).state_dict()
    assert all(torch.equal(weight, plain[name]) for name, weight in made().state_dict().items())


@pytest.mark.parametrize(("objective", "architecture"), ALL)
def test_all_are_of_about_the_size_of_the_llama_at_the_size_that_is_the_default(objective, architecture):
    """BERT's embeddings of places and T5's attention between decoder and encoder come on top."""
    size = {"hidden_size": 128, "intermediate_size": 352, "context": 256}
    ratio = made(objective, architecture, **size).num_parameters() / made(**size).num_parameters()
    assert 0.97 < ratio < (1.02 if objective == "causal" else 1.12)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("objective", "architecture"), ALL)
def test_before_training_every_token_is_about_as_likely_as_any_other(objective, architecture, tied):
    entries = VOCAB + denoising.extra_entries(objective, CONTEXT)
    loss = loss_of(objective, made(objective, architecture, tie_embeddings=tied))(batches(objective)(0))
    assert float(loss.detach()) == pytest.approx(math.log(entries), rel=0.03)


@pytest.mark.parametrize("tied", [True, False])
def test_a_t5_has_an_output_layer_of_its_own_where_it_is_asked_for_and_comes_back_with_it(tied, tmp_path):
    model = made("span_corruption", tie_embeddings=tied)
    whole = made("span_corruption").num_parameters()
    assert model.num_parameters() == whole + (0 if tied else model.shared.weight.numel())
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    asked = {"input_ids": ids(), "decoder_input_ids": ids(seed=2)}
    with torch.no_grad():
        first, second = (one.eval()(**asked).logits for one in (model, loaded))
    assert torch.equal(first, second)


@pytest.mark.parametrize(("objective", "architecture"), ALL)
def test_one_batch_can_be_learnt_by_heart(objective, architecture):
    model = made(objective, architecture)
    batch = batches(objective, batch_size=2)(0)
    taken = training.train(
        loss_of(objective, model),
        lambda _step: batch,
        optimizers.adamw(model, weight_decay=0.0),
        schedule=lambda _step: 1e-2,
        steps=400,
        gradient_clip=1.0,
    )
    first = next(taken).loss
    assert any(step.loss < 0.1 * first for step in taken)


@pytest.mark.parametrize("architecture", ["llama", *BASELINES])
def test_a_causal_model_never_sees_the_future(architecture):
    model, before = made(architecture=architecture), ids()
    after = before.clone()
    after[:, 20] = (after[:, 20] + 1) % VOCAB
    first, second = said(model, before), said(model, after)
    assert torch.allclose(first[:, :20], second[:, :20], atol=1e-6)
    assert not torch.allclose(first[:, 20], second[:, 20], atol=1e-6)


@pytest.mark.parametrize("architecture", BASELINES)
def test_a_document_is_read_as_if_it_stood_alone(architecture):
    model, text = made(architecture=architecture), ids()
    text[:, 13] = SEPARATOR
    places = positions(text, SEPARATOR)
    packed = said(model, text, places)
    assert torch.allclose(packed[:, 13:], said(model, text[:, 13:]), atol=1e-6)
    assert not torch.allclose(said(model, text)[:, 13:], packed[:, 13:], atol=1e-6)


def test_the_mlp_sees_as_many_tokens_as_its_window_holds_and_no_more():
    model, before = made(architecture="mlp"), ids()
    after = before.clone()
    after[:, 10] = (after[:, 10] + 1) % VOCAB
    differs = (said(model, before) - said(model, after)).abs().amax(dim=(0, 2)) > 1e-7
    assert differs.nonzero().flatten().tolist() == list(range(10, 10 + base_models.WINDOW))


@pytest.mark.parametrize("architecture", ["rnn", "lstm"])
def test_a_recurrent_model_sees_back_to_the_beginning(architecture):
    model, before = made(architecture=architecture), ids()
    after = before.clone()
    after[:, 0] = (after[:, 0] + 1) % VOCAB
    assert (said(model, before) - said(model, after))[:, -1].abs().max() > 0


def test_an_encoder_sees_both_sides():
    model, before = made("masked"), ids()
    after = before.clone()
    after[:, 20] = (after[:, 20] + 1) % VOCAB
    differs = (said(model, before) - said(model, after)).abs().amax(dim=(0, 2))
    assert (differs > 0).all()


def test_a_decoder_never_sees_the_span_token_it_is_asked_nor_what_comes_after_it():
    model, batch = made("span_corruption").eval(), batches("span_corruption")(0)
    changed = batch.targets_BM.clone()
    changed[:, 3] = (changed[:, 3] + 1) % VOCAB
    with torch.no_grad():
        first, second = (
            denoising.logits(model, batch._replace(targets_BM=targets), device=CPU, precision=torch.float32)
            for targets in (batch.targets_BM, changed)
        )
    assert torch.allclose(first[:, :4], second[:, :4], atol=1e-6)
    assert not torch.allclose(first[:, 4], second[:, 4], atol=1e-6)


@pytest.mark.parametrize("architecture", BASELINES)
@pytest.mark.parametrize("tied", [True, False])
def test_a_baseline_is_saved_as_safetensors_with_its_config_and_loads_again(architecture, tied, tmp_path):
    model = made(architecture=architecture, tie_embeddings=tied)
    model.save_pretrained(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    loaded = Baseline.from_pretrained(tmp_path)
    assert loaded.config.architecture == architecture
    assert (loaded.head.weight is loaded.embeddings.weight) == tied
    assert torch.equal(said(loaded, ids()), said(model, ids()))


@pytest.mark.parametrize("architecture", BASELINES)
def test_one_seed_gives_one_baseline(architecture):
    first, second, other = (made(architecture=architecture, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(weight, second[name]) for name, weight in first.items())
    assert not all(torch.equal(weight, other[name]) for name, weight in first.items())


def test_a_batch_without_positions_is_one_text():
    model, text = made(architecture="lstm"), ids()
    alone = training.next_token_logits(model, Batch(text, text), device=CPU, precision=torch.float32)
    assert torch.allclose(alone, said(model, text, torch.arange(CONTEXT).expand_as(text)))

"""Operations of a training step, against a count by hand and against torch's own counter on real models."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import gpt2_style, learner
from benchmarks.flops import Shape, published_peak
from benchmarks.pretraining import SIZES, Job
from pipelines import params as schema
from pipelines import stage
from tests.contracts.source import ROOT


def test_operations_by_hand() -> None:
    # One layer: four 2x2, gate and up 3x2, down 2x3 = 16 + 12 + 6 = 34 weights; head 5x2 = 10.
    tiny = Shape(width=2, layers=1, inner=3, vocab=5)
    assert tiny.matrix_weights == 44
    # A token: 6 for each weight; scores and values 2 x 2 x T x C forward, twice that backward: 12 x 4 x 2.
    assert tiny.per_token(4) == 6 * 44 + 12 * 4 * 2


def test_a_feed_forward_without_a_gate_has_two_matrices() -> None:
    assert Shape(width=2, layers=1, inner=8, vocab=5, gated=False).matrix_weights == 16 + 32 + 10


def test_a_step_of_ours_has_the_operations_that_torch_counts() -> None:
    values = stage.load_params(ROOT / "params.yaml").model_dump(mode="json")
    values["model"] |= {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 48}
    values["pretraining"] |= {"context": 16, "batch_size": 3, "optimizer": "adamw", "precision": "float32"}
    row = torch.randint(2, 64, (1000,)).numpy()
    _, steps = learner.steps(
        schema.parse(values), row, vocab_size=64, end=1, pad=0, schedule=lambda _: 1e-3, count=2, packed=True
    )
    next(steps)
    with FlopCounterMode(display=False) as counter:
        next(steps)
    counted = Shape(width=32, layers=2, inner=48, vocab=64).per_token(16) * 3 * 16
    assert counter.get_total_flops() == counted


def test_a_step_of_the_gpt2_style_peer_has_the_operations_that_torch_counts() -> None:
    model = gpt2_style.GPT2Style(vocab_size=64, context=16, width=32, depth=2, heads=2)
    steps = gpt2_style.train(
        model, torch.randint(64, (500,)).numpy(), context=16, batch_size=3, share=lambda: 0.0, seed=0
    )
    next(steps)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        next(steps)
    counted = Shape(width=32, layers=2, inner=128, vocab=64, gated=False).per_token(16) * 3 * 16
    assert counter.get_total_flops() == counted


@pytest.mark.parametrize("size", SIZES)
def test_the_models_that_are_measured_have_about_the_parameters_they_are_called_by(size: str) -> None:
    job = Job(model=SIZES[size], pretraining={}, vocab=2048, tokens="", end=1, pad=0, seconds=0)
    asked = 1e6 * float(size.removesuffix("M"))
    assert job.shape().matrix_weights == pytest.approx(asked, rel=0.06)
    assert job.shape(gated=False).matrix_weights == pytest.approx(asked, rel=0.06)


def test_the_published_peak_is_found_by_the_name_that_a_card_has() -> None:
    assert published_peak("NVIDIA H100 80GB HBM3") == 989e12
    assert published_peak("NVIDIA GeForce RTX 4090") is None

"""A refactoring of the training loop gives the learning curve that was written down; a changed loop does not."""

import json

import numpy as np
import pytest
import torch

from pipelines import pretraining
from pipelines.core.learning import training
from pipelines.core.learning.batches import Packed
from tests import golden

TOLERANCE = 1e-5
"""Relative. Kernels for other CPUs (ATEN_CPU_CAPABILITY=default, MKL_CBWR=COMPATIBLE, SSE 4.1) move the curve by 3e-7,
the least of the changes below by 4e-3."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        golden.prepare()
    return folder


@pytest.fixture
def workspace(prepared, monkeypatch):
    monkeypatch.chdir(prepared)


def distance(curve: golden.Curve) -> float:
    """The largest relative difference to the curve that was written down."""
    written = json.loads(golden.CURVE.read_text(encoding="utf-8"))
    pairs = [(getattr(curve, name), values) for name, values in written.items()]
    assert [len(ours) for ours, _ in pairs] == [len(theirs) for _, theirs in pairs] == [20, 20]
    return max(float(np.max(np.abs(np.array(ours) / np.array(theirs) - 1))) for ours, theirs in pairs)


def test_the_curve_is_the_one_that_was_written_down(workspace):
    assert distance(golden.curve()) < TOLERANCE


@pytest.mark.parametrize("size", [1, 3, 4])
def test_microbatches_of_any_size_give_the_same_curve(workspace, size):
    assert distance(golden.curve(microbatch_size=size)) < TOLERANCE


def never_clearing(optimizer):
    optimizer.zero_grad = lambda **_: None
    return optimizer


CHANGES = {
    "another order of the data": lambda patch: patch.setattr(
        Packed, "__call__", lambda packed, step, original=Packed.__call__: original(packed, step + 1)
    ),
    "a schedule that is one step ahead": lambda patch: patch.setattr(
        pretraining,
        "warmup_cosine",
        lambda step, original=pretraining.warmup_cosine, **facts: original(step + 1, **facts),
    ),
    "no clipping": lambda patch: patch.setattr(
        torch.nn.utils,
        "clip_grad_norm_",
        lambda weights, _largest: torch.nn.utils.get_total_norm([weight.grad for weight in weights]),
    ),
    "gradients that are never cleared": lambda patch: patch.setattr(
        pretraining.optimizers,
        "build",
        lambda *given, original=pretraining.optimizers.build, **named: never_clearing(original(*given, **named)),
    ),
    "documents that see each other": lambda patch: patch.setattr(
        pretraining, "Packed", lambda *given: Packed(*given[:-1], separator=None)
    ),
    "a loss that is summed up": lambda patch: patch.setattr(
        training,
        "next_token_loss",
        lambda *given, original=training.next_token_loss, **named: original(*given, **{"sum_up": True, **named}),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_loop_is_noticed(workspace, monkeypatch, change):
    CHANGES[change](monkeypatch)
    assert distance(golden.curve()) > 10 * TOLERANCE


@pytest.mark.parametrize(
    "change",
    [
        {"weight_decay": 0.0},
        {"warmup_share": 0.25},
        {"final_learning_rate_share": 0.11},
        {"optimizer": "adamw"},
    ],
    ids=str,
)
def test_a_changed_setting_is_noticed(workspace, change):
    assert distance(golden.curve(**change)) > 10 * TOLERANCE

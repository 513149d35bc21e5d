import math

import pytest
import torch
from torch.nn import functional

from pipelines.core.learning import cross_entropy
from pipelines.core.learning.cross_entropy import LinearCrossEntropy
from pipelines.core.learning.padding import IGNORED

VOCABULARY, WIDTH, ROWS = 23, 6, 17


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """So few logits at once that the rows are read in several parts, the last of them smaller."""
    monkeypatch.setattr(cross_entropy, "LOGITS", {"cpu": 5 * VOCABULARY})


def given(dtype=torch.float32):
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn(ROWS, WIDTH, generator=generator, dtype=dtype, requires_grad=True)
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator, dtype=dtype, requires_grad=True)
    targets = torch.randint(0, VOCABULARY, (ROWS,), generator=generator)
    targets[[0, 6, 7]] = IGNORED
    return hidden, weight, targets


@pytest.mark.parametrize("sum_up", [True, False])
def test_loss_and_gradients_are_those_of_torchs_cross_entropy(sum_up):
    hidden, weight, targets = given()
    found = LinearCrossEntropy.apply(hidden, weight, targets, torch.float32, sum_up)
    wanted = functional.cross_entropy(hidden @ weight.mT, targets, reduction="sum" if sum_up else "mean")
    torch.testing.assert_close(found, wanted)
    ours, theirs = (torch.autograd.grad(3 * loss, (hidden, weight)) for loss in (found, wanted))
    torch.testing.assert_close(ours, theirs)


def test_in_bfloat16_the_loss_stays_float32_and_errs_by_less_than_a_hundredth():
    hidden, weight, targets = given()
    found = LinearCrossEntropy.apply(hidden, weight, targets, torch.bfloat16, False)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, functional.cross_entropy(hidden @ weight.mT, targets), rtol=0.01, atol=0)
    assert all(part.dtype == torch.float32 for part in torch.autograd.grad(found, (hidden, weight)))


def test_equal_logits_cost_the_logarithm_of_the_vocabulary():
    _, weight, targets = given()
    found = LinearCrossEntropy.apply(torch.zeros(ROWS, WIDTH), weight, targets, torch.float32, False)
    assert found.item() == pytest.approx(math.log(VOCABULARY))


def test_without_gradients_it_only_measures():
    hidden, weight, targets = given()
    with torch.inference_mode():
        measured = LinearCrossEntropy.apply(hidden, weight, targets, torch.float32, True)
    torch.testing.assert_close(
        measured, LinearCrossEntropy.apply(hidden, weight, targets, torch.float32, True).detach()
    )

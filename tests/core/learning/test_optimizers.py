import pytest
import torch
from torch import nn

from pipelines.core.learning import optimizers


def test_orthogonalised_matrices_have_singular_values_near_one():
    for rows, columns in ((24, 24), (16, 40), (40, 16)):
        torch.manual_seed(0)
        found = torch.linalg.svdvals(optimizers.orthogonalised(torch.randn(3, rows, columns) + 0.5))
        assert float(found.max()) < 1.3
        assert float(found.median()) > 0.6


def test_matrices_are_orthogonalised_each_for_itself():
    torch.manual_seed(0)
    matrices = torch.randn(4, 8, 12)
    alone = torch.cat([optimizers.orthogonalised(matrix[None]) for matrix in matrices])
    torch.testing.assert_close(optimizers.orthogonalised(matrices), alone)


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.first, self.second = nn.Embedding(5, 6), nn.Linear(6, 8, bias=False), nn.Linear(8, 6)

    def get_input_embeddings(self):
        return self.table

    def get_output_embeddings(self):
        return None


def test_muon_steps_as_torchs_own_to_the_precision_of_its_bfloat16():
    torch.manual_seed(0)
    ours = Two()
    theirs = Two()
    theirs.load_state_dict(ours.state_dict())
    built = optimizers.build("muon", ours, weight_decay=0.1, learning_rate=0.02)
    matrices = [theirs.first.weight, theirs.second.weight]
    reference = torch.optim.Muon(matrices, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        built.step()
        reference.step()
    for mine, other in ((ours.first, theirs.first), (ours.second, theirs.second)):
        torch.testing.assert_close(mine.weight, other.weight, atol=2e-3, rtol=0)
    assert not torch.equal(ours.second.bias, theirs.second.bias)


def test_learning_rate_is_the_one_asked_for_in_every_group():
    built = optimizers.build("muon", Two(), weight_decay=0.0, learning_rate=0.3)
    assert [group["lr"] for group in built.param_groups] == pytest.approx([0.3] * len(built.param_groups))


def test_in_bfloat16_orthogonalised_matrices_are_nearly_the_same():
    torch.manual_seed(0)
    matrices = torch.randn(3, 24, 40)
    found = optimizers.orthogonalised(matrices, precision=torch.bfloat16).float()
    wanted = optimizers.orthogonalised(matrices)
    cosine = torch.nn.functional.cosine_similarity(found.flatten(1), wanted.flatten(1))
    assert float(cosine.min()) > 0.999

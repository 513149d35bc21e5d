import pytest
import torch

from pipelines.core.learning import architecture
from pipelines.params import Model


def made(**changes):
    shape = {
        "hidden_size": 64,
        "num_layers": 2,
        "num_heads": 4,
        "intermediate_size": 128,
        "context": 32,
        "tie_embeddings": True,
        "initializer_range": 0.05,
        "rope_theta": 500.0,
        "value_output_correlation": 0.7,
    }
    torch.manual_seed(0)
    return architecture.llama(Model(**{**shape, **changes}), vocab_size=300, eos=1, pad=0)


@pytest.mark.parametrize("share", [0.0, 0.7])
def test_the_first_output_weights_correlate_with_the_value_weights_as_asked_and_keep_their_spread(share):
    for layer in made(value_output_correlation=share).model.layers:
        output, value = layer.self_attn.o_proj.weight.flatten(), layer.self_attn.v_proj.weight.T.flatten()
        assert torch.corrcoef(torch.stack([output, value]))[0, 1].item() == pytest.approx(share, abs=0.05)
        assert output.std().item() == pytest.approx(0.05, rel=0.05)


def test_a_head_that_sees_one_token_begins_by_writing_that_token():
    """With correlation the residual stream moves towards what was read; without it goes nowhere in particular."""
    read = torch.randn(200, 64, generator=torch.Generator().manual_seed(1))
    nearness = {}
    for share in (0.0, 0.7):
        attention = made(value_output_correlation=share).model.layers[0].self_attn
        with torch.no_grad():
            written = attention.o_proj(attention.v_proj(read))
        nearness[share] = torch.cosine_similarity(read, written).mean().item()
    assert abs(nearness[0.0]) < 0.1
    assert nearness[0.7] > 0.3


def test_one_seed_gives_one_model():
    first, second = made().state_dict(), made().state_dict()
    assert all(torch.equal(weight, second[name]) for name, weight in first.items())


def test_the_base_of_the_positions_is_the_one_asked_for():
    frequencies = made(rope_theta=100.0).model.rotary_emb.inv_freq
    assert frequencies.tolist() == pytest.approx([100.0 ** (-2 * pair / 16) for pair in range(8)])

import pytest
import torch

from pipelines.core.learning import architecture
from pipelines.params import Model


def made(**changes):
    shape = {
        "architecture": "llama",
        "hidden_size": 64,
        "num_layers": 2,
        "num_heads": 4,
        "intermediate_size": 128,
        "context": 32,
        "tie_embeddings": True,
        "initializer_range": 0.05,
        "rope_theta": 500.0,
        "attention_bias": True,
        "look_back": [],
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


def attention_of(model, layer=0):
    """Weights (H, T, T) of one sequence of random tokens."""
    model.set_attn_implementation("eager")
    ids = torch.randint(2, 300, (1, 32), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return model(ids, output_attentions=True).attentions[layer][0]


@pytest.mark.parametrize("base", [500.0, 10_000.0])
def test_the_heads_asked_for_begin_by_looking_so_far_back_and_the_others_do_not(base):
    weights = attention_of(made(look_back=[1, 3], rope_theta=base))
    for head, distance in enumerate((1, 3)):
        assert weights[head].diagonal(offset=-distance).mean() > 0.8
        assert (weights[2:].diagonal(offset=-distance, dim1=1, dim2=2).mean(dim=1) < 0.3).all()


def test_only_the_first_layer_begins_by_looking_back():
    second = attention_of(made(look_back=[1, 1, 1, 1]), layer=1)
    assert (second.diagonal(offset=-1, dim1=1, dim2=2).mean(dim=1) < 0.3).all()


def test_a_model_without_such_heads_has_the_same_weights_as_ever():
    plain, looking = made().state_dict(), made(look_back=[1]).state_dict()
    changed = {name for name, weight in plain.items() if not torch.equal(weight, looking[name])}
    assert changed == {
        f"model.layers.0.self_attn.{part}" for part in ("q_proj.bias", "q_proj.weight", "k_proj.bias", "k_proj.weight")
    }

"""The pooling layer: it begins as a mean, learns, and leaves a plain folder of transformers."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification, LlamaConfig, LlamaForSequenceClassification

from pipelines.core.learning import pooling, rewards
from tests.core.learning.architectures import classifier

IDS = torch.randint(2, 60, (3, 9), generator=torch.Generator().manual_seed(0))


def llama(keys=4):
    torch.manual_seed(0)
    facts = {"vocab_size": 60, "pad_token_id": 0, "num_labels": 1, "attention_bias": True}
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaForSequenceClassification(LlamaConfig(**facts, **shape, num_key_value_heads=keys)).eval()


def states(model):
    """What the norm before the head is given, (B, T, D)."""
    seen = []
    handle = model.model.norm.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        model(input_ids=IDS)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("keys", [4, 2, 1])
def test_at_first_each_state_gets_the_mean_of_the_normalised_states_up_to_it(keys):
    model = llama(keys)
    before_BTD = states(model)
    pooling.add_pooling_layer(model)
    gained_BTD = states(model) - before_BTD
    normal_BTD = before_BTD / before_BTD.square().mean(dim=-1, keepdim=True).sqrt()
    mean_BTD = normal_BTD.cumsum(dim=1) / torch.arange(1, IDS.shape[1] + 1)[:, None]
    width = 32 * keys // 4
    assert torch.allclose(gained_BTD[..., :width], pooling.WEIGHT_OF_MEAN * mean_BTD[..., :width], atol=0.25)
    assert (gained_BTD[..., width:].abs() < 1e-5).all()


def test_the_reward_depends_on_every_token_as_much_as_on_the_last():
    def felt(model):
        """How far the reward follows each token: the size of its gradient in the embedding, for each token."""
        embedded_BTD = model.get_input_embeddings()(IDS).detach().requires_grad_()
        model(inputs_embeds=embedded_BTD).logits.sum().backward()
        return embedded_BTD.grad.norm(dim=-1)[:, :-1].mean() / embedded_BTD.grad.norm(dim=-1)[:, -1].mean()

    plain, pooled = llama(), llama()
    pooling.add_pooling_layer(pooled)
    assert felt(pooled) > 3 * felt(plain)


def test_every_weight_of_the_layer_that_is_no_first_zero_gets_a_gradient():
    model = llama()
    pooling.add_pooling_layer(model)
    model(input_ids=IDS).logits.sum().backward()
    still = {name for name, weight in model.model.layers[-1].named_parameters() if not weight.grad.abs().max() > 0}
    behind_the_zero = {"mlp.gate_proj.weight", "mlp.up_proj.weight", "post_attention_layernorm.weight"}
    assert still <= behind_the_zero | {"self_attn.k_proj.bias"}  # a bias of the keys is the same to all of them


def test_it_is_a_plain_folder_that_says_the_same_when_loaded(tmp_path):
    model = llama()
    pooling.add_pooling_layer(model)
    model.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert again.config.num_hidden_layers == 3
    sequences = [row.tolist() for row in IDS]
    assert rewards.score_ids(again, sequences) == rewards.score_ids(model, sequences)


def test_a_model_of_another_make_is_left_alone():
    model = classifier("gpt2", vocab_size=60, pad=0)
    names = set(model.state_dict())
    pooling.add_pooling_layer(model)
    assert set(model.state_dict()) == names

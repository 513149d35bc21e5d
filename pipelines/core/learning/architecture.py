"""The model that is trained from scratch."""

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from pipelines.params import Model

LOOK_BACK_MARGIN = 4.0
"""By how much a head that begins by looking back scores the token it looks at above the neighbours of that token."""


def llama(shape: "Model", *, vocab_size: int, eos: int, pad: int) -> "PreTrainedModel":
    """A Llama (Touvron et al. 2023, arXiv:2302.13971) with random weights from torch's generator, in float32.

    Each head's output matrix correlates with the transpose of its value matrix: what a head reads at another position
    it then writes in the directions in which the residual stream holds it, which is copying. In the spirit of mimetic
    initialisation (Trockman and Kolter 2023, arXiv:2305.09828), which gives first weights the structure that trained
    ones have.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=shape.hidden_size,
            intermediate_size=shape.intermediate_size,
            num_hidden_layers=shape.num_layers,
            num_attention_heads=shape.num_heads,
            num_key_value_heads=shape.num_heads,
            max_position_embeddings=shape.context,
            tie_word_embeddings=shape.tie_embeddings,
            rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
            attention_bias=shape.attention_bias,
            initializer_range=shape.initializer_range,
            bos_token_id=None,
            eos_token_id=eos,
            pad_token_id=pad,
        )
    )
    share = shape.value_output_correlation
    with torch.no_grad():
        for layer in model.model.layers:
            output = layer.self_attn.o_proj.weight
            output.mul_(math.sqrt(1 - share**2)).add_(layer.self_attn.v_proj.weight.T, alpha=share)
        first = model.model.layers[0].self_attn
        for head, distance in enumerate(shape.look_back):
            _look_back(first, head, distance, model.model.rotary_emb.inv_freq)
    return model


def _look_back(attention: Any, head: int, distance: int, frequencies_F: "Tensor") -> None:
    """Make one head see the token `distance` places before, whatever the tokens are, by its biases alone.

    Rotary positions turn pair f of a query at i and a key at j by f's frequency times i and j, so the biases' share of
    the score is the sum over f of cos(frequency (i - j) - phase): with frequency times distance for a phase it peaks at
    i - j = distance. The weights of queries and keys begin small, or the tokens would drown it.
    """
    import torch

    width = 2 * len(frequencies_F)
    rows = slice(head * width, (head + 1) * width)
    drop = (1 - torch.cos(frequencies_F)).sum().item()
    height = math.sqrt(LOOK_BACK_MARGIN * math.sqrt(width) / drop)
    phase_F = -distance * frequencies_F
    attention.q_proj.bias[rows] = height * torch.cat([torch.cos(phase_F), torch.sin(phase_F)])
    attention.k_proj.bias[rows] = height * torch.cat([torch.ones_like(phase_F), torch.zeros_like(phase_F)])
    attention.q_proj.weight[rows] *= 0.1
    attention.k_proj.weight[rows] *= 0.1

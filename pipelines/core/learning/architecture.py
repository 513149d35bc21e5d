"""The model that is trained from scratch."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from pipelines.params import Model


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
    return model

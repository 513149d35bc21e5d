"""The model that is trained from scratch."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from pipelines.params import Model


def llama(shape: "Model", *, vocab_size: int, eos: int, pad: int) -> "PreTrainedModel":
    """A Llama (Touvron et al. 2023, arXiv:2302.13971) with random weights from torch's generator, in float32."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=shape.hidden_size,
            intermediate_size=shape.intermediate_size,
            num_hidden_layers=shape.num_layers,
            num_attention_heads=shape.num_heads,
            num_key_value_heads=shape.num_heads,
            max_position_embeddings=shape.context,
            tie_word_embeddings=shape.tie_embeddings,
            initializer_range=shape.initializer_range,
            bos_token_id=None,
            eos_token_id=eos,
            pad_token_id=pad,
        )
    )

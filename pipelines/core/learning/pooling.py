"""A layer on top of a reward model that begins by averaging over all tokens.

A sequence classifier reads its reward at the last token alone, which knows of the others what the layers below happened
to carry there: a network so read finds how a response ends long before it finds which words it uses. Through a mean the
gradient reaches every token from the first step. The layer is of the model's own kind, so the folder stays a plain
one of transformers, and what it attends to is learnt from there on.

Shapes: D width of the model, V numbers in all heads of values, Q numbers in all heads of queries.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NEARLY_UNIFORM = 0.02
"""Standard deviation of the first weights of queries and keys: scores begin near zero, where they still learn."""
WEIGHT_OF_MEAN = 4.0
"""Of the mean of the normalised states beside the last state, in what the head reads at first."""


def add_pooling_layer(model: "PreTrainedModel") -> None:
    """Put such a layer on top of a Llama, in place, its random weights from torch's generator; leave others alone.

    Values and output begin as the identity, or as the part of it that fits where heads share keys; the feed-forward
    part begins as nothing.

    Args:
        model: A sequence classifier.
    """
    import torch
    from transformers import LlamaForSequenceClassification
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer

    if type(model) is not LlamaForSequenceClassification:
        return
    config = model.config
    layer = LlamaDecoderLayer(config, config.num_hidden_layers).to(device=model.device, dtype=model.dtype)
    attention, mlp = layer.self_attn, layer.mlp
    queries_a_key = config.num_attention_heads // config.num_key_value_heads
    with torch.no_grad():
        for projection in (attention.q_proj, attention.k_proj):
            projection.weight.normal_(std=NEARLY_UNIFORM)
        values_VD = torch.eye(*attention.v_proj.weight.shape)
        by_head = values_VD.T.reshape(config.hidden_size, config.num_key_value_heads, 1, -1)
        back_DQ = by_head.expand(-1, -1, queries_a_key, -1).flatten(1)
        attention.v_proj.weight.copy_(values_VD)
        attention.o_proj.weight.copy_(WEIGHT_OF_MEAN / queries_a_key * back_DQ)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj):
            if projection.bias is not None:
                projection.bias.zero_()
        for projection in (mlp.gate_proj, mlp.up_proj):
            projection.weight.normal_(std=config.initializer_range)
        mlp.down_proj.weight.zero_()
    model.model.layers.append(layer)
    config.num_hidden_layers += 1

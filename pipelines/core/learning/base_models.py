"""The model that is trained from scratch, by objective and architecture; all of about the size of the Llama."""

import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from pipelines.core.learning.architecture import llama

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from pipelines.params import Model

WINDOW = 8
"""Tokens that the mlp sees."""
LAYERS = 1
"""Of the rnn and the lstm."""
ROUND = 8
"""Widths are multiples of it."""


def build(
    shape: "Model", objective: str, *, vocab_size: int, extra_entries: int, eos: int, pad: int
) -> "PreTrainedModel":
    """A model with random weights from torch's generator, in float32.

    Args:
        shape: Section `model`.
        objective: causal: the architecture of `shape`. masked: an encoder. span_corruption: encoder and decoder.
        vocab_size: Entries of the tokenizer.
        extra_entries: Entries above them, for masks or sentinels.
        eos: The token that parts documents.
        pad: The token that fills up, with which a decoder begins.
    """
    if objective == "masked":
        return encoder(shape, entries=vocab_size + extra_entries, pad=pad)
    if objective == "span_corruption":
        return encoder_decoder(shape, entries=vocab_size + extra_entries, eos=eos, pad=pad)
    if shape.architecture == "llama":
        return llama(shape, vocab_size=vocab_size, eos=eos, pad=pad)
    return baseline(shape, vocab_size=vocab_size, eos=eos, pad=pad)


def encoder(shape: "Model", *, entries: int, pad: int) -> "PreTrainedModel":
    """A BERT (Devlin et al. 2018, arXiv:1810.04805), whose two wider matrices are as large as a gated layer's three."""
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=entries,
        hidden_size=shape.hidden_size,
        intermediate_size=3 * shape.intermediate_size // 2,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        max_position_embeddings=shape.context,
        tie_word_embeddings=shape.tie_embeddings,
        initializer_range=shape.initializer_range,
        type_vocab_size=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=pad,
        mask_token_id=entries - 1,
    )
    return BertForMaskedLM(config)


def encoder_decoder(shape: "Model", *, entries: int, eos: int, pad: int) -> "PreTrainedModel":
    """A T5 (Raffel et al. 2020, arXiv:1910.10683), its layers shared out between encoder and decoder.

    Its embeddings begin so wide that its first logits are those of the Llama: T5 divides them by the root of the width.
    With an output layer of its own it does not (T5 1.1), and that layer begins as narrow as the Llama's.
    """
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=entries,
        d_model=shape.hidden_size,
        d_kv=shape.hidden_size // shape.num_heads,
        d_ff=shape.intermediate_size,
        num_layers=math.ceil(shape.num_layers / 2),
        num_decoder_layers=max(1, shape.num_layers // 2),
        num_heads=shape.num_heads,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        pad_token_id=pad,
        eos_token_id=eos,
        decoder_start_token_id=pad,
        tie_word_embeddings=shape.tie_embeddings,
    )
    config.tie_word_embeddings = shape.tie_embeddings  # its config only takes the scale of the logits from it
    model = T5ForConditionalGeneration(config)
    for stack in (model.encoder, model.decoder):  # which are tied to each other by the same setting
        stack.set_input_embeddings(model.shared)
    with torch.no_grad():
        model.shared.weight.mul_(shape.initializer_range * math.sqrt(shape.hidden_size))
        if not shape.tie_embeddings:
            model.lm_head.weight.mul_(shape.initializer_range)
    return model


def baseline(shape: "Model", *, vocab_size: int, eos: int, pad: int) -> "PreTrainedModel":
    """A model without attention, as wide as the size of the Llama allows."""
    from pipelines.core.learning.baselines import Baseline, BaselineConfig

    config = BaselineConfig(
        architecture=shape.architecture,
        vocab_size=vocab_size,
        hidden_size=shape.hidden_size,
        width=width(shape),
        num_hidden_layers=LAYERS,
        window=WINDOW,
        max_position_embeddings=shape.context,
        initializer_range=shape.initializer_range,
        tie_word_embeddings=shape.tie_embeddings,
        bos_token_id=None,
        eos_token_id=eos,
        pad_token_id=pad,
    )
    return Baseline(config)


def width(shape: "Model") -> int:
    """The greatest width, a multiple of 8, with which a baseline has no more weights than the layers of the Llama."""
    E = shape.hidden_size
    budget = shape.num_layers * (4 * E**2 + 3 * E * shape.intermediate_size + 2 * E) + E
    gates = {"rnn": 1, "lstm": 4, "mlp": 0}[shape.architecture]

    def recurrent(W: int) -> int:
        return gates * (W * (E + W + 2) + (LAYERS - 1) * W * (2 * W + 2))

    def window(W: int) -> int:
        return W * (WINDOW * E + 1)

    body: Callable[[int], int] = recurrent if gates else window
    return next(W for W in itertools.count(ROUND, ROUND) if body(W + ROUND) + E * (W + ROUND + 1) > budget)

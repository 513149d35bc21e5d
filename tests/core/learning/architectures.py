"""Tiny models with random weights of several architectures, for what must hold for any of them."""

from typing import Any

CAUSAL = ("llama", "mistral", "qwen2", "qwen3", "gpt2", "bloom")
"""Rotary positions with shared keys, with and without biases and norms of the queries; learnt positions; none at all
(ALiBi, which knows no longest text). GPT-2 and BLOOM tie their embeddings."""


def causal(kind: str, *, vocab_size: int = 60, eos: int = 1, pad: int = 0, context: int = 256, **more: Any) -> Any:
    """A language model in evaluation mode."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    facts = {"vocab_size": vocab_size, "eos_token_id": eos, "pad_token_id": pad, "bos_token_id": None}
    if kind in ("gpt2", "bloom"):
        shape = {"hidden_size": 32, "n_layer": 2, "n_head": 4} | ({"n_positions": context} if kind == "gpt2" else {})
    else:
        shape = {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "max_position_embeddings": context,
        }
        if kind == "qwen2":
            del shape["head_dim"]
    if kind == "gpt2":
        shape["n_embd"] = shape.pop("hidden_size")
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **facts, **(shape | more))).eval()


def classifier(kind: str, *, vocab_size: int, pad: int | None, context: int = 256, num_labels: int = 1) -> Any:
    """A sequence classifier, by default with one output, in evaluation mode."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    torch.manual_seed(1)
    shape: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32}
    if kind == "gpt2":
        shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": context}
    else:
        shape |= {"intermediate_size": 64, "max_position_embeddings": context}
    config = AutoConfig.for_model(kind, vocab_size=vocab_size, pad_token_id=pad, num_labels=num_labels, **shape)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("weight") and weight.ndim == 2:
                weight.mul_(8)  # so that rewards differ by more than rounding
    return model

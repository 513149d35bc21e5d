"""What of a model fine-tuning changes: all weights, adapters, a soft prompt, or biases and norms."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.adapters import sft
from pipelines.core.text import chat

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipelines.params import Finetuning


@dataclass(frozen=True, kw_only=True)
class Customisation:
    """What is trained, as far as the model itself does not tell."""

    adapter: "PeftConfig | None" = None
    """By peft; None: nothing is wrapped."""
    merge_scale: float = 1.0
    """Weight of its update when it is merged."""
    rows: Sequence[int] = ()
    """Of the embeddings, which are trained though the rest of these is frozen."""


def prepare(
    settings: "Finetuning", model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", seed: int
) -> Customisation:
    """Make `model` and `tokenizer` ready for `settings.method`: freeze what it leaves alone, add what it adds.

    Where the embeddings are frozen, the rows of the tokens that tell the roles are trained all the same: a base model
    has never read them.

    * full: all weights.
    * lora: see `sft.lora` (Hu et al. 2021, arXiv:2106.09685).
    * prompt_tuning: new tokens, with which every conversation begins (Lester et al. 2021, arXiv:2104.08691).
    * bitfit: biases (Ben Zaken et al. 2022, arXiv:2106.10199) and the gains of norms; without any bias, gains alone.
    """
    if settings.method == "full":
        return Customisation()
    rows = [tokenizer.convert_tokens_to_ids(token) for token in chat.ROLES]
    if settings.method == "lora":
        adapter = sft.lora(**settings.lora.model_dump(exclude={"merge_scale"}))
        rows = [] if settings.lora.train_embeddings else rows
        return Customisation(adapter=adapter, merge_scale=settings.lora.merge_scale, rows=rows)
    if settings.method == "prompt_tuning":
        rows += open_with(model, tokenizer, settings.prompt_tuning.virtual_tokens, seed)
    for weight in model.parameters():
        weight.requires_grad_(settings.method == "bitfit" and weight.ndim == 1)
    return Customisation(rows=rows)


def open_with(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", count: int, seed: int) -> list[int]:
    """Let every conversation begin with `count` new tokens, whose embeddings are those of tokens drawn by `seed`.

    Lester et al. (section 3.2) find a soft prompt that begins as embeddings of words better than a random one. The
    prompt is made of tokens, and the chat template writes them: whoever loads the folder has it, without peft.

    Returns:
        Their ids.
    """
    import torch
    from tokenizers import AddedToken

    known = len(tokenizer)
    tokens = chat.virtual(count)
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in tokens], special_tokens=True)
    tokenizer.chat_template = chat.template(tokenizer.eos_token, opening=tokens)
    ids: list[int] = tokenizer.convert_tokens_to_ids(list(tokens))
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    words = [token for token in range(known) if token not in tokenizer.all_special_ids]
    drawn = random.Random(f"prompt:{seed}").sample(words, count)
    inputs, outputs = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    with torch.no_grad():
        inputs[ids] = inputs[drawn]
        if outputs is not inputs:
            outputs[ids] = outputs[words].mean(dim=0)
    return ids

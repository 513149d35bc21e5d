"""What a reward model thinks of a response.

Shapes: B sequences in a batch, T tokens of the longest.
"""

import inspect
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, Any

from pipelines.core.learning import side_by_side
from pipelines.core.learning.decoding import chat_ids, longest
from pipelines.core.learning.padding import by_length, right_padded

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def conversation_ids(
    tokenizer: "PreTrainedTokenizerBase", prompts: Sequence[str], responses: Sequence[str]
) -> list[list[int]]:
    """Token ids of prompt and response in the chat template, end token included: what the reward model reads."""
    dialogues = [
        [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
        for prompt, response in zip(prompts, responses, strict=True)
    ]
    if not dialogues:
        return []
    ids: list[list[int]] = tokenizer.apply_chat_template(dialogues, return_dict=False)
    return ids


def score(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    responses: Sequence[str],
    *,
    batch_size: int = 16,
) -> list[float]:
    """Reward of each response to its prompt, in the order given, where the model reads it: ours at the end token.

    Sequences are batched by length; the reward does not depend on what else is in the batch. With a chat template the
    model reads a dialogue in it; without one prompt and response as two segments where its tokenizer has a token to
    part them (as BERT and its like do), else as one text with an empty line between and the end token, if it has one.
    Of what is longer than the model reads, the beginning is left out.

    Args:
        model: A sequence classifier with one output.
        tokenizer: Its own.
        prompts: All that the user said, one for each response.
        responses: What was answered.
        batch_size: Sequences read at once.
    """
    if tokenizer.chat_template is None and tokenizer.sep_token is not None:
        return _score_segments(model, tokenizer, prompts, responses, batch_size)
    if tokenizer.chat_template is None:
        texts = [f"{prompt}\n\n{response}" for prompt, response in zip(prompts, responses, strict=True)]
        ends = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        sequences = [[*ids, *ends] for ids in tokenizer(texts)["input_ids"]] if texts else []
    else:
        sequences = conversation_ids(tokenizer, prompts, responses)
    room = longest(model)
    return score_ids(model, [ids[-room:] for ids in sequences], batch_size=batch_size)


def _score_segments(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    responses: Sequence[str],
    batch_size: int,
) -> list[float]:
    import torch

    rewards = [0.0] * len(prompts)
    lengths = [len(prompt) + len(response) for prompt, response in zip(prompts, responses, strict=True)]
    room = min(longest(model), tokenizer.model_max_length)
    with torch.inference_mode():
        for rows in by_length(lengths, batch_size):
            read = tokenizer(
                [prompts[row] for row in rows],
                [responses[row] for row in rows],
                padding=True,
                padding_side="right",
                truncation="longest_first",
                max_length=room,
                return_tensors="pt",
            ).to(model.device)
            for row, reward in zip(rows, model(**read).logits.squeeze(-1).float().tolist(), strict=True):
                rewards[row] = reward
    return rewards


def score_ids(model: "PreTrainedModel", sequences: Sequence[Sequence[int]], *, batch_size: int = 16) -> list[float]:
    """Reward of each sequence of token ids, as in `score`."""
    import torch

    rewards = [0.0] * len(sequences)
    pad = model.config.pad_token_id
    batch_size = batch_size if pad is not None else 1  # it could not tell padding from text
    with torch.inference_mode():
        for rows in by_length([*map(len, sequences)], batch_size):
            ids_BT, mask_BT = right_padded([sequences[row] for row in rows], pad or 0)
            rewards_B = rewards_of(model, ids_BT.to(model.device), mask_BT.to(model.device))
            for row, reward in zip(rows, rewards_B.tolist(), strict=True):
                rewards[row] = reward
    return rewards


def rewards_of(model: "PreTrainedModel", ids_BT: "torch.Tensor", mask_BT: "torch.Tensor") -> "torch.Tensor":
    """Rewards (B), float32: the head's output at the last token that is not padding, or wherever the model has it."""
    import torch

    from pipelines.core.learning import llama_training

    pad = model.config.pad_token_id
    if pad is not None and llama_training.fits(model.base_model):
        ends_B = (torch.arange(ids_BT.shape[1], device=ids_BT.device) * (ids_BT != pad)).argmax(dim=1)
        laid = side_by_side.laid_out(ids_BT, ends_B + 1)
        rows_B = torch.arange(len(ids_BT), device=ids_BT.device)
        return headed(model, side_by_side.hidden(model, laid, laid.places(rows_B, ends_B)))
    rewards_B: torch.Tensor = model(input_ids=ids_BT, attention_mask=mask_BT, **_uncached(model)).logits.squeeze(-1)
    return rewards_B.float()


def _uncached(model: "PreTrainedModel") -> dict[str, bool]:
    """Models that only read, like BERT, know no cache."""
    return {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}


def looks_ahead(model: "PreTrainedModel") -> bool:
    """Whether what a model thinks of a token depends on those after it; found by changing one."""
    import torch

    ids_BT = torch.tensor([[3, 4, 5, 6], [3, 4, 5, 7]], device=model.device)
    with torch.inference_mode():
        rewards_BT = token_rewards(model, input_ids=ids_BT)[:, :-1]
    return not torch.allclose(rewards_BT[0], rewards_BT[1], atol=1e-5)


def token_rewards(model: "PreTrainedModel", **inputs: Any) -> "torch.Tensor":
    """The head's output at every token, (B, T), float32."""
    hidden_BTD = model.base_model(**inputs, **_uncached(model.base_model)).last_hidden_state
    return headed(model, hidden_BTD)


def headed(model: "PreTrainedModel", hidden: "torch.Tensor") -> "torch.Tensor":
    """The head's output for hidden states, whose last dimension is the width of the model; float32."""
    rewards: torch.Tensor = model.score(hidden).squeeze(-1).float()
    return rewards


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The pairs of one ranking: each response is tokenized and read once, however many pairs it is in."""

    records: list[Mapping[str, Any]]
    """The pairs, in the preference contract, all about one prompt."""
    sequences: list[list[int]]
    """Prompt with response, one for each distinct response."""
    chosen: list[int]
    """Index into `sequences`, one for each pair."""
    rejected: list[int]
    prompt_tokens: int
    """How many tokens of each sequence are not the response."""

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return max(map(len, self.sequences), default=0)

    def within(self, max_length: int) -> "Comparison":
        """Without the pairs of which a sequence has more than `max_length` tokens."""
        fits = [
            max(len(self.sequences[chosen]), len(self.sequences[rejected])) <= max_length
            for chosen, rejected in zip(self.chosen, self.rejected, strict=True)
        ]
        used = sorted({*compress(self.chosen, fits), *compress(self.rejected, fits)})
        return Comparison(
            records=list(compress(self.records, fits)),
            sequences=[self.sequences[row] for row in used],
            chosen=[used.index(row) for row in compress(self.chosen, fits)],
            rejected=[used.index(row) for row in compress(self.rejected, fits)],
            prompt_tokens=self.prompt_tokens,
        )


def comparison(tokenizer: "PreTrainedTokenizerBase", records: Sequence[Mapping[str, Any]]) -> Comparison:
    """The pairs of one ranking as token ids."""
    prompt = records[0]["prompt"]
    texts = list(dict.fromkeys(record[side] for record in records for side in ("chosen", "rejected")))
    row = {text: number for number, text in enumerate(texts)}
    return Comparison(
        records=list(records),
        sequences=conversation_ids(tokenizer, [prompt] * len(texts), texts),
        chosen=[row[record["chosen"]] for record in records],
        rejected=[row[record["rejected"]] for record in records],
        prompt_tokens=len(chat_ids(tokenizer, [{"role": "user", "content": prompt}])),
    )


def planned(lengths: Sequence[int], *, batch_size: int, epochs: float, seed: int) -> list[list[int]]:
    """Batches of indices into `lengths` for all epochs, in random order but with neighbours in length together.

    Each whole epoch holds every index once; the last batch of an epoch may be smaller.
    """
    batches: list[list[int]] = []
    draw = random.Random(f"reward:{seed}")
    steps = math.ceil(epochs * math.ceil(len(lengths) / batch_size))
    while len(batches) < steps:
        order = draw.sample(range(len(lengths)), len(lengths))
        pool = 16 * batch_size
        epoch: list[list[int]] = []
        for start in range(0, len(order), pool):
            near = sorted(order[start : start + pool], key=lambda index: lengths[index])
            epoch += [near[at : at + batch_size] for at in range(0, len(near), batch_size)]
        draw.shuffle(epoch)
        batches += epoch
    return batches[:steps]

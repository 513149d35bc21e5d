"""Which of two answers a model is nearer to giving, without letting it speak.

Shapes: B prompts in a batch, T tokens of the longest, V vocabulary.
"""

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from pipelines.core.learning.decoding import longest
from pipelines.core.learning.padding import by_length, left_padded
from pipelines.core.text.prompts import Message

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def chances(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    conversations: Sequence[Sequence[Message]],
    answers: tuple[str, str],
    *,
    batch_size: int = 32,
    advance: Callable[[int], None] = lambda _count: None,
) -> list[float | None]:
    """Probability of the first answer against the second as the assistant's next turn, where they first differ.

    With p(A) and p(B) the probabilities of the first token in which the two turns differ, p(A) / (p(A) + p(B)): with
    answers of one letter that is what Bai et al. 2022 (arXiv:2212.08073, section 4.1) normalise.

    Args:
        model: A causal language model.
        tokenizer: With a chat template.
        conversations: Each ends with the user's turn.
        answers: Of which neither begins with the other.
        batch_size: Conversations read at once; they are batched by length.
        advance: Told of each batch, how many were read.

    Returns:
        A probability for each conversation; None for one that is longer than the model's longest sequence.
    """
    import torch

    asked = [_parted(tokenizer, conversation, answers) for conversation in conversations]
    found: list[float | None] = [None] * len(asked)
    fits = [row for row, (ids, _) in enumerate(asked) if len(ids) <= longest(model)]
    with torch.inference_mode():
        for batch in by_length([len(asked[row][0]) for row in fits], batch_size):
            rows = [fits[place] for place in batch]
            ids_BT, mask_BT = left_padded([asked[row][0] for row in rows], tokenizer.pad_token_id)
            logits_BV = model(
                input_ids=ids_BT.to(model.device),
                attention_mask=mask_BT.to(model.device),
                position_ids=(mask_BT.cumsum(1) - 1).clamp(min=0).to(model.device),
                use_cache=False,
                logits_to_keep=1,
            ).logits[:, -1]
            letters_B2 = torch.tensor([asked[row][1] for row in rows], device=logits_BV.device)
            chances_B = logits_BV.float().gather(1, letters_B2).softmax(-1)[:, 0]
            for row, chance in zip(rows, chances_B.tolist(), strict=True):
                found[row] = chance
            advance(len(rows))
    return found


def _parted(
    tokenizer: "PreTrainedTokenizerBase", conversation: Sequence[Message], answers: tuple[str, str]
) -> tuple[list[int], tuple[int, int]]:
    """What both answered conversations begin with, and the token with which each goes on."""
    one, other = (
        tokenizer.apply_chat_template([*conversation, {"role": "assistant", "content": answer}], return_dict=False)
        for answer in answers
    )
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    return list(one[:shared]), (one[shared], other[shared])

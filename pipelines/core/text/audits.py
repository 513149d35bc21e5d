"""Does a tokenizer give back what it took, and does the loss mask cover exactly what the assistant says?"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from pipelines.core.text.chat import LEAD

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from pipelines.core.text.prompts import Message


def round_trip_errors(tokenizer: "PreTrainedTokenizerBase", texts: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each text that is not the same after encoding and decoding."""
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        back = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if back != text:
            yield f"{text[:80]!r} comes back as {back[:80]!r}"


def mask_errors(tokenizer: "PreTrainedTokenizerBase", conversations: "Iterable[Sequence[Message]]") -> Iterator[str]:
    """Yield a sentence for each conversation whose loss mask is wrong.

    The masked runs of tokens, decoded, must be what the assistant says in each turn, the end token after it.
    """
    for messages in conversations:
        encoded = tokenizer.apply_chat_template(
            list(messages), tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        masked = [
            tokenizer.decode([token for token, _ in run], clean_up_tokenization_spaces=False)
            for covered, run in groupby(
                zip(encoded["input_ids"], encoded["assistant_masks"], strict=True), key=lambda pair: pair[1]
            )
            if covered
        ]
        wanted = [
            LEAD + message["content"] + tokenizer.eos_token for message in messages if message["role"] == "assistant"
        ]
        if masked != wanted:
            yield f"the loss covers {_brief(masked)}, not {_brief(wanted)}"


def _brief(parts: Sequence[str]) -> str:
    return repr([part if len(part) <= 80 else f"{part[:38]} … {part[-38:]}" for part in parts])

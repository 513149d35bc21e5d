"""The tokenizer that is trained: byte-level BPE (Sennrich et al. 2016, arXiv:1508.07909; bytes as in GPT-2)."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pipelines.core.text import chat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def train(texts: Iterable[str], vocab_size: int) -> "PreTrainedTokenizerBase":
    """Train on a stream of texts; the special tokens of `chat` come first, then the bytes, then the joined pairs.

    Args:
        texts: Read once.
        vocab_size: Entries at most, special tokens included; fewer where the texts have no more pairs to join.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(chat.SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=chat.END, pad_token=chat.PAD)

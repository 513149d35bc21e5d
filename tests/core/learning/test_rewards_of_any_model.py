"""Reward models of other architectures, with tokenizers of their own."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from pipelines.core.learning import rewards
from tests.core.learning.architectures import classifier
from tests.fixtures import tiny_tokenizer

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[END]",
    *["sing", "a", "song", "of", "sixpence", "please", "now", "la", "di", "da", "and", "then", "some"],
]
PROMPTS = ["sing a song", "sing please now of sixpence and then some", "please"]
RESPONSES = ["la di da", "la", "di da la la la la di"]


def words(*, segments=False, side="right", pad="[PAD]", template=None):
    """A tokenizer of words; with `segments` it puts [CLS] and [SEP] around and between two texts."""
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token=WORDS[1]))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if segments:
        backend.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
    marks = {"cls_token": "[CLS]", "sep_token": "[SEP]"} if segments else {"eos_token": "[END]"}
    marks |= {"unk_token": "[UNK]", "pad_token": pad}
    made = PreTrainedTokenizerFast(tokenizer_object=backend, padding_side=side, model_max_length=64, **marks)
    made.model_input_names = ["input_ids", "token_type_ids", "attention_mask"][:: 1 if segments else 2]
    made.chat_template = template
    return made


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["bert", "roberta", "deberta-v2"])
def test_an_encoder_reads_prompt_and_response_as_two_segments(kind, side):
    model, tokenizer = classifier(kind, vocab_size=len(WORDS), pad=0), words(segments=True, side=side)
    assert not hasattr(model, "score")
    found = rewards.score(model, tokenizer, PROMPTS, RESPONSES)
    for prompt, response, reward in zip(PROMPTS, RESPONSES, found, strict=True):
        read = tokenizer(prompt, response, return_tensors="pt")
        assert tokenizer.decode(read["input_ids"][0]) == f"[CLS] {prompt} [SEP] {response} [SEP]"
        with torch.inference_mode():
            assert reward == pytest.approx(float(model(**read).logits[0, 0]), abs=1e-4)
    assert len({round(reward, 3) for reward in found}) == 3


def test_what_an_encoder_cannot_read_whole_is_cut():
    model, tokenizer = classifier("bert", vocab_size=len(WORDS), pad=0, context=16), words(segments=True)
    assert len(rewards.score(model, tokenizer, ["sing " * 40], ["la " * 10])) == 1
    assert rewards.score(model, tokenizer, [], []) == []


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pad", ["[PAD]", None])
def test_a_decoder_without_a_template_reads_one_text_and_the_end_token(side, pad):
    model = classifier("gpt2", vocab_size=len(WORDS), pad=None if pad is None else 0)
    tokenizer = words(side=side, pad=pad)
    found = rewards.score(model, tokenizer, PROMPTS, RESPONSES)
    for prompt, response, reward in zip(PROMPTS, RESPONSES, found, strict=True):
        ids = [*tokenizer(f"{prompt}\n\n{response}")["input_ids"], tokenizer.eos_token_id]
        with torch.inference_mode():
            at_each = rewards.token_rewards(model, input_ids=torch.tensor([ids]))
        assert reward == pytest.approx(float(at_each[0, -1]), abs=1e-4)


def test_with_a_template_it_reads_a_dialogue_in_it():
    template = "{% for m in messages %}{{ m['role'] == 'user' and 'sing' or 'song' }} {{ m['content'] }} {% endfor %}"
    model = classifier("gpt2", vocab_size=len(WORDS), pad=0)
    tokenizer = words(template=template)
    found = rewards.score(model, tokenizer, PROMPTS, RESPONSES)
    for prompt, response, reward in zip(PROMPTS, RESPONSES, found, strict=True):
        ids = tokenizer(f"sing {prompt} song {response}")["input_ids"]
        with torch.inference_mode():
            at_each = rewards.token_rewards(model, input_ids=torch.tensor([ids]))
        assert reward == pytest.approx(float(at_each[0, -1]), abs=1e-4)


def test_looking_ahead_is_found_by_trying():
    assert not rewards.looks_ahead(classifier("gpt2", vocab_size=len(WORDS), pad=0))
    encoder = classifier("bert", vocab_size=len(WORDS), pad=0)
    encoder.score = torch.nn.Linear(32, 1)
    assert rewards.looks_ahead(encoder)


def test_our_own_reads_up_to_the_end_token():
    tokenizer = tiny_tokenizer(PROMPTS + RESPONSES)
    (ids,) = rewards.conversation_ids(tokenizer, ["sing"], ["la"])
    assert tokenizer.decode(ids) == "<|user|> sing<|assistant|> la<|endoftext|>"

import math

import numpy as np
import pytest

from pipelines.core.judging.likelihood import bits_per_byte, likelihood
from tests import fixtures


@pytest.fixture(scope="module")
def text():
    records = fixtures.corpus_records(30)
    tokenizer = fixtures.tiny_tokenizer(record["text"] for record in records)
    joined = " ".join(record["text"] for record in records)
    return fixtures.tiny_model(tokenizer), np.array(tokenizer(joined)["input_ids"]), len(joined.encode())


def test_a_model_that_knows_nothing_needs_the_logarithm_of_the_vocabulary(text):
    import torch

    _, tokens, size = text
    blank = fixtures.tiny_model(fixtures.tiny_tokenizer(["a b"]))
    with torch.no_grad():
        for weight in blank.parameters():
            weight.zero_()
    measured = likelihood(blank, tokens % len(blank.lm_head.weight), size, 32)
    entries = blank.config.vocab_size
    assert measured.perplexity == pytest.approx(entries, rel=1e-4)
    assert measured.bits_per_byte == pytest.approx(math.log2(entries) * len(tokens) / size, rel=1e-4)


def test_every_token_counts_once_whatever_the_batch(text):
    model, tokens, size = text
    ones = [likelihood(model, tokens, size, 32, batch=batch) for batch in (1, 3, 64)]
    assert {one.tokens for one in ones} == {len(tokens)}
    assert ones[0].nats == pytest.approx(ones[1].nats, rel=1e-5)
    assert ones[0].nats == pytest.approx(ones[2].nats, rel=1e-5)


def test_it_is_the_sum_of_the_log_probabilities_after_the_end_token(text):
    import torch

    model, tokens, _ = text
    few = tokens[:20]
    ids = torch.tensor([[model.config.eos_token_id, *few.tolist()]])
    with torch.inference_mode():
        chances = model(ids).logits.log_softmax(-1)[0, :-1]
    expected = -chances.gather(1, ids[0, 1:, None]).sum().item()
    assert likelihood(model, few, 100, 64).nats == pytest.approx(expected, rel=1e-5)
    assert bits_per_byte(model, few, 100, 64) == pytest.approx(expected / math.log(2) / 100, rel=1e-5)


def test_a_limit_takes_its_share_of_the_bytes(text):
    model, tokens, size = text
    measured = likelihood(model, tokens, size, 32, limit=len(tokens) // 2)
    assert measured.num_bytes == pytest.approx(size / 2, rel=0.01)


def test_the_context_is_cut_to_the_models_longest(text):
    model, tokens, size = text
    longest = model.config.max_position_embeddings
    assert likelihood(model, tokens, size, 10**6).nats == likelihood(model, tokens, size, longest).nats

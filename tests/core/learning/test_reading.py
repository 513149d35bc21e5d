"""Reading documents: the same alone and in a batch, cut at the context, silent on nothing."""

import numpy as np
import pytest
import torch

from pipelines.core.learning import reading
from tests.fixtures import corpus_records, tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def texts():
    return [record["text"] for record in corpus_records(12)]


@pytest.fixture(scope="module")
def tokenizer(texts):
    return tiny_tokenizer(texts)


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny_model(tokenizer, context=64)


def test_a_document_is_read_alike_alone_and_beside_longer_ones(model, tokenizer, texts):
    together = reading.read(model, tokenizer, [*texts, " ".join(texts[:2])])
    for row, text in enumerate(texts[:4]):
        alone = reading.read(model, tokenizer, [text])
        assert together.embeddings[row] == pytest.approx(alone.embeddings[0], abs=1e-5)
        assert together.nats_per_byte[row] == pytest.approx(alone.nats_per_byte[0], abs=1e-5)


def test_figures_are_those_of_the_plain_formulas(model, tokenizer, texts):
    read = reading.read(model, tokenizer, texts[:1])
    ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer(texts[0])["input_ids"]]])
    with torch.no_grad():
        output = model(ids, output_hidden_states=True)
    picked = torch.log_softmax(output.logits[0, :-1], -1)[range(ids.shape[1] - 1), ids[0, 1:]]
    assert read.nats_per_byte[0] == pytest.approx(-picked.sum().item() / len(texts[0].encode()), rel=1e-4)
    assert read.embeddings[0] == pytest.approx(output.hidden_states[-1][0, :-1].mean(dim=0).numpy(), abs=1e-5)
    assert read.bytes_per_token[0] == pytest.approx(len(texts[0].encode()) / (ids.shape[1] - 1))
    assert tokenizer.decode(read.tokens) == texts[0]


def test_a_document_longer_than_the_context_is_cut_there(model, tokenizer, texts):
    long = " ".join(texts)
    read = reading.read(model, tokenizer, [long])
    assert np.diff(read.offsets).tolist() == [63]
    assert read.bytes_per_token[0] * 63 == pytest.approx(len(tokenizer.decode(read.tokens).encode()))


def test_an_empty_document_has_no_figures_and_its_neighbours_keep_theirs(model, tokenizer, texts):
    read = reading.read(model, tokenizer, ["", texts[0]])
    assert np.isnan(read.embeddings[0]).all()
    assert np.isnan([read.nats_per_byte[0], read.bytes_per_token[0]]).all()
    assert np.isfinite(read.embeddings[1]).all()
    assert len(reading.read(model, tokenizer, []).embeddings) == 0

"""Responses as tensors: probabilities, entropies and values against what the model says one sequence at a time."""

import copy
import math

import pytest
import torch

from pipelines.core.learning import attention, decoding, rewards, rollouts
from pipelines.core.learning.decoding import Response, chat_ids
from pipelines.core.learning.rollouts import Prompt
from tests.fixtures import corpus_records, tiny_model, tiny_tokenizer
from tests.learning import reward_model

TEXTS = [record["text"] for record in corpus_records(12)]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer(TEXTS)


@pytest.fixture(scope="module", params=["padded", "side by side"])
def model(tokenizer, request):
    model = tiny_model(tokenizer)
    if request.param == "side by side":
        attention.use_fastest(model, device=torch.device("cpu"), context=decoding.longest(model))
    return model


@pytest.fixture(scope="module")
def prompts(tokenizer):
    texts = ["Sing.", "Tell me more about the barn, please.", "Go to the lake and say what Ann had."]
    return [Prompt(text=text, ids=chat_ids(tokenizer, [{"role": "user", "content": text}])) for text in texts]


@pytest.fixture(scope="module")
def responses(tokenizer):
    token_lists = [[9, 8, 7, 6, 5, 4, tokenizer.eos_token_id], [11], [20, 21, tokenizer.eos_token_id]]
    return [
        Response(tokens=ids, text=tokenizer.decode(ids), finished=ids[-1] == tokenizer.eos_token_id)
        for ids in token_lists
    ]


@pytest.fixture(scope="module")
def said(prompts, responses, tokenizer):
    return rollouts.assembled(prompts, responses, tokenizer.pad_token_id, torch.device("cpu"))


def one_by_one(model, prompt, response, temperature):
    """Log-probabilities and entropies of one response, the slow and plain way."""
    ids = torch.tensor([prompt.ids + response.tokens])
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[0] / temperature
    log_probs = logits.log_softmax(dim=-1)
    places = range(len(prompt.ids) - 1, ids.shape[1] - 1)
    chosen = [float(log_probs[place, ids[0, place + 1]]) for place in places]
    return chosen, [float(-(log_probs[place].exp() * log_probs[place]).sum()) for place in places]


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_probabilities_do_not_depend_on_padding_and_know_the_temperature(model, said, prompts, responses, temperature):
    with torch.inference_mode():
        log_probs_BN, entropy_BN = rollouts.log_probs_and_entropies(model, said, temperature)
        alone_BN = rollouts.token_log_probs(model, said, temperature)
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        chosen, entropies = one_by_one(model, prompt, response, temperature)
        length = len(response.tokens)
        assert log_probs_BN[row, :length].tolist() == pytest.approx(chosen, abs=1e-5)
        assert entropy_BN[row, :length].tolist() == pytest.approx(entropies, abs=1e-4)
        assert log_probs_BN[row, length:].abs().sum() == 0
        assert torch.equal(alone_BN, log_probs_BN)
        assert entropy_BN[row, length:].abs().sum() == 0


def test_some_rows_say_the_same_as_all_rows(model, said):
    part = said.rows(torch.tensor([2, 1]))
    assert part.ids_BT.shape[1] <= said.ids_BT.shape[1]
    with torch.inference_mode():
        all_BN = rollouts.token_log_probs(model, said, 1.0)
        some_BN = rollouts.token_log_probs(model, part, 1.0)
    assert torch.allclose(some_BN, all_BN[[2, 1]], atol=1e-5)


def test_a_value_is_read_before_its_token(model, said, prompts, responses):
    judge = reward_model(model)
    with torch.inference_mode():
        values_BN = rollouts.token_values(judge, said)
        for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
            at_each = rewards.token_rewards(judge, input_ids=torch.tensor([prompt.ids + response.tokens]))[0]
            expected = at_each[len(prompt.ids) - 1 : -1].tolist()
            assert values_BN[row, : len(response.tokens)].tolist() == pytest.approx(expected, abs=1e-5)


def test_the_divergence_is_never_negative_and_zero_between_equals():
    generator = torch.Generator().manual_seed(0)
    ours, theirs = torch.randn(50, 4, generator=generator), torch.randn(50, 4, generator=generator)
    mask = torch.ones(50, 4)
    assert (rollouts.sequence_kl(ours, theirs, mask) >= 0).all()
    assert rollouts.sequence_kl(ours, ours, mask).abs().max() == 0


def test_rounding_makes_no_divergence_negative():
    generator = torch.Generator().manual_seed(0)
    ours = torch.randn(2000, 3, generator=generator)
    theirs = ours + 1e-4 * torch.randn(2000, 3, generator=generator)
    assert (rollouts.sequence_kl(ours, theirs, torch.ones(2000, 3)) >= 0).all()


def test_the_estimated_divergence_is_the_true_one_on_average():
    ours, theirs = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.3, 0.3, 0.4])
    true = float((ours * (ours / theirs).log()).sum())
    drawn = torch.multinomial(ours, 20_000, replacement=True, generator=torch.Generator().manual_seed(0))
    log_ours, log_theirs = ours.log()[drawn][:, None], theirs.log()[drawn][:, None]
    estimate = rollouts.sequence_kl(log_ours, log_theirs, torch.ones_like(log_ours)).mean()
    assert float(estimate) == pytest.approx(true, rel=0.03)


def test_probabilities_are_those_that_decoding_samples_from(model, tokenizer, prompts):
    """Sampled frequencies of the first token beside its probability at a low temperature."""
    count = 1500
    sharp = copy.deepcopy(model)
    with torch.no_grad():
        sharp.get_input_embeddings().weight.mul_(8)
    asked = [prompts[1]] * count
    drawn = decoding.respond(sharp, tokenizer, [p.ids for p in asked], max_new_tokens=1, temperature=0.8, seed=1)
    together = rollouts.assembled(asked, drawn, tokenizer.pad_token_id, torch.device("cpu"))
    with torch.inference_mode():
        log_probs_BN, entropy_BN = rollouts.log_probs_and_entropies(sharp, together, 0.8)
    counts: dict[int, int] = {}
    for response in drawn:
        counts[response.tokens[0]] = counts.get(response.tokens[0], 0) + 1
    commonest = max(counts, key=lambda token: counts[token])
    row = next(row for row, response in enumerate(drawn) if response.tokens[0] == commonest)
    assert counts[commonest] / count == pytest.approx(math.exp(float(log_probs_BN[row, 0])), abs=0.05)
    assert float(-log_probs_BN.mean()) == pytest.approx(float(entropy_BN[0, 0]), rel=0.1)


def test_two_equal_policies_measured_with_one_seed_say_the_same(model, tokenizer, prompts):
    options = {"max_new_tokens": 6, "temperature": 1.0, "seed": 5}
    score = lambda _prompts, texts: [float(len(text)) for text in texts]  # noqa: E731
    one = rollouts.measure(model, model, tokenizer, prompts, score, **options)
    other = rollouts.measure(copy.deepcopy(model), model, tokenizer, prompts, score, **options)
    assert one == other
    assert one.kl == pytest.approx([0.0] * 3, abs=1e-5)
    assert one.rewards == [float(len(text)) for text in one.texts]
    assert all(1 <= length <= 6 for length in one.lengths)

import copy
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.learning import decoding
from pipelines.core.text.prompts import user_text
from pipelines.errors import MoteurError
from tests import fixtures

LIMIT = 40


@pytest.fixture(scope="module")
def plain():
    return fixtures.tiny_tokenizer(record["text"] for record in fixtures.corpus_records(50))


@pytest.fixture(scope="module")
def model(plain):
    import torch

    model = fixtures.tiny_model(plain, seed=3)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(8)
    return model


@pytest.fixture(scope="module")
def prompts(plain):
    return [plain(record["text"])["input_ids"][: 5 + row] for row, record in enumerate(fixtures.corpus_records(24))]


@pytest.fixture(scope="module")
def tokenizer(plain, model, prompts):
    """A tokenizer whose end token is one that the random model says, so that answers end at many lengths."""
    from collections import Counter

    said = [generated(model, plain, prompt, end=None) for prompt in prompts]
    spread = Counter(token for tokens in said for token in set(tokens))
    ours = copy.deepcopy(plain)
    ours.eos_token = ours.convert_ids_to_tokens(spread.most_common(1)[0][0])
    return ours


@pytest.fixture(scope="module")
def mute(plain):
    """A tokenizer whose end token no model says."""
    ours = copy.deepcopy(plain)
    ours.add_special_tokens({"eos_token": "<|never|>"})
    return ours


def generated(model, tokenizer, prompt, *, end, **options):
    import torch

    output = model.generate(
        input_ids=torch.tensor([prompt]),
        max_new_tokens=LIMIT,
        eos_token_id=end,
        pad_token_id=tokenizer.pad_token_id,
        **{"do_sample": False, **options},
    )
    return output[0, len(prompt) :].tolist()


@pytest.mark.parametrize("batch_size", [5, 64])
def test_greedy_answers_are_those_of_generate_for_each_prompt_alone(model, tokenizer, prompts, batch_size):
    ours = decoding.respond(model, tokenizer, prompts, max_new_tokens=LIMIT, batch_size=batch_size)
    end = tokenizer.eos_token_id
    assert [response.tokens for response in ours] == [
        generated(model, tokenizer, prompt, end=end) for prompt in prompts
    ]
    assert len({len(response.tokens) for response in ours}) > 4
    assert {response.finished for response in ours} == {True, False}


def test_an_answer_is_finished_exactly_when_it_ends_with_the_end_token(model, tokenizer, prompts):
    for response in decoding.respond(model, tokenizer, prompts, max_new_tokens=10):
        assert response.finished == (response.tokens[-1] == tokenizer.eos_token_id)
        assert tokenizer.eos_token_id not in response.tokens[:-1]


def test_sampling_repeats_with_its_seed_and_leaves_the_global_generator_alone(model, tokenizer, prompts):
    import torch

    def sample(seed):
        torch.manual_seed(1)
        said = decoding.respond(model, tokenizer, prompts, max_new_tokens=8, temperature=2.0, seed=seed)
        return [response.tokens for response in said], torch.rand(1).item()

    assert sample(5) == sample(5)
    assert sample(5)[0] != sample(6)[0]
    assert sample(5)[1] == sample(6)[1]


def test_sampled_tokens_have_the_probabilities_of_the_softmax_and_the_nucleus_cuts_the_tail():
    import torch

    chance = torch.rand(20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits = torch.tensor([[math.log(0.5), math.log(0.3), math.log(0.15), math.log(0.05)]]).repeat(20_000, 1)
    free = torch.bincount(decoding._chooser(1.0, 1.0)(logits, chance), minlength=4) / 20_000
    assert free.tolist() == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.015)
    cold = torch.bincount(decoding._chooser(0.5, 1.0)(logits, chance), minlength=4) / 20_000
    assert cold.tolist() == pytest.approx([0.685, 0.247, 0.062, 0.007], abs=0.015)
    nucleus = torch.bincount(decoding._chooser(1.0, 0.7)(logits, chance), minlength=4) / 20_000
    assert nucleus.tolist() == pytest.approx([0.625, 0.375, 0, 0], abs=0.015)


def test_beam_search_finds_answers_at_least_as_likely_as_greedy(model, plain, prompts):
    import torch

    def likelihood(prompt, tokens):
        ids = torch.tensor([[*prompt, *tokens]])
        with torch.inference_mode():
            chances = model(ids).logits.log_softmax(-1)[0, len(prompt) - 1 : -1]
        return chances.gather(1, torch.tensor(tokens)[:, None]).sum().item()

    few = prompts[:6]
    greedy = decoding.respond(model, plain, few, max_new_tokens=4)
    beams = decoding.respond(model, plain, few, max_new_tokens=4, beams=8)
    gains = [
        likelihood(prompt, wide.tokens) - likelihood(prompt, narrow.tokens)
        for prompt, wide, narrow in zip(few, beams, greedy, strict=True)
    ]
    assert min(gains) > -1e-3
    assert max(gains) > 0.1


def test_text_stops_at_the_models_longest_sequence(model, plain, prompts):
    short = copy.deepcopy(model)
    short.config.max_position_embeddings = max(map(len, prompts)) + 3
    said = decoding.respond(short, plain, prompts, max_new_tokens=LIMIT)
    read = [len(prompt) + len(response.tokens) for prompt, response in zip(prompts, said, strict=True)]
    assert max(read) == short.config.max_position_embeddings
    assert len(said[-1].tokens) == 3


@pytest.mark.parametrize("beams", [1, 2])
def test_a_prompt_that_leaves_little_room_does_not_cut_the_answers_of_the_others(model, mute, prompts, beams):
    short = copy.deepcopy(model)
    short.config.max_position_embeddings = max(map(len, prompts)) + 3
    options = {"max_new_tokens": 12, "beams": beams}
    said = [response.tokens for response in decoding.respond(short, mute, prompts, **options)]
    assert [len(tokens) for tokens in said] == [min(12, decoding.longest(short) - len(prompt)) for prompt in prompts]
    assert said == [decoding.respond(short, mute, [prompt], **options)[0].tokens for prompt in prompts]


def test_two_models_draw_with_the_same_chance_in_every_batch_however_long_they_answer(model, mute, tokenizer, prompts):
    options = {"max_new_tokens": LIMIT, "temperature": 1.0, "seed": 3, "batch_size": 1}
    free = [answer.tokens for answer in decoding.respond(model, mute, prompts, **options)]
    ended = [answer.tokens for answer in decoding.respond(model, tokenizer, prompts, **options)]
    assert min(map(len, ended[:-1])) < LIMIT
    for one, other in zip(free, ended, strict=True):
        assert one[: len(other)] == other


def test_batches_do_not_share_their_chance(model, mute, prompts):
    said = decoding.respond(model, mute, [prompts[0]] * 2, max_new_tokens=8, temperature=2.0, batch_size=1)
    assert said[0].tokens != said[1].tokens


def test_an_answer_is_asked_with_context_and_prompt_in_one_user_turn(plain):
    record = fixtures.instruction_records(1)[0]
    ids = decoding.chat_ids(plain, [{"role": "user", "content": user_text(record["context"], record["prompt"])}])
    assert plain.decode(ids) == f"<|user|> {record['context']}\n\n{record['prompt']}<|assistant|>"


def test_a_sampled_answer_does_not_depend_on_when_the_others_end(model, plain, tokenizer, prompts):
    options = {"max_new_tokens": LIMIT, "temperature": 1.0, "seed": 3}
    free = [answer.tokens for answer in decoding.respond(model, plain, prompts, **options)]
    ended = [answer.tokens for answer in decoding.respond(model, tokenizer, prompts, **options)]
    assert len({len(tokens) for tokens in ended}) > 4
    for one, other in zip(free, ended, strict=True):
        both = min(len(one), len(other))
        assert one[:both] == other[:both]


@given(count=st.integers(1, 30), data=st.data())
def test_rows_that_go_leave_as_many_in_place_as_can_be(count, data):
    gone = data.draw(st.lists(st.integers(0, count - 1), unique=True))
    kept = decoding._without(sorted(gone), count)
    assert sorted(kept) == sorted(set(range(count)) - set(gone))
    assert all(row == place or place in gone for place, row in enumerate(kept))


def test_a_model_with_layers_that_keep_a_state_is_refused_by_name(model, plain, prompts):
    other = copy.deepcopy(model)
    other.config.layer_types = ["full_attention", "linear_attention"]
    with pytest.raises(MoteurError, match="layers of kind linear_attention"):
        decoding.respond(other, plain, prompts, max_new_tokens=2)


def test_a_model_that_keeps_no_keys_is_refused_and_not_silently_wrong(plain, prompts):
    from transformers import RwkvConfig, RwkvForCausalLM

    state = RwkvForCausalLM(RwkvConfig(vocab_size=len(plain), hidden_size=16, num_hidden_layers=2, intermediate_size=8))
    with pytest.raises(MoteurError, match="type rwkv has layers which keep no keys and values"):
        decoding.respond(state, plain, prompts, max_new_tokens=2)

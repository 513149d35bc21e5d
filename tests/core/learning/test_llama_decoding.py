import copy

import pytest

from pipelines.core.learning import decoding, llama_decoding, low_rank
from pipelines.core.learning.architecture import llama
from pipelines.params import Lora
from tests import fixtures, learning

SHAPES = {
    "plain": {},
    "shared keys, biases": {"num_key_value_heads": 2, "attention_bias": True, "mlp_bias": True},
    "one key for all, head of another width": {"num_key_value_heads": 1, "head_dim": 24},
    "output layer of its own": {"tie_word_embeddings": False},
    "llama3": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500.0,
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        }
    },
    "yarn": {"rope_parameters": {"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0}},
}
LENGTHS = [9, 3, 6, 9]


def random_llama(seed=0, **shape):
    """A small Llama whose weights, biases and norms are all far from their first values."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    usual = {"vocab_size": 61, "max_position_embeddings": 64, "tie_word_embeddings": True, "pad_token_id": 0}
    model = LlamaForCausalLM(LlamaConfig(**sizes | usual | shape)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return model


@pytest.fixture
def passes(monkeypatch):
    """Collects the calls of transformers' own forward pass."""
    from transformers import LlamaModel

    seen, forward = [], LlamaModel.forward
    monkeypatch.setattr(LlamaModel, "forward", lambda *args, **options: seen.append(1) or forward(*args, **options))
    return seen


def told(model, read, piece):
    """Logits of a padded batch: prompts in pieces of columns, then tokens; the longest rows leave, the others move."""
    import torch

    from pipelines.core.learning.window import Window

    window = Window(model, len(LENGTHS), 16, read)
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 61, (len(LENGTHS), max(LENGTHS)), generator=draw)
    window.begin(LENGTHS)
    found = []
    for start in range(0, max(LENGTHS), piece):
        logits = window.prefill(ids[:, start : start + piece])
        found.append(logits[[row for row, length in enumerate(window.lengths) if length]])  # the others: padding only
    for step in range(14):
        if step in (3, 6):
            window.keep(decoding._without([0], window.rows))
        tokens = torch.randint(0, 61, (len(LENGTHS),), generator=draw).tolist()
        found.append(window.decode(tokens[: window.rows]))
    return found


@pytest.mark.parametrize("piece", [4, 9])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_logits_are_those_of_transformers_but_for_rounding(shape, piece):
    import torch

    model = random_llama(**shape)
    with torch.inference_mode():
        read = llama_decoding.reader(model, 32)
        assert read is not None
        ours, theirs = told(model, read, piece), told(model, None, piece)
    assert {len(logits) for logits in ours} == {4, 3, 2}
    for mine, other in zip(ours, theirs, strict=True):
        assert other.std() > 0.5
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_greedy_answers_are_those_of_generate(shape, passes):
    import torch

    model = random_llama(seed=2, **shape)
    tokenizer = fixtures.tiny_tokenizer(record["text"] for record in fixtures.corpus_records(5))
    prompts = [list(range(3, 3 + length)) for length in LENGTHS]
    ours = decoding.respond(model, tokenizer, prompts, max_new_tokens=12)
    assert not passes
    for prompt, said in zip(prompts, ours, strict=True):
        whole = model.generate(
            torch.tensor([prompt]),
            max_new_tokens=12,
            do_sample=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=0,
        )
        assert said.tokens == whole[0, len(prompt) :].tolist()


def test_in_bfloat16_logits_are_as_near_to_the_exact_ones_as_those_of_transformers():
    import torch

    exact = random_llama()
    rough = copy.deepcopy(exact).to(torch.bfloat16)
    with torch.inference_mode():
        right = torch.cat(told(exact, None, 9))
        ours = (torch.cat(told(rough, llama_decoding.reader(rough, 32), 9)) - right).abs().mean()
        theirs = (torch.cat(told(rough, None, 9)) - right).abs().mean()
    assert ours < 1.2 * theirs


def test_the_model_of_params_is_read_without_transformers_forward_pass_also_after_training(passes):
    import torch

    from pipelines.core.learning import attention, rollouts

    tokenizer = fixtures.tiny_tokenizer(record["text"] for record in fixtures.corpus_records(5))
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    model = llama(learning.params().model, vocab_size=len(tokenizer), eos=end, pad=pad)
    attention.use_fastest(model, device=torch.device("cpu"), context=64)
    with rollouts.decodable(model):
        decoding.respond(model, tokenizer, [[5, 6, 7]], max_new_tokens=4)
    assert not passes


def test_an_updated_model_answers_with_its_new_weights():
    import torch

    tokenizer = fixtures.tiny_tokenizer(record["text"] for record in fixtures.corpus_records(5))

    def say(model):
        return [said.tokens for said in decoding.respond(model, tokenizer, [[5, 6, 7], [8]], max_new_tokens=12)]

    model, other = random_llama(seed=1), random_llama(seed=2)
    before = say(model)
    with torch.no_grad():
        for weight, new in zip(model.parameters(), other.parameters(), strict=True):
            weight.copy_(new)
    assert say(model) == say(other) != before


def hooked(model):
    model.model.layers[1].mlp.register_forward_hook(lambda _module, _inputs, output: -output)


def patched(model):
    model.lm_head.forward = lambda x: x @ model.lm_head.weight.T


def replaced(model):
    from torch import nn

    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    model.model.layers[0].mlp.up_proj = Doubled(32, 48, bias=False)


def adapted(model):
    low_rank.adapt(model, Lora(rank=2, alpha=4, dropout=0.0))


def dropping(model):
    model.config.attention_dropout = 0.1
    model.train()


def attending_otherwise(model):
    model.config._attn_implementation = "flex_attention"


@pytest.mark.parametrize("change", [hooked, patched, replaced, adapted, dropping, attending_otherwise])
def test_a_model_that_is_not_plain_reads_itself(change):
    model = random_llama()
    assert llama_decoding.fits(model)
    change(model)
    assert llama_decoding.reader(model, 8) is None


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_positions_that_depend_on_the_longest_text_are_left_to_transformers(kind):
    factors = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4, "original_max_position_embeddings": 16}
    rope = {"rope_type": kind, "rope_theta": 500.0, "factor": 4.0} | (factors if kind == "longrope" else {})
    assert not llama_decoding.fits(random_llama(rope_parameters=rope))


def test_another_activation_or_architecture_is_left_to_transformers():
    from transformers import MistralConfig, MistralForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    assert not llama_decoding.fits(random_llama(hidden_act="gelu"))
    assert not llama_decoding.fits(MistralForCausalLM(MistralConfig(**sizes, vocab_size=61)))


def test_adapters_have_their_say_in_answers(passes):
    import torch

    tokenizer = fixtures.tiny_tokenizer(record["text"] for record in fixtures.corpus_records(5))
    model = random_llama()
    wrapped = low_rank.adapt(model, Lora(rank=2, alpha=4, dropout=0.0))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.5)
    asked = [[5, 6, 7], [8]]
    ours = decoding.respond(model, tokenizer, asked, max_new_tokens=12)
    assert passes
    merged = decoding.respond(wrapped.merge_and_unload(), tokenizer, asked, max_new_tokens=12)
    assert [said.tokens for said in ours] == [said.tokens for said in merged]

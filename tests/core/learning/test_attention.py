import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from pipelines.core.learning import attention, batches


def model(kv_heads=4):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        max_position_embeddings=64,
    )
    return LlamaForCausalLM(config)


def gradients(made, ids, **inputs):
    made.zero_grad()
    made(input_ids=ids, labels=ids, use_cache=False, **inputs).loss.backward()
    return [weight.grad.clone() for weight in made.parameters()]


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_it_gives_the_logits_and_gradients_of_the_fused_attention(kv_heads):
    made = model(kv_heads)
    ids = torch.randint(0, 50, (3, 20))
    wanted_logits, wanted = made(input_ids=ids).logits, gradients(made, ids)
    attention.use_fastest(made, device=torch.device("cpu"), context=20)
    assert made.config._attn_implementation == attention.NAME
    torch.testing.assert_close(made(input_ids=ids).logits, wanted_logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradients(made, ids), wanted, rtol=1e-4, atol=1e-5)


def test_padding_on_the_right_changes_nothing_before_it():
    made = model()
    attention.use_fastest(made, device=torch.device("cpu"), context=20)
    ids = torch.randint(0, 50, (1, 12))
    longer = torch.cat([ids, torch.zeros((1, 4), dtype=torch.long)], dim=1)
    mask = torch.tensor([[1] * 12 + [0] * 4])
    alone, padded = made(input_ids=ids).logits, made(input_ids=longer, attention_mask=mask).logits[:, :12]
    torch.testing.assert_close(alone, padded, rtol=1e-4, atol=1e-5)


def test_padding_on_the_left_is_refused_and_not_silently_wrong():
    made = model()
    attention.use_fastest(made, device=torch.device("cpu"), context=20)
    mask = torch.tensor([[0, 0, 1, 1]])
    with pytest.raises(ValueError, match="set the attention to sdpa before decoding"):
        made(input_ids=torch.ones((1, 4), dtype=torch.long), attention_mask=mask)


def test_cached_decoding_is_refused():
    made = model()
    attention.use_fastest(made, device=torch.device("cpu"), context=20)
    with pytest.raises(ValueError, match="before decoding"):
        made.generate(torch.ones((1, 4), dtype=torch.long), max_new_tokens=3, do_sample=False)


def test_long_sequences_use_the_fused_attention():
    made = model()
    attention.use_fastest(made, device=torch.device("cpu"), context=attention.LONGEST + 1)
    assert made.config._attn_implementation == "sdpa"


def test_the_choice_is_not_saved_with_the_model(tmp_path):
    made = model()
    attention.use_fastest(made, device=torch.device("cpu"), context=20)
    made.save_pretrained(tmp_path)
    assert LlamaForCausalLM.from_pretrained(tmp_path).config._attn_implementation == "sdpa"


def test_packed_documents_do_not_see_each_other_in_either_attention():
    made = model()
    ids = torch.randint(2, 50, (2, 20))
    ids[0, 7] = ids[1, 3] = ids[1, 12] = 1
    places = batches.positions(ids, 1)
    alone = made(input_ids=ids[:1, 7:]).logits
    assert not torch.allclose(made(input_ids=ids).logits[:1, 7:], alone, atol=1e-3)
    fused = made(input_ids=ids, position_ids=places, use_cache=False).logits
    torch.testing.assert_close(fused[:1, 7:], alone, rtol=1e-4, atol=1e-5)
    attention.use_fastest(made, device=torch.device("cpu"), context=20)
    torch.testing.assert_close(
        made(input_ids=ids, position_ids=places, use_cache=False).logits, fused, rtol=1e-4, atol=1e-5
    )

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.adapters import sft
from pipelines.adapters.checkpoints import Checkpoints
from pipelines.adapters.resumption import Resumption
from pipelines.core.learning.mixture import Example
from pipelines.core.learning.padding import IGNORED
from pipelines.errors import Preempted, TrainingError
from tests import fixtures

SCHEDULE = sft.Schedule(optimizer="adamw", learning_rate=1e-3, warmup_share=0.0, seed=0)


@pytest.fixture(scope="module")
def tokenizer():
    return fixtures.tiny_tokenizer(record["text"] for record in fixtures.corpus_records(50))


@pytest.fixture(scope="module")
def examples(tokenizer):
    """Texts of many lengths whose second half is in the loss."""
    made = []
    for number, record in enumerate(fixtures.corpus_records(12)):
        ids = tokenizer(record["text"])["input_ids"][: 8 + 2 * number]
        half = len(ids) // 2
        made.append(Example(input_ids=ids, labels=[IGNORED] * half + ids[half:]))
    return made


def from_the_start(folder):
    return Resumption(store=Checkpoints(folder), found=None, every=10**9, values=dict)


def train(tokenizer, examples, batches, **options):
    import torch

    steps = []
    model = fixtures.tiny_model(tokenizer)
    trained = sft.train(
        model,
        tokenizer,
        examples,
        batches,
        options.pop("schedule", SCHEDULE),
        precision=options.pop("precision", torch.float32),
        resume=from_the_start(options.pop("folder", Path("nowhere"))),
        on_step=steps.append,
        **options,
    )
    return trained, steps


def masked_loss(model, examples):
    """Mean cross-entropy over the tokens in the loss, each text alone, by the model's own loss."""
    import torch

    total = count = 0
    for example in examples:
        asked = sum(label != IGNORED for label in example.labels[1:])
        with torch.inference_mode():
            loss = model(torch.tensor([example.input_ids]), labels=torch.tensor([example.labels])).loss
        total, count = total + loss.item() * asked, count + asked
    return total / count


def test_the_loss_is_the_mean_over_the_tokens_asked_whatever_the_padding(tokenizer, examples):
    _, steps = train(tokenizer, examples, [list(range(12))])
    assert steps[0].loss == pytest.approx(masked_loss(fixtures.tiny_model(tokenizer), examples), rel=1e-4)
    assert steps[0].tokens == sum(len(example.input_ids) for example in examples)


def test_products_come_in_few_shapes_whatever_the_lengths(tokenizer, examples):
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as seen:
        trained, _ = train(tokenizer, examples, [[row] for row in range(12)])
    assert len({len(example.input_ids) for example in examples}) > 5
    products = [event for event in seen.events() if event.name == "aten::mm"]
    sizes = {size for event in products for shape in event.input_shapes for size in shape}
    of_weights = {size for weight in trained.model.parameters() for size in weight.shape}
    together = 3 * trained.model.config.hidden_size
    assert len(products) > 100
    assert sizes - of_weights <= {together, 16, 32, 64}


def test_a_text_as_long_as_the_model_reads_is_not_padded_beyond_that(tokenizer, monkeypatch):
    from transformers import GPT2Config, GPT2LMHeadModel

    entries = len(tokenizer)
    none = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=entries, n_positions=20, n_embd=8, n_layer=1, n_head=2, **none))
    monkeypatch.setattr(fixtures, "tiny_model", lambda _tokenizer: model)
    whole = [Example(input_ids=[5] * 20, labels=[5] * 20), Example(input_ids=[6] * 9, labels=[6] * 9)]
    expected = masked_loss(model, whole)
    _, steps = train(tokenizer, whole, [[0, 1]])
    assert steps[0].loss == pytest.approx(expected, rel=1e-4)


def test_a_turn_of_n_tokens_weighs_n_to_the_power_of_one_minus_the_exponent():
    import torch

    asked = torch.tensor([[1, 0, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0, 1]]).bool()
    lengths = torch.tensor([[1, 0, 4, 4, 4, 4, 0], [2, 2, 0, 0, 0, 0, 1]])
    for exponent in (0.0, 0.5, 1.0):
        expected = torch.where(asked, lengths.clamp(min=1).float() ** -exponent, 0.0)
        torch.testing.assert_close(sft.turn_weights(asked, exponent), expected)
    assert sft.turn_weights(torch.zeros(2, 3).bool(), 0.5).sum() == 0


@pytest.mark.parametrize("plain", [True, False])
def test_with_the_exponent_one_the_loss_is_the_mean_over_turns(tokenizer, examples, plain, monkeypatch):
    monkeypatch.setattr(sft, "_has_plain_head", lambda _config: plain)
    schedule = replace(SCHEDULE, turn_length_exponent=1.0)
    _, steps = train(tokenizer, examples, [[1, 5, 11]], schedule=schedule)
    model = fixtures.tiny_model(tokenizer)
    each = [masked_loss(model, [examples[row]]) for row in (1, 5, 11)]
    assert steps[0].loss == pytest.approx(sum(each) / 3, rel=1e-4)


def test_the_batches_are_those_that_were_planned_in_their_order(tokenizer, examples):
    plan = [[5, 1, 7], [0], [2, 3]]
    frozen = sft.Schedule(optimizer="adamw", learning_rate=1e-12, warmup_share=0.0, seed=0)
    _, steps = train(tokenizer, examples, plan, schedule=frozen)
    model = fixtures.tiny_model(tokenizer)
    for step, batch in zip(steps, plan, strict=True):
        assert step.loss == pytest.approx(masked_loss(model, [examples[row] for row in batch]), rel=1e-4)
    assert [step.step for step in steps] == [1, 2, 3]


def test_the_step_on_a_cpu_is_that_of_trl(tokenizer, examples, monkeypatch):
    import torch

    ours, _ = train(tokenizer, examples, [[0, 1, 2, 3]] * 3)
    monkeypatch.setattr(sft, "_has_plain_head", lambda _config: False)
    theirs, _ = train(tokenizer, examples, [[0, 1, 2, 3]] * 3)
    for name, weight in ours.model.state_dict().items():
        assert torch.allclose(weight, theirs.model.state_dict()[name], atol=2e-5), name


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_of_frozen_embeddings_only_the_rows_that_are_named_move(tokenizer, examples, optimizer):
    before = fixtures.tiny_model(tokenizer).get_input_embeddings().weight
    adapter = sft.lora(rank=2, alpha=4, dropout=0.0, train_embeddings=False)
    schedule = replace(SCHEDULE, optimizer=optimizer)
    trained, _ = train(tokenizer, examples, [[0, 1, 2, 3]] * 3, adapter=adapter, schedule=schedule, rows=[5, 9])
    moved = (trained.model.get_input_embeddings().weight != before).any(dim=1)
    assert moved.nonzero().flatten().tolist() == [5, 9]
    assert trained.trainable_parameters < before.numel()


@pytest.mark.parametrize("adapter", [None, sft.lora(rank=2, alpha=4, dropout=0.0, train_embeddings=True)])
def test_the_steps_are_in_half_precision_and_the_model_that_comes_out_is_not(tokenizer, examples, adapter, monkeypatch):
    import torch
    from torch.nn import functional

    seen = []
    linear = functional.linear

    def watched(inputs, weight, bias=None):
        result = linear(inputs, weight, bias)
        seen.append(result.dtype)
        return result

    monkeypatch.setattr(functional, "linear", watched)
    trained, _ = train(tokenizer, examples, [[0, 1, 2, 3]], precision=torch.bfloat16, adapter=adapter)
    assert set(seen) == {torch.bfloat16}
    seen.clear()
    with torch.inference_mode():
        trained.model(torch.tensor([examples[0].input_ids]))
    assert set(seen) == {torch.float32}
    assert {weight.dtype for weight in trained.model.parameters()} == {torch.float32}


def test_a_trained_model_answers_left_padded_prompts(tokenizer, examples):
    trained, _ = train(tokenizer, examples, [[0, 1]])
    assert trained.model.config._attn_implementation == "sdpa"
    assert not trained.model.training


def test_a_loss_that_is_not_a_number_names_the_learning_rate(tokenizer, examples):
    wild = sft.Schedule(optimizer="adamw", learning_rate=1e30, warmup_share=0.0, seed=0)
    with pytest.raises(TrainingError, match=r"lower finetuning\.learning_rate"):
        train(tokenizer, examples, [[0, 1]] * 8, schedule=wild)


def test_a_request_to_stop_is_heard_between_steps(tokenizer, examples, tmp_path):
    seen = []

    def stop():
        seen.append(1)
        return len(seen) > 1

    with pytest.raises(Preempted):
        train(tokenizer, examples, [[0, 1]] * 50, stop=stop, folder=tmp_path)
    assert len(seen) < 6

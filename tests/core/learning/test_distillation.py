"""Students of half the depth."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipelines.core.learning import distillation
from tests.fixtures import corpus_records, tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer([record["text"] for record in corpus_records(20)])


def logits(seed, shape=(2, 3, 7)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("depth", "kept"), [(2, [0]), (3, [0, 2]), (4, [0, 2]), (5, [0, 2, 4]), (6, [0, 2, 4])])
def test_every_second_layer_is_kept(depth, kept):
    assert distillation.kept_layers(depth) == kept


def test_a_student_starts_as_every_second_layer_of_its_teacher(tokenizer):
    teacher = tiny_model(tokenizer, num_layers=4)
    student = distillation.student_of(teacher)
    assert student.config.num_hidden_layers == 2
    assert teacher.config.num_hidden_layers == 4
    for own, taken in ((0, 0), (1, 2)):
        theirs = teacher.model.layers[taken].state_dict()
        assert all(torch.equal(value, theirs[name]) for name, value in student.model.layers[own].state_dict().items())
        assert student.model.layers[own].self_attn.layer_idx == own
    assert torch.equal(student.lm_head.weight, teacher.lm_head.weight)
    student.model.embed_tokens.weight.data.zero_()
    assert int(teacher.model.embed_tokens.weight.count_nonzero()) > 0


def test_a_model_of_one_layer_has_no_student(tokenizer):
    with pytest.raises(ValueError, match="one layer has no student"):
        distillation.student_of(tiny_model(tokenizer, num_layers=1))


def test_other_architectures_have_students_too():
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    teacher = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=16, n_embd=8, n_layer=4, n_head=2)).eval()
    student = distillation.student_of(teacher)
    assert student.config.n_layer == 2
    assert torch.equal(student.transformer.h[1].attn.c_attn.weight, teacher.transformer.h[2].attn.c_attn.weight)


def test_the_loss_is_the_formula():
    student_BTV, teacher_BTV, targets_BT = logits(0), logits(1), torch.tensor([[0, 1, 2], [3, 4, 5]])
    p, q = (teacher_BTV / 2).softmax(-1), (student_BTV / 2).softmax(-1)
    divergence = (p * (p / q).log()).sum(-1).mean()
    next_token = functional.cross_entropy(student_BTV.flatten(0, 1), targets_BT.flatten())
    expected = distillation.WEIGHT * 4 * divergence + (1 - distillation.WEIGHT) * next_token
    found = distillation.distillation_loss(student_BTV, teacher_BTV, targets_BT, 2.0)
    assert torch.allclose(found, expected, rtol=1e-5)


def test_a_student_that_agrees_with_its_teacher_pays_only_for_the_next_token():
    targets_BT = torch.zeros(2, 3, dtype=torch.long)
    same = distillation.distillation_loss(logits(0), logits(0), targets_BT, 3.0)
    next_token = functional.cross_entropy(logits(0).flatten(0, 1), targets_BT.flatten())
    assert torch.allclose(same, (1 - distillation.WEIGHT) * next_token, rtol=1e-5)


def test_no_gradient_reaches_the_teacher():
    student_BTV, teacher_BTV = logits(0).requires_grad_(), logits(1).requires_grad_()
    distillation.distillation_loss(student_BTV, teacher_BTV, torch.zeros(2, 3, dtype=torch.long), 2.0).backward()
    assert teacher_BTV.grad is None
    assert student_BTV.grad is not None


def test_half_of_each_batch_is_conversation_and_it_depends_on_nothing_but_the_step():
    text, chat = np.zeros(2000, np.uint16), np.ones(2000, np.uint16)
    batches = distillation.mixed(text, chat, context=16, seed=3)
    inputs_BT = batches(5).inputs_BT
    assert inputs_BT.shape == (distillation.BATCH_SIZE, 16)
    assert inputs_BT.float().mean() == 0.5
    again = distillation.mixed(text, chat, context=16, seed=3)
    assert torch.equal(again(5).inputs_BT, inputs_BT)


def test_too_few_conversations_leave_the_batch_to_the_text_and_too_little_text_is_an_error():
    text = np.zeros(2000, np.uint16)
    batches = distillation.mixed(text, np.ones(20, np.uint16), context=16, seed=0)
    assert batches(0).inputs_BT.shape == (distillation.BATCH_SIZE, 16)
    assert int(batches(0).inputs_BT.sum()) == 0
    with pytest.raises(ValueError, match="30 tokens do not fill one batch"):
        distillation.mixed(text[:30], np.empty(0, np.uint16), context=16, seed=0)


def test_a_student_learns_and_its_teacher_stays_as_it_was(tokenizer):
    teacher = tiny_model(tokenizer, num_layers=4)
    before = [weight.clone() for weight in teacher.parameters()]
    student = distillation.student_of(teacher)
    text = np.random.default_rng(0).integers(0, len(tokenizer), 200).astype(np.uint16)
    batches = distillation.mixed(text, np.empty(0, np.uint16), context=16, seed=0)
    steps = list(
        distillation.distil(
            student,
            teacher,
            batches,
            max_tokens=40 * batches.tokens_per_step + 1,
            learning_rate=0.01,
            temperature=2.0,
            precision=torch.float32,
        )
    )
    assert len(steps) == 40
    assert steps[-1].loss < 0.8 * steps[0].loss
    assert all(torch.equal(weight, old) for weight, old in zip(teacher.parameters(), before, strict=True))
    assert not student.training


def test_without_a_next_token_to_learn_a_student_comes_closer_to_its_teacher(tokenizer, monkeypatch):
    monkeypatch.setattr(distillation, "WEIGHT", 1.0)
    teacher = tiny_model(tokenizer, num_layers=4)
    teacher.model.norm.weight.data *= 10
    student = distillation.student_of(teacher)
    student.model.norm.weight.data /= 10
    text = np.random.default_rng(0).integers(0, len(tokenizer), 200).astype(np.uint16)
    batches = distillation.mixed(text, np.empty(0, np.uint16), context=16, seed=0)
    held_out = torch.from_numpy(np.random.default_rng(1).integers(0, len(tokenizer), (4, 16)))

    def divergence():
        with torch.no_grad():
            p, q = teacher(held_out).logits.log_softmax(-1), student(held_out).logits.log_softmax(-1)
        return float(functional.kl_div(q.flatten(0, 1), p.flatten(0, 1), log_target=True, reduction="batchmean"))

    apart = divergence()
    options = {"max_tokens": 40 * batches.tokens_per_step, "learning_rate": 0.01, "temperature": 1.0}
    assert len(list(distillation.distil(student, teacher, batches, **options, precision=torch.float32))) == 40
    assert divergence() < 0.9 * apart

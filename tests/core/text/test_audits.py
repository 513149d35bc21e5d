import pytest

from pipelines import tokenization
from pipelines.core.text import audits, bpe

TEXTS = ["Lily had a red ball.", "Tom went to the park.", "What did they have? A ball."] * 5
TURN = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "A ball."}]


@pytest.fixture
def tokenizer():
    return tokenization._with_chat(bpe.train(TEXTS, 300))


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "  two  spaces ",
        "line\r\nend\n\n\n",
        "tab\there",
        "naïve café, 日本語, 🎈🧸",
        "\x00\x1f\u200b",
        "",
        "<|user|>",
    ],
)
def test_our_tokenizer_gives_back_every_text(tokenizer, text):
    assert list(audits.round_trip_errors(tokenizer, [text])) == []


def test_a_tokenizer_that_loses_case_is_caught_with_an_example(tokenizer):
    from tokenizers import normalizers

    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    assert list(audits.round_trip_errors(tokenizer, ["Lily", "tom"])) == ["'Lily' comes back as 'lily'"]


def test_the_loss_covers_exactly_the_answers_and_their_end(tokenizer):
    conversations = [TURN, [*TURN, *TURN, {"role": "user", "content": "Bye"}], [{"role": "user", "content": "Bye"}]]
    assert list(audits.mask_errors(tokenizer, conversations)) == []


@pytest.mark.parametrize("answer", ["", " leading space", "trailing \n", "日本語 🎈", "many words " * 40])
def test_the_loss_covers_awkward_answers_too(tokenizer, answer):
    assert list(audits.mask_errors(tokenizer, [[TURN[0], {"role": "assistant", "content": answer}]])) == []


def test_a_template_whose_loss_leaves_out_the_end_is_caught(tokenizer):
    tokenizer.chat_template = tokenizer.chat_template.replace(
        " + '<|endoftext|>' }}{% endgeneration %}", " }}{% endgeneration %}{{ '<|endoftext|>' }}"
    )
    assert list(audits.mask_errors(tokenizer, [TURN])) == [
        "the loss covers [' A ball.'], not [' A ball.<|endoftext|>']"
    ]


def test_a_template_whose_loss_covers_the_question_is_caught(tokenizer):
    tokenizer.chat_template = (
        "{% generation %}{% for m in messages %}{{ m['content'] }}{% endfor %}{{ '<|endoftext|>' }}{% endgeneration %}"
    )
    assert len(list(audits.mask_errors(tokenizer, [TURN, TURN]))) == 2

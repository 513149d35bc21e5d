"""Secrets are covered by shape and by value, and ordinary text is left as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.text.secrets import COVER, redact


@pytest.mark.parametrize(
    ("text", "covered"),
    [
        ("s3://key:abc@bucket/x", "s3://[secret]@bucket/x"),
        ("Authorization: Bearer abcdef123456", "Authorization: Bearer [secret]"),
        ("MY_API_KEY=abcdef123", "MY_API_KEY=[secret]"),
        ('{"db_password": "abcdef 1"}', '{"db_password": "[secret] 1"}'),
        ("token ghp_abcdefghijklmnopqrstuvwx", "token [secret]"),
        ("API_TOKENS=123abc456", "API_TOKENS=[secret]"),
        ("token=123456", "token=[secret]"),
        ("AKIAIOSFODNN7EXAMPLE", "[secret]"),
    ],
)
def test_what_looks_like_a_secret_is_covered_and_the_rest_stays(text: str, covered: str) -> None:
    assert redact(text) == covered


@pytest.mark.parametrize(
    "text",
    [
        "the tokens moved by 0.2",
        "tokenization.vocab_size is 200",
        "http://127.0.0.1:4200/api",
        "a@b, c",
        "tokens: 12",
        "num_tokens: 1200000",
        '"tokens_per_second": 9800.25, "tokens": 1.2e+09',
        "tokenizer: models/tokenizer",
    ],
)
def test_ordinary_text_is_left_as_it_is(text: str) -> None:
    assert redact(text) == text


@given(st.text(max_size=40), st.text(st.characters(exclude_categories=["C", "Z"]), min_size=6, max_size=20), st.text())
def test_a_known_value_is_covered_wherever_it_stands(before: str, value: str, after: str) -> None:
    if value not in COVER:
        assert value not in redact(before + value + after, [value]).replace(COVER, "")


@given(st.text())
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    once = redact(text)
    assert redact(once) == once

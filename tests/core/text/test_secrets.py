"""Secrets are covered by shape and by value, and ordinary text is left as it is."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.text.secrets import COVER, credentials, redact


@pytest.mark.parametrize(
    ("text", "covered"),
    [
        ("s3://key:abc@bucket/x", "s3://[secret]@bucket/x"),
        ("Authorization: Bearer abcdef123456", "Authorization: Bearer [secret]"),
        ("MY_API_KEY=abcdef123", "MY_API_KEY=[secret]"),
        ('{"db_password": "abcdef 1"}', '{"db_password": "[secret] 1"}'),
        ("token ghp_abcdefghijklmnopqrstuvwx", "token [secret]"),
        ("--password=hunter2", "--password=[secret]"),
        ("API_TOKENS=123abc456", "API_TOKENS=[secret]"),
        ("token=123456", "token=[secret]"),
        ("AKIAIOSFODNN7EXAMPLE", "[secret]"),
        ("http://me:hun@ter2@db:5000/x", "http://[secret]@db:5000/x"),
        ("Invalid url: http://me:hun/ter2@db/api", "Invalid url: http://[secret]@db/api"),
        ("http://me:hun#t?er2@db", "http://[secret]@db"),
        ("postgresql://me:a@db/x, s3://k:b@c", "postgresql://[secret]@db/x, s3://[secret]@c"),
        ("at 'http://me:hunter2/api/2.0'", "at 'http://me:[secret]/api/2.0'"),
        ("http://me:5hunter", "http://me:[secret]"),
        ("unsupported URI 'me:hunter2@db:9'", "unsupported URI 'me:[secret]@db:9'"),
        ("http://db/?token=ab&x=1", "http://db/?token=[secret]&x=1"),
        ("https://db/?a=1&sslPassword=ab c", "https://db/?a=1&sslPassword=[secret] c"),
        ("https://b.blob/x?sv=1&sig=ab%2Fc=", "https://b.blob/x?sv=1&sig=[secret]"),
        ("?to=http%3A%2F%2Fme%3Ahunter2%40db%2Fx", "?to=http%3A%2F%2F[secret]%40db%2Fx"),
        ("odbc_connect=UID%3Dme%3BPWD%3Dhunter2%3BX%3D1", "odbc_connect=UID%3Dme%3BPWD%3D[secret]%3BX%3D1"),
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
        "--num_tokens=1200000 --max-tokens 1234567",
        '"tokens_per_second": 9800.25, "tokens": 1.2e+09',
        "tokenizer: models/tokenizer",
        "http://127.0.0.1:9/api?name=moteur&max_tokens=5",
        "http://[::1]:5000/x",
        "git@github.com:owner/repo and python:3.12@sha256:ab and mailto:me@example.com",
        "sqlite:////srv/mlflow.db, see flows/cli.py:12",
        "https://hub/@owner/x",
    ],
)
def test_ordinary_text_is_left_as_it_is(text: str) -> None:
    assert redact(text) == text


@given(st.text(max_size=40), st.text(st.characters(exclude_categories=["C", "Z"]), min_size=6, max_size=20), st.text())
def test_a_known_value_is_covered_wherever_it_stands(before: str, value: str, after: str) -> None:
    if value not in COVER:
        assert value not in redact(before + value + after, [value]).replace(COVER, "")


@given(st.text(st.characters(exclude_categories=["C"]), min_size=6, max_size=20))
def test_the_password_of_an_address_is_known_in_every_form(password: str) -> None:
    known = credentials(f"postgresql://me:{password}@db/x")
    encoded = quote(password, safe="")
    assert password in known
    assert {password, encoded} <= credentials(f"postgresql://me:{encoded}@db/x")
    assert redact(f"nonnumeric port: {password}", known).count(password) == COVER.count(password)


def test_what_is_no_secret_in_an_address_is_not_known() -> None:
    assert credentials("http://127.0.0.1:4200/api") == set()
    assert credentials("https://hub/@owner/x") == set()
    assert credentials("http://db/?token=hunter2&x=1") == {"hunter2"}


@given(st.text())
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    once = redact(text)
    assert redact(once) == once

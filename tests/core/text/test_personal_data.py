import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.text.personal_data import find, is_iban, redact, suspects


@pytest.mark.parametrize(
    ("text", "kind", "part"),
    [
        ("Write to ann.lee+x@mail.example.org.", "email", "ann.lee+x@mail.example.org"),
        ("Call 626-555-1739 now", "phone", "626-555-1739"),
        ("Call (626) 555-1739", "phone", "(626) 555-1739"),
        ("Call +49 221 4710 8150!", "phone", "+49 221 4710 8150"),
        ("Tel. 0221 47108150", "phone", "0221 47108150"),
        ("Konto DE89 3704 0044 0532 0130 00 bitte", "iban", "DE89 3704 0044 0532 0130 00"),
        ("GB29NWBK60161331926819", "iban", "GB29NWBK60161331926819"),
    ],
)
def test_personal_data_are_found_where_they_stand(text: str, kind: str, part: str) -> None:
    assert [(found, text[start:end]) for found, start, end in find(text)] == [(kind, part)]


@pytest.mark.parametrize(
    "text",
    [
        "In 2021-05-26 we met at 10:30.",
        "It costs 1,000,000.00 or 1 000 000 000.",
        "Version 1.2.3.4 of 192.168.100.200",
        "DE89 3704 0044 0532 0130 01",
        "mail me @ home",
        "ISBN 978-3-16-148410-0",
        "room 12 and 34 and 56 and 78 and 90",
        "pi is 3.14159265358979",
    ],
)
def test_dates_amounts_versions_and_wrong_check_digits_are_not(text: str) -> None:
    assert find(text) == []


@pytest.mark.parametrize(
    "number",
    ["DE89370400440532013000", "GB29 NWBK 6016 1331 9268 19", "FR1420041010050500013M02606", "NO9386011117947"],
)
def test_published_examples_of_ibans_are_right(number: str) -> None:
    assert is_iban(number)


@given(st.integers(0, 21), st.sampled_from("0123456789"))
def test_one_wrong_digit_makes_an_iban_wrong(place: int, digit: str) -> None:
    good = "DE89370400440532013000"
    if place > 1 and good[place] != digit:
        assert not is_iban(good[:place] + digit + good[place + 1 :])


def test_redaction_puts_labels_and_nothing_is_left_to_find() -> None:
    text = "Ann (ann@mail.org, 626-555-1739) has DE89 3704 0044 0532 0130 00."
    clean = redact(text, find(text))
    assert clean == "Ann ([e-mail], [phone]) has [IBAN]."
    assert find(clean) == []


@given(st.text(alphabet="ab@.+-0 123456789DE()", max_size=80))
def test_redaction_of_any_text_keeps_what_was_not_found(text: str) -> None:
    spans = find(text)
    assert all(before[2] <= after[1] for before, after in itertools.pairwise(spans))
    kept = "".join(text[end:start] for end, start in zip([0, *(s[2] for s in spans)], [*(s[1] for s in spans), None]))  # noqa: B905
    clean = redact(text, spans)
    for label in ("[e-mail]", "[phone]", "[IBAN]"):
        clean = clean.replace(label, "")
    assert clean == kept


def test_texts_that_are_no_suspects_hold_no_personal_data_and_the_others_are_named() -> None:
    texts = ["no digits", "", "call 0221 123456", "a@b.example", "١٢٣٤ in other digits", "1 2 3", "12\n34"]
    assert suspects(texts) == [2, 3, 4, 6]
    assert suspects([]) == []

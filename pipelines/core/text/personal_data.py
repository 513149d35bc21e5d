"""Personal data with a clear form: e-mail addresses, telephone numbers, IBANs (checked by ISO 7064 mod 97-10)."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.core.text.words import encoded

_EMAIL: Final = re.compile(r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}(?![\w@])")
_IBAN: Final = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]{4}){2,7}(?:[ ]?[A-Z0-9]{1,3})?(?![A-Za-z0-9])")
_PHONE: Final = re.compile(
    r"(?<![\w.,/+-])(?<!\d[ ])(?:"
    r"(?:\+|00)[1-9]\d{0,2}(?:[ ./-]?\(0\))?(?:[ ./-]?\(?\d{1,5}\)?){2,6}"  # international
    r"|\(0\d{1,5}\)[ ./-]?\d{2,5}(?:[ ./-]?\d{2,5}){0,4}"  # (0221) 123456
    r"|0\d{1,5}[ ./-]\d{2,8}(?:[ ./-]?\d{2,5}){0,4}"  # national with a leading zero
    r"|(?:1[ .-])?\(?[2-9]\d{2}\)?[ .-][2-9]\d{2}[ .-]\d{4}"  # North American
    r")(?![\w])"
)
_FEW_DIGITS: Final = re.compile(r"\d\D{0,3}\d\D{0,3}\d\D{0,3}\d")
_PHONE_DIGITS: Final = range(8, 16)
_NATIONAL_DIGITS: Final = 9

LABELS: Final = {"email": "[e-mail]", "iban": "[IBAN]", "phone": "[phone]"}

Span = tuple[str, int, int]
"""Kind (a key of `LABELS`), start, end."""


def find(text: str) -> list[Span]:
    """Where `text` holds personal data, from left to right, without overlap."""
    if "@" not in text and _FEW_DIGITS.search(text) is None:
        return []
    spans = sorted(_candidates(text), key=lambda span: (span[1], -span[2]))
    kept: list[Span] = []
    for span in spans:
        if not kept or span[1] >= kept[-1][2]:
            kept.append(span)
    return kept


def suspects(texts: Sequence[str]) -> list[int]:
    """Indices of the texts that may hold personal data; the others hold none."""
    data, sizes_N = encoded(texts)
    bytes_B = np.frombuffer(data, dtype=np.uint8)
    ends_N = np.cumsum(sizes_N + 1)

    def counts(wanted_B: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(np.searchsorted(ends_N, np.flatnonzero(wanted_B), side="right"), minlength=len(texts))

    few_digits = counts((bytes_B - np.uint8(ord("0"))) < 10) >= 4
    suspect_N = few_digits | (counts(bytes_B == ord("@")) > 0)
    if not data.isascii():  # other scripts have digits of their own
        suspect_N |= counts(bytes_B >= 0x80) > 0
    return np.flatnonzero(suspect_N).tolist()


def _candidates(text: str) -> Iterator[Span]:
    if "@" in text:
        yield from (("email", *match.span()) for match in _EMAIL.finditer(text))
    if _FEW_DIGITS.search(text) is None:
        return
    yield from (("iban", *match.span()) for match in _IBAN.finditer(text) if is_iban(match[0]))
    yield from (("phone", *match.span()) for match in _PHONE.finditer(text) if _is_phone(match[0]))


def is_iban(text: str) -> bool:
    """Whether the check digits of an IBAN are right (ISO 13616): moved to the end, the number is 1 modulo 97."""
    plain = text.replace(" ", "")
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(character, 36)) for character in plain[4:] + plain[:4])) % 97 == 1


def _is_phone(text: str) -> bool:
    digits = sum(character.isdigit() for character in text)
    return digits in _PHONE_DIGITS and (text.startswith("+") or digits >= _NATIONAL_DIGITS)


def redact(text: str, spans: list[Span]) -> str:
    """Put a label such as `[phone]` in the place of each span."""
    parts, end = [], 0
    for kind, start, stop in spans:
        parts += [text[end:start], LABELS[kind]]
        end = stop
    return "".join([*parts, text[end:]])

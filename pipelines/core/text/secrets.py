"""Secrets in text that is about to be logged, sent or kept: found by their shape or by their value, and covered."""

import re
from collections.abc import Collection
from urllib.parse import quote, unquote

COVER = "[secret]"

SHORTEST = 6
"""A known value below this length is left: it would cover ordinary words ("true", "8080")."""

_KEYS = (
    r"(?:[\w.-]*(?:passw(?:or)?d|passphrase|pwd|pass|secret|token(?!s)|api[_-]?key|access[_-]?key|credential|signature)"
    r"[\w.-]*|pw|sig|auth)"
)
"""Parameters of an address that are secret whatever their length; rather one too many than one too few."""

_SHAPES = [
    # user:password@ and token@ of a URL; the last @ counts, for people do not encode the @, / and # of their passwords
    re.compile(
        r"(?P<before>//)(?P<secret>[^\s/?#\"':]*:(?:(?!//)[^\s\"'])*|[^\s/\"']+)(?P<after>@)",
        re.IGNORECASE,
    ),
    # the same, encoded as a part of another address
    re.compile(
        r"(?P<before>%3A%2F%2F)(?P<secret>(?:(?!%3A%2F%2F)[^\s\"'&])+)(?P<after>%40)",
        re.IGNORECASE,
    ),
    # what stands where a port should be, and is none: a password that was cut off
    re.compile(
        r"(?P<before>//[^\s/?#@:\"'\[\]]+:)(?P<secret>(?!\d{1,5}(?!\w))[^\s\"'/?#,;)\]]+)(?P<after>)",
        re.IGNORECASE,
    ),
    # user:password@host without a scheme
    re.compile(
        r"(?P<before>(?<![\w/.%+-])(?!mailto:)[\w.%+-]+:)(?P<secret>[^\s:/@\"'\[\]]+)(?P<after>@(?!sha256:)[\w\[])",
        re.IGNORECASE,
    ),
    # ?password=... in an address, plain or encoded
    re.compile(rf"(?P<before>[?&;]{_KEYS}=)(?P<secret>[^\s\"'&;#)]+)(?P<after>)", re.IGNORECASE),
    re.compile(
        rf"(?P<before>(?:%3F|%26|%3B){_KEYS}%3D)(?P<secret>(?:(?!%26|%3B)[^\s\"'&])+)(?P<after>)",
        re.IGNORECASE,
    ),
    # the credentials of an HTTP header
    re.compile(r"(?P<before>\b(?:bearer|basic)\s+)(?P<secret>[A-Za-z0-9._~+/=-]{8,})(?P<after>)", re.IGNORECASE),
    # api_key=..., "password": "...", token: ...; a count of tokens is no secret
    re.compile(
        r"(?P<before>(?<![\w-])(?![\w-]*tokens\w*[\"']?\s*[=:]\s*[\"']?[\d.]+(?:e[+-]?\d+)?(?![\w+/.-]))"
        r"[\w-]*(?:passw(?:or)?d|passphrase|secret|api[_-]?key|access[_-]?key|token(?!i[sz])|credential)[\w-]*[\"']?"
        r"\s*[=:]\s*[\"']?)(?P<secret>(?!\[secret\])[^\s\"'&,;}{)(]{6,})(?P<after>)",
        re.IGNORECASE,
    ),
    # keys that are known by their first letters: AWS, GitHub, GitLab, Slack, OpenAI, Hugging Face
    re.compile(
        r"(?P<before>)(?P<secret>\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{20,}|\bglpat-[\w-]{16,}"
        r"|\bxox[abprs]-[\w-]{10,}|\bsk-[\w-]{16,}|\bhf_[A-Za-z0-9]{20,})(?P<after>)"
    ),
    # the paths of incoming webhooks are their whole secret
    re.compile(
        r"(?P<before>\bhooks\.slack\.com/services/|\bdiscord(?:app)?\.com/api/webhooks/)(?P<secret>[\w/-]+)(?P<after>)"
    ),
]


def credentials(url: str) -> set[str]:
    """What is secret in an address: as it is written there, decoded, and encoded, for errors quote any of these."""
    before = (url.partition("://")[2] or url).rpartition("@")[0]
    user, colon, password = before.partition(":")
    found = {match[1] for match in re.finditer(rf"[?&;]{_KEYS}=([^&;#]+)", url, re.IGNORECASE)}
    if colon or "/" not in user:  # else the @ belongs to a path
        found |= {before, password, *re.split(r"[:/@?#]", password)}
    return {form for one in found for form in (one, unquote(one), quote(one, safe=""))} - {""}


def redact(text: str, known: Collection[str] = ()) -> str:
    """`text` with everything that is, or looks like, a secret covered.

    Args:
        text: Anything.
        known: Values that must not appear, wherever they stand; those below `SHORTEST` characters are left.

    Redacting twice changes nothing more.
    """
    for value in sorted((value for value in set(known) if len(value) >= SHORTEST), key=len, reverse=True):
        text = text.replace(value, COVER)
    for shape in _SHAPES:
        text = shape.sub(lambda found: f"{found['before']}{COVER}{found['after']}", text)
    return text

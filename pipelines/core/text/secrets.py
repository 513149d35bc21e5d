"""Secrets in text that is about to be logged, sent or kept: found by their shape or by their value, and covered."""

import re
from collections.abc import Collection

COVER = "[secret]"

SHORTEST = 6
"""A known value below this length is left: it would cover ordinary words ("true", "8080")."""

_SHAPES = [
    # user:password@ and token@ of a URL
    re.compile(r"(?P<before>[a-z][a-z0-9+.-]*://)(?P<secret>[^\s/@\"']+)(?P<after>@)", re.IGNORECASE),
    # the credentials of an HTTP header
    re.compile(r"(?P<before>\b(?:bearer|basic)\s+)(?P<secret>[A-Za-z0-9._~+/=-]{8,})(?P<after>)", re.IGNORECASE),
    # api_key=..., "password": "...", token: ...
    re.compile(
        r"(?P<before>\b(?!\w*tokens\w*[\"']?\s*[=:]\s*[\"']?[\d.]+(?:e[+-]?\d+)?(?![\w+/.-]))"  # a count is no secret
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

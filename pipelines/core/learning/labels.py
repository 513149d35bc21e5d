"""Labels as people and their tools write them, made into lines of the one schema of `data/feedback`.

Four forms: rankings `{prompt, responses, ranks}`, ratings `{prompt, response, score}`, choices `{prompt, chosen,
rejected}` and `{prompt, response_a, response_b, choice}`; each with an annotator, and with an id or without.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.core.learning.preferences import Rank, Ranking, Rating

FORMS = {
    "ranking": ("responses", "ranks"),
    "rating": ("response", "score"),
    "choice": ("chosen", "rejected"),
    "pairwise choice": ("response_a", "response_b", "choice"),
}
"""Form -> the fields by which it is known."""

KEPT = ("id", "prompt", "annotator", "kind", "instructions")
"""Fields that every form may have; others than these and those of the form are left behind."""

TEXTS = frozenset({"response", "chosen", "rejected", "response_a", "response_b"})
"""Fields in which a text that is empty is a response that is empty."""

CHOICES: dict[str, list[int | None]] = {"a": [1, 2], "b": [2, 1], "tie": [1, 1], "both_bad": [None, None]}

FAILED = "F"


def line(value: Any) -> dict[str, Any] | None:
    """A label as a line of the schema, not yet checked; None where its ranks, score or choice are still to be given.

    Raises:
        ValueError: it is of no form, or of two.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"a {type(value).__name__} instead of an object")
    forms = [form for form, fields in FORMS.items() if any(field in value for field in fields)]
    if len(forms) != 1:
        raise ValueError(
            f"fields of {' and '.join(forms) or 'no form'}: those of one are needed, of"
            f" {'; '.join(map(', '.join, FORMS.values()))}"
        )
    kept = {field: value[field] for field in KEPT if value.get(field) not in (None, "")}
    kept |= {field: str(kept[field]) for field in ("id", "annotator") if type(kept.get(field)) is int}
    match forms[0]:
        case "ranking":
            made = {"responses": value.get("responses"), "ranks": _ranks(value.get("ranks"))}
        case "rating":
            if value.get("score") in (None, ""):
                return None
            made = {"response": value.get("response"), "score": _score(value["score"])}
        case "choice":
            if value.get("chosen") == value.get("rejected"):
                raise ValueError("chosen and rejected are the same text")
            made = {"responses": [value.get("chosen"), value.get("rejected")], "ranks": [1, 2]}
        case _:
            made = {"responses": [value.get("response_a"), value.get("response_b")], "ranks": _choice(value)}
    return None if "ranks" in made and made["ranks"] is None else {**kept, **made}


def _ranks(ranks: Any) -> Any:
    if ranks is None or ranks in ("", []):
        return None
    return [None if _is_failed(rank) else rank for rank in ranks] if isinstance(ranks, list) else ranks


def _score(score: Any) -> Any:
    return None if _is_failed(score) else score


def _is_failed(value: Any) -> bool:
    return isinstance(value, str) and value.strip().upper() == FAILED


def _choice(value: Mapping[str, Any]) -> list[int | None] | None:
    choice = value.get("choice")
    if choice is None or choice == "":
        return None
    if not isinstance(choice, str) or choice.strip().lower() not in CHOICES:
        raise ValueError(f"choice is {choice!r}: one of {', '.join(CHOICES)} is needed")
    return CHOICES[choice.strip().lower()]


def from_cells(cells: Mapping[str, str]) -> dict[str, Any]:
    """A row of a table as a label: an empty cell is a field that is not there.

    Args:
        cells: By column. Responses are a JSON list; ranks are one too, or numbers and F with spaces or commas between.

    Raises:
        ValueError: a cell cannot be read.
    """
    value: dict[str, Any] = {name: cell for name, cell in cells.items() if cell.strip() or name in TEXTS}
    if "responses" in value:
        value["responses"] = _json("responses", value["responses"])
    if "ranks" in value:
        text = value["ranks"].strip()
        value["ranks"] = _json("ranks", text) if text.startswith("[") else [*map(_rank, text.replace(",", " ").split())]
    if "score" in value:
        value["score"] = _number(value["score"].strip())
    return value


def _json(name: str, cell: str) -> Any:
    try:
        return json.loads(cell)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not a JSON list: {error}") from None


def _rank(word: str) -> int | str:
    return int(word) if word.isascii() and word.isdigit() and len(word) < 10 else word.upper()


def _number(word: str) -> float | str:
    if _is_failed(word):
        return FAILED
    try:
        number = float(word)
    except ValueError:
        return word
    return int(number) if math.isfinite(number) and number.is_integer() else number


def subject(record: Ranking | Rating) -> str:
    """Hex digest of who labelled which responses, whatever was said: one annotator labels them once."""
    said: list[Any]
    if isinstance(record, Rating):
        said = ["rating", record.prompt, record.annotator, record.response]
    else:
        said = ["ranking", record.prompt, record.annotator, sorted(record.responses)]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def dense(ranks: Sequence[Rank]) -> list[Rank]:
    """The same order without gaps: 1, 1, 3 and 2, 2, 5 are 1, 1, 2."""
    order = sorted({rank for rank in ranks if rank is not None})
    return [None if rank is None else order.index(rank) + 1 for rank in ranks]


def content(record: Ranking | Rating) -> str:
    """Hex digest of who said what about which responses: the same for the same label, in whatever form it came.

    Of ranks the order counts alone.
    """
    said: list[Any]
    if isinstance(record, Rating):
        said = ["rating", record.prompt, record.annotator, record.response, record.score]
    else:
        both = zip(record.responses, dense(record.ranks), strict=True)
        said = ["ranking", record.prompt, record.annotator, sorted(both, key=lambda one: (one[0], one[1] or 0))]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()

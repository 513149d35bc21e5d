"""The contract of the records: which fields each kind holds, and how a row of a source becomes a record."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

Record = dict[str, Any]


@dataclass(frozen=True)
class Contract:
    """What a record of one kind holds, `id` and `source` aside."""

    texts: tuple[str, ...]
    """Fields with text, in the order of the record."""
    content: tuple[str, ...]
    """Those that a model reads, in the order in which it does."""
    optional: tuple[str, ...] = ()
    """Further fields that a source may give."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Every field that a source may give."""
        return ("id", *self.texts, *self.optional, "source")


CONTRACTS: Final[Mapping[str, Contract]] = {
    "corpus": Contract(texts=("text",), content=("text",)),
    "instructions": Contract(
        texts=("task", "context", "prompt", "completion"),
        content=("context", "prompt", "completion"),
        optional=("references", "gold"),
    ),
    "preferences": Contract(
        texts=("prompt", "chosen", "rejected"), content=("prompt", "chosen", "rejected"), optional=("ranking_id",)
    ),
}
"""By kind of record. The text `context` may be missing; every other one must be there."""


class UnfitError(ValueError):
    """A row does not meet the contract: `reason` is one of few phrases, `detail` says which field and value."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def conform(
    kind: str,
    row: Mapping[str, Any],
    *,
    columns: Mapping[str, str],
    constants: Mapping[str, str],
    source: str,
) -> Record:
    """Make a record of `kind` from a row: rename columns, fill constants, check types, normalise line ends.

    Args:
        kind: A key of `CONTRACTS`.
        row: The values of the source, by column.
        columns: Field -> column, where the names differ.
        constants: Field -> value of every record.
        source: What the field `source` says where neither column nor constant gives it.

    Returns:
        The record. A missing or empty id is made from the content, so that the same content has the same id.

    Raises:
        UnfitError: a field is missing or of the wrong type, or a text holds what no text may hold.
    """
    contract = CONTRACTS[kind]
    given = {name: constants.get(name, row.get(columns.get(name, name))) for name in contract.fields}
    record: Record = {"id": _identifier(given["id"])}
    for name in contract.texts:
        value = "" if name == "context" and given[name] is None else _required(name, given[name], columns)
        record[name] = _text(name, value)
    if kind == "instructions":
        record |= _extras(given)
    record["id"] = record["id"] or content_id(record)
    if kind == "preferences":
        ranking = _identifier(given["ranking_id"])
        record["ranking_id"] = ranking or record["id"]
    record["source"] = _text("source", given["source"]) if given["source"] is not None else source
    return record


def _required(name: str, value: Any, columns: Mapping[str, str]) -> Any:
    if value is None:
        raise UnfitError("field missing", f"{columns.get(name, name)} (the field {name!r} of our records)")
    return value


def _identifier(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text("id", value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise UnfitError("field of wrong type", f"{name} is a {type(value).__name__} ({value!r:.60}), not a string")
    if "\0" in value:
        raise UnfitError("NUL character", f"in {name}")
    if "\r\n" in value:
        return _text(name, value.replace("\r\n", "\n"))
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise UnfitError("not UTF-8", f"{name} holds a lone surrogate, which is no character") from None
    return value


def _extras(given: Mapping[str, Any]) -> Record:
    extras: Record = {}
    references, gold = given["references"], given["gold"]
    if references is not None:
        if not isinstance(references, list):
            raise UnfitError("field of wrong type", f"references is a {type(references).__name__}, not a list")
        extras["references"] = [_text("references", item) for item in references]
    if gold is not None:
        if not isinstance(gold, dict):
            raise UnfitError("field of wrong type", f"gold is a {type(gold).__name__}, not an object")
        _check_json(gold)
        extras["gold"] = gold
    return extras


def _check_json(gold: Record) -> None:
    try:
        json.dumps(gold, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise UnfitError("field of wrong type", f"gold is not JSON ({error})") from None


def content_id(record: Mapping[str, Any]) -> str:
    """An id that depends on the content alone: 16 hexadecimal digits."""
    content = {name: value for name, value in record.items() if name not in ("id", "source", "ranking_id")}
    text = json.dumps(content, sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def grouping_key(kind: str, record: Mapping[str, Any]) -> str:
    """What keeps records together when splits are drawn: the text, the story asked about, the prompt."""
    if kind == "corpus":
        return str(record["text"])
    if kind == "instructions":
        return str(record["context"] or record["prompt"])
    return str(record["prompt"])


def drawn_split(key: str, share: float, lacking: frozenset[str]) -> str:
    """The split of a record whose splits in `lacking` have no sources of their own.

    The draw depends on the key alone: a record that was once held out stays held out, whatever else is added.

    Args:
        key: From `grouping_key`.
        share: Of the records for each split in `lacking`, below one half.
        lacking: Some of "valid" and "test".
    """
    place = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") / 2**64
    if place < share:
        return "valid" if "valid" in lacking else "train"
    if place < 2 * share:
        return "test" if "test" in lacking else "train"
    return "train"

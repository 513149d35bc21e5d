"""Rankings and ratings that people wrote, one JSON object a line, in `data/feedback/*.jsonl`."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.core.learning.preferences import Ranking, Rating, from_ratings
from pipelines.errors import DataError

KINDS = ("human", "constitution", "simulated")
SHOWN = 3
"""Bad lines that an error quotes."""


@dataclass(frozen=True, kw_only=True)
class Reject:
    """A line that could not be used."""

    file: str
    line: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Feedback:
    """What a folder holds."""

    rankings: list[Ranking]
    """Ratings turned into rankings included."""
    rejects: list[Reject]
    num_lines: int
    num_lone_ratings: int
    """Ratings of the only response that their annotator rated for the prompt: nothing to compare with."""


def load(folder: Path, *, max_bad_line_share: float) -> Feedback:
    """Read every `*.jsonl` of the folder, in the order of the names; a missing folder is an empty one.

    Raises:
        DataError: when a greater share of the lines than `max_bad_line_share` cannot be used; names the first three.
    """
    rankings: list[Ranking] = []
    ratings: list[Rating] = []
    rejects: list[Reject] = []
    seen: set[str] = set()
    count = 0
    for file, number, line in _lines(folder):
        count += 1
        try:
            record = _ranking_or_rating(line, seen)
        except ValueError as error:
            rejects.append(Reject(file=file, line=number, reason=str(error)))
            continue
        if isinstance(record, Ranking):
            rankings.append(record)
        else:
            ratings.append(record)
    if len(rejects) > max_bad_line_share * count:
        raise DataError(_sentence(rejects, count, max_bad_line_share))
    from_rated, alone = from_ratings(ratings, kind="human")
    return Feedback(rankings=rankings + from_rated, rejects=rejects, num_lines=count, num_lone_ratings=alone)


def _lines(folder: Path) -> Iterator[tuple[str, int, bytes]]:
    for path in sorted(folder.glob("*.jsonl")):
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield path.as_posix(), number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


def _sentence(rejects: list[Reject], count: int, limit: float) -> str:
    shown = "".join(f"\n  {reject.file}:{reject.line}: {reject.reason}" for reject in rejects[:SHOWN])
    return (
        f"{len(rejects)} of {count} lines of feedback by people cannot be used, more than feedback.max_bad_line_share"
        f" ({limit:g}) in params.yaml allows:{shown}\nCorrect the lines, remove them, or raise the limit."
    )


def _ranking_or_rating(line: bytes, seen: set[str]) -> Ranking | Rating:
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason} at byte {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"a {type(value).__name__} instead of an object")
    name = _text(value, "id")
    if name in seen:
        raise ValueError(f"id {name!r} occurred before: give each line an id of its own")
    record = _rating(value) if "score" in value else _ranking(value, name)
    seen.add(name)
    return record


def _text(value: dict[str, Any], key: str) -> str:
    text = value.get(key)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{key} is {text!r}: a text that is not empty is needed")
    return text


def _rating(value: dict[str, Any]) -> Rating:
    score = value["score"]
    if not (score is None or (type(score) in (int, float) and abs(score) < math.inf)):
        raise ValueError(f"score is {score!r}: a number is needed, or null for a failed response")
    if not isinstance(value.get("response"), str):
        raise ValueError(f"response is {value.get('response')!r}: a text is needed")
    return Rating(
        prompt=_text(value, "prompt"), response=value["response"], score=score, annotator=_text(value, "annotator")
    )


def _ranking(value: dict[str, Any], name: str) -> Ranking:
    responses, ranks = value.get("responses"), value.get("ranks")
    if not isinstance(responses, list) or not all(isinstance(text, str) for text in responses) or len(responses) < 2:
        raise ValueError("responses must be a list of at least two texts")
    if not isinstance(ranks, list) or not all(rank is None or type(rank) is int for rank in ranks):
        raise ValueError(f"ranks is {ranks!r}: a list of whole numbers is needed, or null for a failed response")
    if len(ranks) != len(responses):
        raise ValueError(f"{len(responses)} responses but {len(ranks)} ranks")
    kind = value.get("kind", "human")
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}: one of {', '.join(KINDS)} is needed")
    return Ranking(
        id=name,
        prompt=_text(value, "prompt"),
        responses=tuple(responses),
        ranks=tuple(ranks),
        annotator=_text(value, "annotator"),
        kind=kind,
    )

"""Rankings and ratings that people wrote, one JSON object a line, in `data/feedback/*.jsonl`."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.core.learning import labels
from pipelines.core.learning.preferences import Ranking, Rating, from_ratings
from pipelines.errors import DataError

KINDS = ("human", "constitution", "simulated")
SHA256 = re.compile("[0-9a-f]{64}")
SHOWN = 3
"""Bad lines that an error quotes."""


@dataclass(frozen=True, kw_only=True)
class Reject:
    """A line that could not be used."""

    file: str
    line: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line that can be used."""

    file: str
    line: int
    id: str
    record: Ranking | Rating
    repeated: bool
    """Whether an earlier line says the same, by another id."""


@dataclass(frozen=True, kw_only=True)
class Feedback:
    """What a folder holds."""

    rankings: list[Ranking]
    """Ratings turned into rankings included."""
    rejects: list[Reject]
    num_lines: int
    num_lone_ratings: int
    """Ratings of the only response that their annotator rated for the prompt: nothing to compare with."""
    num_repeated: int
    """Lines that say what an earlier one says, by another id; left out."""
    annotators: frozenset[str]
    """Who wrote the lines that can be used."""


def load(folder: Path, *, max_bad_line_share: float) -> Feedback:
    """Read every `*.jsonl` of the folder, in the order of the names; a missing folder is an empty one.

    Raises:
        DataError: when a greater share of the lines than `max_bad_line_share` cannot be used; names the first three.
    """
    rankings: list[Ranking] = []
    ratings: list[Rating] = []
    rejects: list[Reject] = []
    names: set[str] = set()
    count = repeated = 0
    for line in read(folder):
        count += 1
        if isinstance(line, Reject):
            rejects.append(line)
            continue
        names.add(line.record.annotator)
        if line.repeated:
            repeated += 1
        elif isinstance(line.record, Ranking):
            rankings.append(line.record)
        else:
            ratings.append(line.record)
    limit(rejects, count, max_bad_line_share)
    from_rated, alone = from_ratings(ratings, kind="human")
    return Feedback(
        rankings=rankings + from_rated,
        rejects=rejects,
        num_lines=count,
        num_lone_ratings=alone,
        num_repeated=repeated,
        annotators=frozenset(names),
    )


def read(folder: Path) -> Iterator[Line | Reject]:
    """Every line of every `*.jsonl` of the folder, in the order of the names."""
    seen: set[str] = set()
    said: dict[str, tuple[str, str]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in lines(path):
            try:
                value = decoded(line)
                record = conform(value)
                if value["id"] in seen:
                    raise ValueError(f"id {value['id']!r} occurred before: give each line an id of its own")
                here = (labels.content(record), f"{path}:{number}")
                before, where = said.setdefault(labels.subject(record), here)
                if before != here[0]:
                    raise ValueError(contradiction(record, where))
            except ValueError as error:
                yield Reject(file=path.as_posix(), line=number, reason=str(error))
                continue
            seen.add(value["id"])
            repeated = where != here[1]
            yield Line(file=path.as_posix(), line=number, id=value["id"], record=record, repeated=repeated)


def contradiction(record: Ranking | Rating, where: str) -> str:
    """Why a label cannot stand beside that at `where`, which says something else."""
    what = "these responses" if isinstance(record, Ranking) else "this response"
    return f"{record.annotator!r} labelled {what} otherwise, {where}: keep one of both"


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers; a byte order mark is left out."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


def limit(rejects: Sequence[Reject], count: int, share: float) -> None:
    """Let no greater share than `share` of `count` lines be rejects.

    Raises:
        DataError: names the first three.
    """
    if len(rejects) > share * count:
        shown = "".join(f"\n  {reject.file}:{reject.line}: {reject.reason}" for reject in rejects[:SHOWN])
        raise DataError(
            f"{len(rejects)} of {count} lines of feedback by people cannot be used, more than"
            f" feedback.max_bad_line_share ({share:g}) in params.yaml allows:{shown}\nCorrect the lines, remove them,"
            " or raise the limit."
        )


def decoded(line: bytes) -> Any:
    """What the JSON of a line says.

    Raises:
        ValueError: it is no JSON in UTF-8.
    """
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason} at byte {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None


def conform(value: Any) -> Ranking | Rating:
    """A line as the schema has it.

    Raises:
        ValueError: says in what it differs from the schema.
    """
    if not isinstance(value, dict):
        raise ValueError(f"a {type(value).__name__} instead of an object")
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("half a character, a lone surrogate, which no file of text may hold") from None
    name = _text(value, "id")
    return _rating(value) if "score" in value else _ranking(value, name)


def _text(value: dict[str, Any], key: str) -> str:
    text = value.get(key)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{key} is {text!r}: a text that is not empty is needed")
    return _one_way(text)


def _one_way(text: str) -> str:
    r"""Lines ended as ingestion ends them: a spreadsheet's \r\n would make another prompt of the same one."""
    return text.replace("\r\n", "\n")


def _instructions(value: dict[str, Any]) -> str | None:
    digest = value.get("instructions")
    if not (digest is None or (isinstance(digest, str) and SHA256.fullmatch(digest))):
        raise ValueError(f"instructions is {digest!r}: the sha256 of the labelling instructions is needed, or null")
    return digest


def _rating(value: dict[str, Any]) -> Rating:
    score = value["score"]
    if not (score is None or (type(score) in (int, float) and abs(score) < math.inf)):
        raise ValueError(f"score is {score!r}: a number is needed, or null for a failed response")
    if not isinstance(value.get("response"), str):
        raise ValueError(f"response is {value.get('response')!r}: a text is needed")
    return Rating(
        prompt=_text(value, "prompt"),
        response=_one_way(value["response"]),
        score=score,
        annotator=_text(value, "annotator"),
        instructions=_instructions(value),
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
        responses=tuple(map(_one_way, responses)),
        ranks=tuple(ranks),
        annotator=_text(value, "annotator"),
        kind=kind,
        instructions=_instructions(value),
    )

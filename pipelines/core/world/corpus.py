"""The corpus "tales": documents and instructions, by a URI that says which.

Story i of a split depends on the seed, the season, the split and i alone. The fact signature of a story (both names,
the thing, the place) decides its split, so no story of one split can occur in another.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from pipelines.core.world.lexicon import SEASONS
from pipelines.core.world.narration import narrate
from pipelines.core.world.notes import write_note
from pipelines.core.world.simulation import Story, simulate
from pipelines.core.world.tasks import LABEL_RULES, Instruction, instructions, questions

FORMATS: Final = ("plain", "upper", "script")
"""`plain` prose; `upper`: all in capitals; `script`: a sentence a line, speech as "LILY: ..."."""

SPLITS: Final = ("train", "valid", "test")
_BUCKETS: Final = {"train": frozenset(range(8)), "valid": frozenset((8,)), "test": frozenset((9,))}


@dataclass(frozen=True)
class Document:
    """One document of the corpus. `source` is "tales/story", "tales/notes" or "tales/reading"."""

    id: str
    text: str
    source: str


@dataclass(frozen=True)
class TalesSource:
    """Which tales to generate.

    Attributes:
        stories: Documents in the train split, where no count is given.
        seed: Another seed, another corpus.
        season: A key of `SEASONS`; anything but "home" is drift.
        format: One of `FORMATS`; anything but "plain" is drift.
        labels: One of `LABEL_RULES`; "swapped" is drift of the label rule.
        notes: Share of documents that are notes, in [0, 1].
        reading_share: Share of documents that are a story followed by questions and answers, in [0, 1].
    """

    stories: int = 20_000
    seed: int = 7
    season: str = "home"
    format: str = "plain"
    labels: str = "standard"
    notes: float = 0.25
    reading_share: float = 0.0

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ValueError: Names the key, the value and what is permitted.
        """
        _check("stories", self.stories, self.stories >= 1, "a whole number of at least 1")
        _check("seed", self.seed, self.seed >= 0, "a whole number of at least 0")
        _check("season", self.season, self.season in SEASONS, "one of " + ", ".join(SEASONS))
        _check("format", self.format, self.format in FORMATS, "one of " + ", ".join(FORMATS))
        _check("labels", self.labels, self.labels in LABEL_RULES, "one of " + ", ".join(LABEL_RULES))
        for key, share in (("notes", self.notes), ("reading_share", self.reading_share)):
            _check(key, share, 0 <= share <= 1, "a share between 0 and 1")
        both = self.notes + self.reading_share
        _check("notes + reading_share", both, both <= 1, "at most 1 together")

    @classmethod
    def parse(cls, uri: str) -> TalesSource:
        """Read a URI such as `tales://?stories=20000&seed=7&season=home`; what is missing keeps its default.

        Args:
            uri: The URI.

        Raises:
            ValueError: Another scheme, an unknown or repeated key, or a bad value; the message names what is permitted.
        """
        parts = urlsplit(uri)
        if parts.scheme != "tales" or parts.netloc or parts.path not in ("", "/"):
            raise ValueError(f"{uri!r} is no tales source: write tales://?key=value&..., keys {_keys()}")
        given: dict[str, Any] = {}
        for key, value in parse_qsl(parts.query, keep_blank_values=True):
            if key not in _READERS:
                raise ValueError(f"unknown key {key!r} (value {value!r}) in {uri!r}: permitted are {_keys()}")
            if key in given:
                raise ValueError(f"key {key!r} occurs twice in {uri!r}: give it once")
            read, permitted = _READERS[key]
            try:
                given[key] = read(value)
            except ValueError:
                raise ValueError(f"{key} is {value!r} in {uri!r}: permitted is {permitted}") from None
        return replace(cls(), **given)

    @property
    def uri(self) -> str:
        """The URI that parses to this source."""
        return "tales://?" + "&".join(f"{field.name}={getattr(self, field.name)}" for field in fields(self))


_READERS: Final[dict[str, tuple[Callable[[str], Any], str]]] = {
    "stories": (int, "a whole number of at least 1"),
    "seed": (int, "a whole number of at least 0"),
    "season": (str, "one of " + ", ".join(SEASONS)),
    "format": (str, "one of " + ", ".join(FORMATS)),
    "labels": (str, "one of " + ", ".join(LABEL_RULES)),
    "notes": (float, "a share between 0 and 1"),
    "reading_share": (float, "a share between 0 and 1"),
}


def _keys() -> str:
    return ", ".join(_READERS)


def _check(key: str, value: object, good: bool, permitted: str) -> None:
    if not good:
        raise ValueError(f"{key} is {value!r}: permitted is {permitted}")


def _admits(split: str) -> Callable[[str], bool]:
    """The test whether a fact signature belongs to a split: eight tenths train, one valid, one test."""
    if split not in _BUCKETS:
        raise ValueError(f"split is {split!r}: permitted is one of {', '.join(SPLITS)}")
    buckets = _BUCKETS[split]
    return lambda signature: zlib.crc32(signature.encode()) % 10 in buckets


def _rng(source: TalesSource, stream: str, split: str, index: int) -> random.Random:
    return random.Random(f"{source.seed}:{source.season}:{stream}:{split}:{index}")


def _dress(source: TalesSource, text: str) -> str:
    return text.upper() if source.format == "upper" else text


def _tell(source: TalesSource, rng: random.Random, admits: Callable[[str], bool]) -> tuple[Story, str]:
    story = simulate(rng, source.season, admits)
    return story, narrate(story, rng, script=source.format == "script")


def documents(source: TalesSource, split: str, count: int | None = None) -> Iterator[Document]:
    """Generate the documents of a split, in order.

    Args:
        source: Which tales.
        split: One of `SPLITS`.
        count: How many; `source.stories` where None.

    Raises:
        ValueError: The split is unknown.
    """
    admits = _admits(split)
    prefix = f"tales-{source.season}-{source.seed}-{split}"
    for index in range(source.stories if count is None else count):
        rng = _rng(source, "documents", split, index)
        dice = rng.random()
        if dice < source.notes:
            text, kind = write_note(rng, source.season, admits, script=source.format == "script"), "notes"
        else:
            story, text = _tell(source, rng, admits)
            kind = "story"
            if dice < source.notes + source.reading_share:
                asked = questions(story, text, rng)[:4]
                text = "\n".join([text, *(f"Question: {q.text} Answer: {q.answer}" for q in asked)])
                kind = "reading"
        yield Document(f"{prefix}-{index}", _dress(source, text), f"tales/{kind}")


def instruction_records(source: TalesSource, split: str, count: int) -> Iterator[Instruction]:
    """Generate the instructions about `count` stories of a split, story by story.

    The stories are others than those of `documents`, of the same split.

    Args:
        source: Which tales; `labels` and `format` count here.
        split: One of `SPLITS`.
        count: Number of stories; each gives seven to nine questions, its mood in two wordings and one or two further
            tasks.

    Raises:
        ValueError: The split is unknown.
    """
    admits = _admits(split)
    for index in range(count):
        rng = _rng(source, "instructions", split, index)
        story, text = _tell(source, rng, admits)
        prefix = f"tales-{source.season}-{source.seed}-{split}-i{index}"
        for record in instructions(story, text, rng, prefix, source.labels):
            if source.format != "upper":
                yield record
            else:
                completion = record.completion if record.task == "mood" else record.completion.upper()
                yield replace(record, context=record.context.upper(), completion=completion)

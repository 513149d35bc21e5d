"""A batch of data as documents, read as ingestion reads sources."""

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pipelines.adapters import references, sources
from pipelines.core.text.lines import Bad, Good
from pipelines.core.text.prompts import user_text
from pipelines.core.text.records import UnfitError, conform, grouping_key
from pipelines.errors import DataError
from pipelines.params import Ingestion, Source

MOST_READ = 200_000
"""Rows after which a batch is cut off, and its name says so: what drift needs is a sample."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The documents of a batch, in its order."""

    name: str
    texts: list[str]
    faults: Counter[str]
    """Reason -> rows that are no record."""

    @property
    def bad_share(self) -> float:
        """Of all rows."""
        rows = len(self.texts) + self.faults.total()
        return self.faults.total() / rows if rows else 0.0


def read(uri: str, kind: str, settings: Ingestion) -> Batch:
    """Read the documents behind a URI or path of any form that ingestion knows.

    Args:
        uri: `tales://?season=sea`, a file (.txt, .jsonl, .parquet, .gz, .zst) or glob, `hf://...`, any fsspec URL.
        kind: corpus, or requests: instruction records, of which one prompt about each text is taken, drawn as the
            release's reference draws it: the first would often be of one kind.
        settings: The limits on lines.

    Raises:
        DataError: nothing is there, or it cannot be read.
        ParamsError: a wrong `tales://` URI.
    """
    root, name = (Path(), uri) if "://" in uri else _placed(uri)
    records = "corpus" if kind == "corpus" else "instructions"
    source = Source(uri=name)
    inputs = sources.resolve(source, records, "train", root, settings.max_line_bytes, option="--data")
    faults: Counter[str] = Counter()
    texts: dict[str, tuple[bytes, str]] = {}
    rows = ((row, one.name) for one in inputs for row in one.rows())
    for number, (row, source_name) in enumerate(itertools.islice(rows, MOST_READ)):
        text = _document(records, row, source_name)
        if isinstance(text, UnfitError):
            faults[text.reason] += 1
        else:
            group, mark = text.group or str(number), references.mark(text.name or str(number))
            if group not in texts or mark < texts[group][0]:
                texts[group] = (mark, text.text)
    name = f"the first {MOST_READ:,} rows of {uri}" if next(rows, None) is not None else uri
    return Batch(name=name, texts=[text for _, text in texts.values()], faults=faults)


def _placed(uri: str) -> tuple[Path, str]:
    path = Path(uri).expanduser()
    if not path.parent.is_dir():
        raise DataError(f"{uri} is not there: {path.parent} is no folder. Give a file, a glob or a URI to --data.")
    return path.parent, path.name


class _Document(NamedTuple):
    """A row as a document."""

    group: str
    """Empty: its own."""
    name: str
    text: str


def _document(records: str, row: Good | Bad, source: str) -> _Document | UnfitError:
    """The document of a row, or what is wrong with it."""
    if isinstance(row, Bad):
        return UnfitError(row.reason, row.detail)
    try:
        record = conform(records, row.values, columns={}, constants={}, source=source)
    except UnfitError as error:
        return error
    if records == "corpus":
        return _Document("", "", record["text"])
    return _Document(grouping_key(records, record), record["id"], user_text(record["context"], record["prompt"]))


def names(faults: Counter[str]) -> Iterator[str]:
    """The faults in words, the most frequent first."""
    for reason, count in faults.most_common():
        yield f"{count:,} {reason}"

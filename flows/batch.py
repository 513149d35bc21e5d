"""A batch of data as documents, read as ingestion reads sources."""

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.adapters import sources
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
        kind: corpus, or requests: instruction records, of which the first prompt about each text is taken.
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
    texts: dict[str, str] = {}
    rows = ((row, one.name) for one in inputs for row in one.rows())
    for number, (row, source_name) in enumerate(itertools.islice(rows, MOST_READ)):
        text = _text(records, row, source_name)
        if isinstance(text, UnfitError):
            faults[text.reason] += 1
        else:
            texts.setdefault(text[0] or str(number), text[1])
    name = f"the first {MOST_READ:,} rows of {uri}" if next(rows, None) is not None else uri
    return Batch(name=name, texts=list(texts.values()), faults=faults)


def _placed(uri: str) -> tuple[Path, str]:
    path = Path(uri).expanduser()
    if not path.parent.is_dir():
        raise DataError(f"{uri} is not there: {path.parent} is no folder. Give a file, a glob or a URI to --data.")
    return path.parent, path.name


def _text(records: str, row: Good | Bad, source: str) -> tuple[str, str] | UnfitError:
    """Group (empty: its own) and text of a row, or what is wrong with it."""
    if isinstance(row, Bad):
        return UnfitError(row.reason, row.detail)
    try:
        record = conform(records, row.values, columns={}, constants={}, source=source)
    except UnfitError as error:
        return error
    if records == "corpus":
        return "", record["text"]
    return grouping_key(records, record), user_text(record["context"], record["prompt"])


def names(faults: Counter[str]) -> Iterator[str]:
    """The faults in words, the most frequent first."""
    for reason, count in faults.most_common():
        yield f"{count:,} {reason}"

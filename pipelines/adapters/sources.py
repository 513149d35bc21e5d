"""Sources of records: tales, local files, fsspec URLs and hub datasets, checked at the start and read in streams.

| form | what it reads |
|---|---|
| `tales://?stories=2000&seed=7` | the built-in corpus |
| `stories/*.txt.gz` | files below `ingestion.root`: .txt, .jsonl, .parquet, each plain or with .gz or .zst |
| `hf://owner/name[/config][@revision][:split]` | a dataset of the Hugging Face hub, streamed |
| `s3://bucket/part-*.jsonl.zst` | files behind any fsspec URL |
"""

import dataclasses
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

from pipelines.adapters import hub
from pipelines.adapters.source_files import FileInput, local_inputs, url_inputs
from pipelines.core.text.lines import Bad, Good
from pipelines.core.world.corpus import Document, TalesSource, documents, instruction_records
from pipelines.core.world.tasks import Instruction
from pipelines.errors import ParamsError
from pipelines.params import Source


class Input(Protocol):
    """One thing that is read from its start to its end: a file, a hub split, a stretch of tales."""

    @property
    def name(self) -> str:
        """What it is called in `source`, in the quarantine and in messages."""

    @property
    def num_byte_order_marks(self) -> int:
        """How many byte order marks were taken off."""

    def rows(self) -> Iterator[Good | Bad]:
        """Read from the start.

        Raises:
            DataError: what is read is torn, not what its name says, or out of reach.
        """


def resolve(
    source: Source, kind: str, split: str, root: Path, max_line_bytes: int, option: str | None = None
) -> list[Input]:
    """The inputs that `source` names, in a fixed order, each checked as far as it can be without reading it.

    Args:
        source: What is read.
        kind: Of its records.
        split: That they become part of.
        root: Where paths begin.
        max_line_bytes: A longer line is no record.
        option: Of the command line, where the source was given; messages name it. None: it stands in params.yaml.

    Raises:
        ParamsError: the URI is not of one of the forms.
        DataError: nothing is there, or it cannot be read; the message names it and the remedy.
    """
    if source.uri.startswith("tales://"):
        return [_TalesInput(source, kind, split, option or f"ingestion.{kind}.{split}")]
    if source.uri.startswith("hf://"):
        return [hub.HubInput(source.uri, split)]
    found: list[FileInput]
    if "://" in source.uri:
        found = url_inputs(source.uri, source.separator, max_line_bytes)
    else:
        found = local_inputs(root, source.uri, source.separator, max_line_bytes, option or "ingestion.root")
    return list(found)


class _TalesInput:
    num_byte_order_marks = 0

    def __init__(self, source: Source, kind: str, split: str, where: str) -> None:
        self.name = "tales"
        try:
            self._tales = TalesSource.parse(source.uri)
        except ValueError as error:
            raise ParamsError(f"{where}: {error}") from None
        if kind == "preferences":
            raise ParamsError(
                f"{where}: {source.uri} has no preferences (the stage `feedback` makes them): remove it or name a file"
            )
        self._kind, self._split, self._limit = kind, split, source.limit

    def rows(self) -> Iterator[Good | Bad]:
        count = self._tales.stories
        made: Iterator[Document | Instruction] = (
            documents(self._tales, self._split, count)
            if self._kind == "corpus"
            else instruction_records(self._tales, self._split, count)
        )
        names = [field.name for field in dataclasses.fields(Document if self._kind == "corpus" else Instruction)]
        for number, item in enumerate(islice(made, self._limit), 1):
            yield Good(number, {name: getattr(item, name) for name in names})

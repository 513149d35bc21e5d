"""Files of records, local or behind fsspec: found, checked, opened through their compression, read in blocks."""

import difflib
import glob
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

from pipelines.core.text.lines import Bad, Good, documents, excerpt, objects, split_lines
from pipelines.errors import DataError

FORMATS: Final = ("txt", "jsonl", "parquet")
COMPRESSIONS: Final = {"gz": "gzip", "zst": "zstd"}
MAGIC: Final = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PAR1": "parquet"}
WIDE_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
BLOCK: Final = 1 << 20
PARQUET_ROWS: Final = 256

_READABLE = ".txt, .jsonl or .parquet, each plain or with .gz or .zst"


@dataclass
class FileInput:
    """One file; `open` gives its stored bytes."""

    name: str
    open: Callable[[], IO[bytes]]
    separator: str | None
    max_line_bytes: int
    num_byte_order_marks: int = 0
    format: str = field(init=False)
    compression: str | None = field(init=False)

    def __post_init__(self) -> None:
        self.format, self.compression = _format(self.name)

    def rows(self) -> Iterator[Good | Bad]:
        """Read the file from its start.

        Raises:
            DataError: the file is torn, not what its name says, or holds nothing.
        """
        with _naming(self), self.open() as stored:
            if self.format == "parquet":
                yield from self._parquet_rows(stored)
                return
            blocks = self._without_mark(self._blocks(stored))
            lines = split_lines(blocks, self.max_line_bytes)
            if self.format == "jsonl":
                yield from objects(lines, self.max_line_bytes)
            else:
                yield from documents(lines, self.separator, self.max_line_bytes)

    def _blocks(self, stored: IO[bytes]) -> Iterator[bytes]:
        plain: Any = stored
        if self.compression is not None:
            import pyarrow

            plain = pyarrow.CompressedInputStream(pyarrow.PythonFile(stored, mode="r"), self.compression)
        while block := plain.read(BLOCK):
            yield block

    def _without_mark(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        first = next(blocks, b"")
        if first.startswith(WIDE_MARKS):
            raise DataError(f"{self.name} is UTF-16: convert it, for instance with `iconv -f UTF-16 -t UTF-8`")
        if first.startswith(BYTE_ORDER_MARK):
            self.num_byte_order_marks = 1
            first = first.removeprefix(BYTE_ORDER_MARK)
        yield first
        yield from blocks

    def _parquet_rows(self, stored: IO[bytes]) -> Iterator[Good | Bad]:
        from pyarrow import parquet

        if self.compression is None:
            yield from self._table_rows(parquet.ParquetFile(stored))
            return
        with tempfile.TemporaryFile() as whole:
            for block in self._blocks(stored):
                whole.write(block)
            whole.seek(0)
            yield from self._table_rows(parquet.ParquetFile(whole))

    def _table_rows(self, table: Any) -> Iterator[Good | Bad]:
        number = 0
        for batch in table.iter_batches(batch_size=PARQUET_ROWS):
            columns = [(name, batch.column(index)) for index, name in enumerate(batch.schema.names)]
            for row in range(batch.num_rows):
                number += 1
                yield self._table_row(number, columns, row)

    def _table_row(self, number: int, columns: list[tuple[str, Any]], row: int) -> Good | Bad:
        try:
            values = {name: column[row].as_py() for name, column in columns}
        except UnicodeDecodeError as error:
            return Bad(number, "not UTF-8", f"byte {error.start + 1} of a column", excerpt(error.object))
        for name, value in values.items():
            if isinstance(value, str) and len(value) > self.max_line_bytes:
                detail = f"{len(value):,} characters in {name}; ingestion.max_line_bytes is {self.max_line_bytes:,}"
                return Bad(number, "line too long", detail, excerpt(value))
        return Good(number, values)


@contextmanager
def _naming(file: FileInput) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except (OSError, ValueError) as error:
        if "runcated" in str(error) or isinstance(error, EOFError):
            raise DataError(
                f"{file.name} ends in the middle of its {file.compression} stream: the download is probably"
                " incomplete. Fetch it again."
            ) from None
        raise DataError(f"{file.name} cannot be read as {_kind(file)}: {error}. Fetch or make it again.") from None


def _kind(file: FileInput) -> str:
    return f".{file.format}" + (f" in {file.compression}" if file.compression else "")


def _format(name: str) -> tuple[str, str | None]:
    parts = Path(name).name.lower().split(".")
    compression = COMPRESSIONS.get(parts[-1])
    if compression is not None:
        parts.pop()
    if len(parts) < 2 or parts[-1] not in FORMATS:
        raise DataError(f"{name}: its format is unknown. Readable are {_READABLE}: rename or convert it.")
    return parts[-1], compression


def _check_head(file: FileInput) -> None:
    """See by the first bytes whether the file is what its name says."""
    with file.open() as stored:
        head = stored.read(4)
    if not head:
        raise DataError(f"{file.name} is empty: fetch it again, or do not name it")
    found = next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), None)
    expected = file.compression or ("parquet" if file.format == "parquet" else None)
    if found != expected:
        raise DataError(
            f"{file.name} holds {found or 'neither gzip, zstd nor parquet'} data, not {expected or 'plain text'} as"
            " its name says: rename it or fetch it again"
        )


def local_inputs(
    root: Path, uri: str, separator: str | None, max_line_bytes: int, place: str = "ingestion.root"
) -> list[FileInput]:
    """The files below `root`, which `place` names, that a path or glob names, sorted.

    Raises:
        DataError: no match, a folder, an empty file, an unknown format, or other content than the name says.
    """
    if not root.is_dir():
        raise DataError(f"{place} is {root}, which is no folder: make it or name another")
    if glob.has_magic(uri) and not (root / uri).exists():
        found = sorted(path for path in root.glob(uri) if path.is_file())
        if not found:
            raise DataError(f"{uri} matches no file below {root} ({place})." + _near(root, uri))
    else:
        found = [root / uri]
    return [_local_input(root, path, separator, max_line_bytes, place) for path in found]


def _local_input(root: Path, path: Path, separator: str | None, max_line_bytes: int, place: str) -> FileInput:
    name = path.relative_to(root).as_posix()
    if path.is_dir():
        raise DataError(f"{name} is a folder: name its files, for instance {name}/*.jsonl")
    if not path.exists():
        raise DataError(f"{name} is not there below {root} ({place})." + _near(root, name))
    file = FileInput(name, lambda: path.open("rb"), separator, max_line_bytes)
    try:
        _check_head(file)
    except PermissionError:
        raise DataError(f"{path} may not be read by this user: change its permissions") from None
    return file


def _near(root: Path, uri: str) -> str:
    there = sorted(path.relative_to(root).as_posix() for path in _some_files(root))
    close = difflib.get_close_matches(uri, there, n=3, cutoff=0.5) or there[:3]
    return f" There is: {', '.join(close)}." if close else " The folder holds no files."


def _some_files(root: Path, most: int = 1000) -> Iterator[Path]:
    """At most `most` files below `root`."""
    count = 0
    for path in root.rglob("*"):
        if path.is_file():
            yield path
            count += 1
            if count == most:
                return


def url_inputs(uri: str, separator: str | None, max_line_bytes: int) -> list[FileInput]:
    """The files behind an fsspec URL or a glob of such, sorted.

    Raises:
        DataError: the driver is missing (the message names the package), the place is out of reach, or as for
            local files.
    """
    import fsspec

    scheme = uri.partition("://")[0]
    try:
        system, path = fsspec.core.url_to_fs(uri)
    except ImportError as error:
        raise DataError(f"{uri}: reading {scheme}:// needs another package. {error}") from None
    except ValueError as error:
        raise DataError(f"{shown(uri)}: {error}. Known are tales://, hf:// and the protocols of fsspec.") from None
    try:
        paths = sorted(system.glob(path)) if glob.has_magic(path) and not system.exists(path) else [path]
        if not paths:
            raise DataError(f"{shown(uri)} matches no file")
        return [_url_input(system, scheme, item, separator, max_line_bytes) for item in paths]
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{shown(uri)} is not there: correct its address") from None
    except Exception as error:  # drivers raise errors of their own kinds
        raise DataError(f"{shown(uri)} is out of reach ({type(error).__name__}: {error})") from None


def _url_input(system: Any, scheme: str, path: str, separator: str | None, max_line_bytes: int) -> FileInput:
    name = shown(path if "://" in path else f"{scheme}://{path}")
    if system.isdir(path) and not system.isfile(path):
        raise DataError(f"{name} is a folder: name its files, for instance {name}/*.jsonl")
    file = FileInput(
        urlsplit(name)._replace(query="").geturl(), lambda: system.open(path, "rb"), separator, max_line_bytes
    )
    _check_head(file)
    return file


def shown(uri: str) -> str:
    """The URI without user name and password."""
    scheme, mark, rest = uri.partition("://")
    place, slash, path = rest.partition("/")
    return scheme + mark + place.rpartition("@")[2] + slash + path if mark else uri

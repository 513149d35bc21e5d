"""Files: atomic writes, JSON lines in and out, content hashes."""

import csv
import errno
import glob
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.errors import ArtifactError, ResourceError

STALE_SECONDS = 3600
"""A temporary holder of this age is what a killed process left: only stages write for longer, and of a stage there is
one at a time. A younger one may be that of another process that replaces the same file just now."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well it takes the place of `path`, fsynced.

    Works for files and folders. When the block fails nothing is left and `path` is what it was. What a killed process
    left half-written is removed by the first that replaces the same path an hour later.

    Raises:
        ResourceError: when the disk is full, or that of temporary files which the block wrote.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in holders(path):
        if _age(left) > STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    fresh = holder / path.name
    try:
        yield fresh
        for file in [fresh, *fresh.rglob("*")] if fresh.is_dir() else [fresh]:
            if file.is_file():
                _sync(file)
        if path.exists() and (path.is_dir() or fresh.is_dir()):
            path.rename(holder / "old")
        fresh.replace(path)
        _sync(path.parent)
    except Exception as error:
        if disk_is_full(error):
            temporary = tempfile.gettempdir()
            raise ResourceError(
                f"No space for {path}: {_free(path.parent)} are free there, and {_free(temporary)} in {temporary} for"
                " temporary files (the environment variable TMPDIR names another folder). Free some space and run"
                " again: nothing that was made before is lost."
            ) from error
        raise
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def holders(path: Path) -> list[Path]:
    """The temporary holders of what is to replace `path`: of writes that go on, and of those that were killed."""
    shape = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}")
    return sorted(each for each in path.parent.glob(f".{glob.escape(path.name)}.*") if shape.fullmatch(each.name))


def _age(path: Path) -> float:
    """Seconds since something was put into a folder; 0 when it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def disk_is_full(error: Exception) -> bool:
    """Whether an error says so; libraries in Rust (safetensors, tokenizers) do it in their text alone."""
    return getattr(error, "errno", None) == errno.ENOSPC or f"(os error {errno.ENOSPC})" in str(error)


def _free(folder: Path | str) -> str:
    return f"{shutil.disk_usage(folder).free / 2**20:.0f} MiB"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN and infinity are an error (ValueError)."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as fresh:
        fresh.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        ArtifactError: when the file is missing or torn.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing. Run `moteur run` (or `dvc repro`) to make it.") from None
    except ValueError as error:
        raise ArtifactError(f"{path} is not JSON ({error}). Remove it and run `moteur run` again.") from None


def write_jsonl(path: Path, records: Iterable[Any]) -> int:
    """Write one JSON object a line, atomically, streaming; return how many."""
    count = 0
    with replacing(path) as fresh, fresh.open("w", encoding="utf-8", newline="\n") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
            count += 1
    return count


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table, atomically; numbers keep six significant digits."""
    with replacing(path) as fresh, fresh.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([f"{value:.6g}" if isinstance(value, float) else value for value in row] for row in rows)


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Stream the objects of a file that a stage of ours wrote.

    Raises:
        ArtifactError: when the file is missing or a line is torn.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                yield _object(path, number, line)
    except FileNotFoundError:
        raise _missing(path) from None


def read_jsonl_batches(path: Path, num_bytes: int) -> Iterator[tuple[list[bytes], list[dict[str, Any]]]]:
    """Lines and their objects, in batches that hold `num_bytes` together or a little more.

    As `read_jsonl`, but three times as fast.

    Whole numbers beyond 64 bits may come back as floats.
    """
    import orjson

    start = 0
    try:
        with path.open("rb") as file:
            while lines := file.readlines(num_bytes):
                try:
                    yield lines, list(map(orjson.loads, lines))
                except orjson.JSONDecodeError:  # json reads a little more, and the error needs its line
                    yield lines, [_object(path, start + number, line) for number, line in enumerate(lines, 1)]
                start += len(lines)
    except FileNotFoundError:
        raise _missing(path) from None


def _object(path: Path, number: int, line: str | bytes) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(line)
    except ValueError as error:
        raise ArtifactError(f"{path}:{number} is not JSON ({error}).") from None
    return value


def _missing(path: Path) -> ArtifactError:
    return ArtifactError(f"{path} is missing. Run `moteur run` (or `dvc repro`) to make it.")


def sha256(path: Path, pattern: str = "*") -> str:
    """Hex digest of a file, or of a folder's sorted relative names and contents: of those files that fit `pattern`."""
    if path.is_dir():
        digest = hashlib.sha256()
        for file in sorted(item for item in path.rglob(pattern) if item.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()}\0{sha256(file)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()

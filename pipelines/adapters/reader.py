"""Let a model read documents in a process of its own: tokens, mean hidden state, perplexity, descriptors.

The caller never imports torch. `python -m pipelines.adapters.reader FOLDER TEXTS READ THREADS` is the child: texts go
in as JSON lines, arrays come out as safetensors.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.adapters import device, files, quiet
from pipelines.core.drift.sample import PERPLEXITY, Sample
from pipelines.core.text.descriptors import describe
from pipelines.core.text.words import split_words
from pipelines.errors import ArtifactError, MoteurError, ResourceError

LARGEST_HALF = 65504.0


def read(folder: Path, texts: Sequence[str], *, threads: int | None = None) -> Sample:
    """What the model in `folder` makes of each text; of a text longer than its context, of the beginning.

    Embeddings are rounded to half precision, in which a release stores them.

    Raises:
        ArtifactError: when the model cannot be loaded or does not read.
        ResourceError: when the child was killed, which is what happens when memory does not suffice.
    """
    with tempfile.TemporaryDirectory(prefix="moteur-reader-") as name:
        given, made = Path(name) / "texts.jsonl", Path(name) / "read.safetensors"
        given.write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="utf-8")
        command = [sys.executable, "-m", __name__, str(folder.resolve()), str(given), str(made)]
        command.append(str(threads or len(os.sched_getaffinity(0))))
        root = str(Path(__file__).resolve().parents[2])
        environment = {
            **device.EXCLUSIVE,
            **os.environ,
            **quiet.ALONE,
            "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]),
        }
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603  our own module
        if done.returncode:
            raise _fault(folder, done.returncode, done.stderr)
        arrays = load_arrays(made)
    return Sample(
        tokens=arrays["tokens"],
        offsets=arrays["offsets"],
        embeddings=arrays["embeddings"],
        columns={
            **descriptors(texts),
            "bytes_per_token": arrays["bytes_per_token"],
            PERPLEXITY: arrays[PERPLEXITY],
        },
    )


def descriptors(texts: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The descriptors of texts, as `core.text.descriptors` computes them, one column each."""
    described = describe(list(texts), split_words(list(texts)))
    return {name: values.astype(np.float32) for name, values in described.items()}


def _fault(folder: Path, code: int, said: str) -> MoteurError:
    last = (said.strip().splitlines() or ["it said nothing"])[-1]
    if code in (-9, 137):
        return ResourceError(
            f"{folder} was killed while it read documents, probably for memory: lower drift.max_documents in"
            " params.yaml."
        )
    return ArtifactError(f"{folder} cannot read documents (code {code}): {last}")


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file.

    Raises:
        ArtifactError: when it is missing or torn.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        loaded: dict[str, NDArray[Any]] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}): run deployment again.") from None
    return loaded


def save_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write arrays as safetensors, atomically; the same arrays give the same bytes."""
    from safetensors.numpy import save_file

    with files.replacing(path) as fresh:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, fresh)


def _read_here(folder: Path, given: Path, made: Path, threads: int) -> None:
    from pipelines.adapters import device, release
    from pipelines.core.learning import reading

    place = device.prepare(0, threads)
    model, tokenizer = release.load(folder)
    texts = [json.loads(line) for line in given.read_text(encoding="utf-8").splitlines()]
    done = reading.read(model.to(place), tokenizer, texts)
    save_arrays(
        made,
        {
            "tokens": done.tokens,
            "offsets": done.offsets,
            "embeddings": np.clip(done.embeddings, -LARGEST_HALF, LARGEST_HALF).astype(np.float16),
            PERPLEXITY: done.nats_per_byte,
            "bytes_per_token": done.bytes_per_token,
        },
    )


def main(arguments: list[str]) -> int:
    """The child: read and write; an error is a sentence."""
    folder, given, made, threads = arguments
    try:
        _read_here(Path(folder), Path(given), Path(made), int(threads))
    except MoteurError as error:
        print(error, file=sys.stderr)  # noqa: T201  the parent reads this
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

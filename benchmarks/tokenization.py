"""Speed and memory of the data stages and of the tokenizer, by the size of the corpus.

    python -m benchmarks.tokenization
    python -m benchmarks.tokenization --sizes 10 50

For each size (megabytes of text of the built-in corpus) ingestion, data_validation, tokenization and a few steps of
pretraining run as in a workspace of their own, with the values of params.yaml; `peak_mib` is what they and all that
they start hold at most. Then, on that corpus, the tokenizer is trained and the text is encoded by the code of the stage
and by peers: raw `tokenizers`, and tiktoken with our merges (in an environment of its own; it has no trainer). Encoding
reads the same JSON lines and writes the same ids everywhere; how fast `tokenizers` is with texts in memory, ids thrown
away, is shown besides.

A megabyte is a million bytes of the text itself, UTF-8, without JSON.
"""

import argparse
import base64
import json
import os
import shutil
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks import learner, runs
from pipelines import stage, tokenization
from pipelines.adapters import datasets, files, models
from pipelines.adapters.tracking import NullTracker
from pipelines.artifacts import Artifact
from pipelines.core.text import bpe, chat
from pipelines.core.world import corpus

SIZES = (10, 100, 1000)
STAGES = ("ingestion", "data_validation", "tokenization", "pretraining")
STEPS = 50
"""Of pretraining; its memory is there from the first."""
HELD_OUT_STORIES = 100
TIKTOKEN = ("tiktoken==0.14.0", "numpy")
RANKS, IDS = Path("ranks.json"), Path("ids.bin")
OURS, RAW = "Moteur", "tokenizers"
IN_MEMORY = f"{RAW}, texts in memory, ids thrown away"
MOST_IN_MEMORY = 100_000_000
"""Bytes of text that are encoded from memory."""


def main() -> None:
    """Run every side in turn on every size, print the tables and keep them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES), help="megabytes of text")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.side:
        print(json.dumps(SIDES[settings.side]()))
        return
    machine = runs.machine(stage.load_params().threads)
    python = runs.peer_python(TIKTOKEN[0].replace("==", "-"), *TIKTOKEN)
    stages: dict[str, runs.Runs] = {name: {} for name in STAGES}
    training, encoding = runs.Runs(), runs.Runs()
    for megabytes in sorted(settings.sizes):
        folder = _workspace(megabytes)
        found = runs.alternate(map(_stage(folder), STAGES), settings.repeats)
        held = files.read_json(folder / Artifact.TOKENS / "index.json")["splits"]["train"]["bytes"] / 1e6
        for name, turns in found.items():
            stages[name][f"{megabytes:,} MB"] = [_rates(run, held) for run in turns]
        _write_ranks(folder)
        for kept, sides in ((training, _trainers(folder)), (encoding, _encoders(folder, python))):
            kept |= {f"{name}, {megabytes:,} MB": turns for name, turns in _alike(sides, settings.repeats).items()}
    largest = f"{max(settings.sizes):,} MB"
    runs.write(
        "tokenization",
        how=f"The built-in corpus at {', '.join(f'{size:,}' for size in sorted(settings.sizes))} MB of text;"
        f" {settings.repeats} runs of each side in turn. MB/s of a stage is of the whole process, imports included.",
        machine=machine,
        comparisons=[
            *(_by_size(name, turns) for name, turns in stages.items()),
            *_beside("Training the tokenizer", training),
            *_beside("Encoding", encoding),
        ],
        aims=[*_memory(stages), *_speed(stages, encoding, largest)],
        notes=[_note(stage.load_params().tokenization.max_training_bytes)],
    )


def _note(most: int) -> str:
    return (
        f"The stage trains on at most {most / 1e6:,.0f} MB, evenly drawn; `tokenizers` gets as many. Pretraining takes"
        f" {STEPS} steps. All encoders wrote the same ids."
    )


def _workspace(megabytes: int) -> Path:
    """An empty workspace whose corpus holds this much text."""
    source = corpus.TalesSource()
    sample = [len(document.text.encode()) for document in corpus.documents(source, "train", 2000)]
    stories = round(megabytes * 1e6 * len(sample) / sum(sample))
    values = stage.load_params(runs.ROOT / "params.yaml").model_dump(mode="json")
    held_out = [{"uri": f"tales://?stories={HELD_OUT_STORIES}"}]
    whole = {"train": [{"uri": f"tales://?stories={stories}"}], "valid": held_out, "test": held_out}
    values["ingestion"] |= {"corpus": whole, "instructions": dict.fromkeys(datasets.SPLITS, held_out)}
    values["data_validation"]["max_rejected_share"] = 1.0
    settings = values["pretraining"]
    settings["max_tokens"] = STEPS * settings["batch_size"] * settings["context"]
    folder = runs.SCRATCH.resolve() / "tokenization" / str(megabytes)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / values["ingestion"]["root"]).mkdir(parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return folder


def _stage(folder: Path) -> Callable[[str], runs.Side]:
    return lambda name: runs.Side(name=name, command=[sys.executable, "-m", f"pipelines.{name}"], folder=folder)


def _rates(run: runs.Figures, megabytes: float) -> runs.Figures:
    rates = {"mb_per_second": megabytes / run["wall_seconds"], "mb_per_cpu_second": megabytes / run["cpu_seconds"]}
    return {**rates, **run}


def _trainers(folder: Path) -> list[runs.Side]:
    return [_side(OURS, "train", folder), _side(RAW, "train_raw", folder)]


def _encoders(folder: Path, python: Path) -> list[runs.Side]:
    end = files.read_json(folder / Artifact.TOKENS / "index.json")["eos"]
    corpus_file = datasets.file(Artifact.VALIDATED.path, "corpus", "train")
    options = ["--end", end, "--threads", runs.cores(), "--chunk-bytes", tokenization.CHUNK_BYTES]
    peer = [python, runs.ROOT / "benchmarks" / "tiktoken_encoding.py", RANKS, corpus_file, IDS, *options]
    return [
        _side(OURS, "encode", folder),
        _side(RAW, "encode_raw", folder),
        runs.Side(name="tiktoken", command=list(map(str, peer)), folder=folder),
        _side(IN_MEMORY, "encode_in_memory", folder),
    ]


def _side(name: str, kind: str, folder: Path) -> runs.Side:
    return runs.Side(name=name, command=runs.ours("tokenization", "--side", kind), folder=folder)


def _alike(sides: list[runs.Side], repeats: int) -> runs.Runs:
    """Run the sides in turn and see that those that write ids all write the same.

    Raises:
        SystemExit: they do not.
    """
    sums: dict[int, str] = {}

    def run(side: runs.Side) -> runs.Figures:
        assert side.folder is not None  # noqa: S101  every side here has one
        written = side.folder / IDS
        shutil.rmtree(written, ignore_errors=True)
        written.unlink(missing_ok=True)
        found = runs.figures(side)
        if written.exists():
            sums.setdefault(_checksum(written), side.name)
        if len(sums) > 1:
            sys.exit(f"{' and '.join(sums.values())} wrote other ids: they are not doing the same job")
        return found

    return runs.alternate(sides, repeats, run)


def _checksum(written: Path) -> int:
    """Of the ids of the training split, in one file or in the shards of a folder."""
    shards = sorted(written.glob("corpus.train.*.bin")) if written.is_dir() else [written]
    found = 0
    for shard in shards:
        with shard.open("rb") as file:
            while block := file.read(1 << 24):
                found = zlib.crc32(block, found)
    return found


def _by_size(name: str, turns: runs.Runs) -> runs.Comparison:
    columns = {"mb_per_second": "MB/s", "mb_per_cpu_second": "MB/s a core", "peak_mib": "MiB"}
    if name == "pretraining":
        columns = {"peak_mib": "MiB"}
    return runs.Comparison(title=f"Stage {name}", runs=turns, figure=next(iter(columns)), columns=columns)


def _beside(title: str, turns: runs.Runs) -> Iterator[runs.Comparison]:
    """A table for each size, the smallest first."""
    for size in dict.fromkeys(name.rsplit(", ", 1)[1] for name in turns):
        yield runs.Comparison(
            title=f"{title}, {size}",
            runs={name.rsplit(", ", 1)[0]: one for name, one in turns.items() if name.endswith(f", {size}")},
            figure="mb_per_second",
            columns={"mb_per_second": "MB/s", "peak_mib": "MiB"},
            ours=OURS,
        )


def _memory(stages: dict[str, runs.Runs]) -> Iterator[runs.Aim]:
    for name, turns in stages.items():
        *_, before, last = [None, *turns]
        if before is not None:
            grown = runs.middle(turns, last, "peak_mib") / runs.middle(turns, before, "peak_mib")
            yield runs.Aim(what=f"{name}: memory at {last}, times that at {before}", found=grown, at_most=1.1)


def _speed(stages: dict[str, runs.Runs], encoding: runs.Runs, largest: str) -> Iterator[runs.Aim]:
    rate = runs.middle(stages["data_validation"], largest, "mb_per_cpu_second")
    yield runs.Aim(what="data_validation: MB/s a core", found=rate, at_least=20)
    share = runs.ratios(encoding, f"{OURS}, {largest}", f"{RAW}, {largest}", "mb_per_second")
    yield runs.Aim(what="encoding: times tokenizers", found=float(np.median(share)), at_least=0.95)


def byte_of_letter() -> dict[str, int]:
    """Byte-level BPE writes each byte as a letter that can be seen (Radford et al. 2019, the code of GPT-2)."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(256 + place): byte for place, byte in enumerate(hidden)}


def ranks(vocabulary: dict[str, int], special: Iterable[str]) -> dict[bytes, int]:
    """Bytes of each entry -> its id: what tiktoken joins by, for ids grow in the order of the merges."""
    letters = byte_of_letter()
    kept = {token: number for token, number in vocabulary.items() if token not in special}
    return {bytes(letters[letter] for letter in token): number for token, number in kept.items()}


def _write_ranks(folder: Path) -> None:
    tokenizer = models.load_tokenizer(folder / Artifact.TOKENIZER)
    found = ranks(tokenizer.get_vocab(), {*chat.SPECIAL_TOKENS, *tokenizer.all_special_tokens})
    files.write_json(folder / RANKS, {base64.b64encode(token).decode(): rank for token, rank in found.items()})


def _counted(texts: Iterable[str], held: list[int]) -> Iterator[str]:
    for text in texts:
        held[0] += len(text.encode())
        yield text


def _corpus() -> Iterator[str]:
    """The texts as one would read them without us."""
    with datasets.file(Artifact.VALIDATED.path, "corpus", "train").open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["text"]


def _rate(size: int, start: float) -> runs.Figures:
    return {"mb_per_second": size / 1e6 / (time.perf_counter() - start)}


def _train() -> runs.Figures:
    settings, held = stage.load_params().tokenization, [0]
    start = time.perf_counter()
    texts = tokenization.training_texts(Artifact.VALIDATED.path, settings.max_training_bytes)
    bpe.train(_counted(texts, held), settings.vocab_size)
    return _rate(held[0], start)


def _train_raw() -> runs.Figures:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    settings, held = stage.load_params().tokenization, [0]
    start = time.perf_counter()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    texts = (text for text in _counted(_corpus(), held) if held[0] <= settings.max_training_bytes)
    tokenizer.train_from_iterator(texts, trainer)
    return _rate(min(held[0], settings.max_training_bytes), start)


def _encode() -> runs.Figures:
    learner.settle()
    tokenizer = models.load_tokenizer(Artifact.TOKENIZER.path)
    start = time.perf_counter()
    shards = tokenization.Shards(tokenizer, stage.load_params().tokenization.shard_tokens)
    shards.write(Artifact.VALIDATED.path, IDS, NullTracker())
    return _rate(sum(split["bytes"] for split in shards.splits.values()), start)


def _raw_encoder() -> tuple[Any, int]:
    from tokenizers import Tokenizer

    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    encoder = Tokenizer.from_file(str(Artifact.TOKENIZER.path / "tokenizer.json"))
    encoder.encode_special_tokens = True
    return encoder, encoder.token_to_id(chat.END)


def _texts_by_chunk() -> Iterator[tuple[list[str], int]]:
    texts: list[str] = []
    size = 0
    for text in _corpus():
        texts.append(text)
        size += len(text.encode())
        if size >= tokenization.CHUNK_BYTES:
            yield texts, size
            texts, size = [], 0
    yield texts, size


def _encode_raw() -> runs.Figures:
    encoder, end = _raw_encoder()
    start, whole = time.perf_counter(), 0
    with IDS.open("wb") as file:
        for texts, size in _texts_by_chunk():
            ids: list[int] = []
            for found in encoder.encode_batch_fast(texts, add_special_tokens=False):
                ids += found.ids
                ids.append(end)
            np.array(ids, dtype=np.uint16).tofile(file)
            whole += size
    return _rate(whole, start)


def _encode_in_memory() -> runs.Figures:
    encoder, _ = _raw_encoder()
    chunks = list(islice(_texts_by_chunk(), MOST_IN_MEMORY // tokenization.CHUNK_BYTES))
    start = time.perf_counter()
    for texts, _size in chunks:
        encoder.encode_batch_fast(texts, add_special_tokens=False)
    return _rate(sum(size for _, size in chunks), start)


SIDES: dict[str, Callable[[], runs.Figures]] = {
    "train": _train,
    "train_raw": _train_raw,
    "encode": _encode,
    "encode_raw": _encode_raw,
    "encode_in_memory": _encode_in_memory,
}


if __name__ == "__main__":
    main()

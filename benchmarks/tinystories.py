"""Bits per byte of held-out TinyStories after so many seconds of training: Moteur beside a GPT-2-style peer.

    python -m benchmarks.tinystories --data /path/to/data --seconds 180

`--data` is a folder with pretrain/tinystories.{train,valid}.txt.gz (stories parted by <|endoftext|>). Both sides have
the same tokenizer (byte-level BPE of 2,048 entries, trained on the training text), about 3 million parameters, a
context of 256 and the same seconds of training steps; measuring and set-up do not count. Each schedule is laid out for
the steps that fit, by the speed of the first ones. Held-out text is read in windows of 256, every token predicted once.
"""

import argparse
import gzip
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import gpt2_style
from pipelines.adapters import device
from pipelines.core.judging.likelihood import likelihood
from pipelines.core.learning import attention, batches, optimizers, training
from pipelines.core.learning.architecture import llama
from pipelines.core.learning.schedules import warmup_cosine
from pipelines.core.text import bpe, chat
from pipelines.params import Model

CONTEXT, VOCAB = 256, 2048
END = "<|endoftext|>"
PROBE_STEPS = 20
RESULTS = Path(__file__).parent / "results" / "tinystories.json"


Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Data:
    """Token ids with the end token after each story."""

    train: NDArray[np.int64]
    valid: NDArray[np.int64]
    valid_bytes: int
    """UTF-8 bytes of the held-out stories."""
    end: int
    pad: int


def main() -> None:
    """Train each side in turn and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with pretrain/tinystories.*.txt.gz")
    parser.add_argument("--seconds", type=float, default=180.0, help="of training steps, for each side")
    parser.add_argument("--peer-batches", type=int, nargs="*", default=[4, 8], help="batch sizes of the peer")
    parser.add_argument("--batch", type=int, default=4, help="batch size of ours")
    parser.add_argument("--rate", type=float, default=0.01, help="peak learning rate of ours")
    parser.add_argument("--seed", type=int, default=7)
    settings = parser.parse_args()
    data = _read(settings.data / "pretrain")
    rows = [_ours(settings, data)]
    rows += [_peer(settings, size, data) for size in settings.peer_batches]
    print(f"{'':28} {'parameters':>10} {'tokens seen':>12} {'tokens/s':>9} {'bits per byte':>14}")
    for row in rows:
        print(
            f"{row['name']:28} {row['parameters']:10,} {row['tokens']:12,} {row['tokens'] / row['seconds']:9,.0f}"
            f" {row['bits_per_byte']:14.3f}"
        )
    RESULTS.parent.mkdir(exist_ok=True)
    found = {"seconds": settings.seconds, "threads": torch.get_num_threads(), "seed": settings.seed, "rows": rows}
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _read(folder: Path) -> Data:
    stories = {split: _stories(folder / f"tinystories.{split}.txt.gz") for split in ("train", "valid")}
    tokenizer = bpe.train(stories["train"], VOCAB)
    end = tokenizer.convert_tokens_to_ids(chat.END)
    rows = {
        split: np.array([token for ids in tokenizer(texts)["input_ids"] for token in [*ids, end]], dtype=np.int64)
        for split, texts in stories.items()
    }
    return Data(
        train=rows["train"],
        valid=rows["valid"],
        valid_bytes=sum(len(text.encode()) for text in stories["valid"]),
        end=end,
        pad=tokenizer.convert_tokens_to_ids(chat.PAD),
    )


def _stories(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [text.strip() for text in file.read().split(END) if text.strip()]


def _timed(begin: Callable[[int], Iterator[object]], seconds: float) -> tuple[int, float]:
    """Steps taken in `seconds`, and the seconds. `begin(n)` lays a run out for n steps and takes one at each `next`."""
    probe = begin(1000)
    for _ in range(PROBE_STEPS // 4):
        next(probe)
    began = time.perf_counter()
    for _ in range(PROBE_STEPS):
        next(probe)
    steps = max(1, round(seconds * PROBE_STEPS / (time.perf_counter() - began)))
    run = begin(steps)
    began, done = time.perf_counter(), 0
    while done < steps and time.perf_counter() - began < seconds:
        next(run)
        done += 1
    return done, time.perf_counter() - began


def _ours(settings: argparse.Namespace, data: Data) -> Row:
    """The model, the batches, the loss and the optimiser of the stage pretraining, with the shape of the profile."""
    where = device.prepare(settings.seed, None)
    precision = device.precision("auto")
    shape = Model(
        hidden_size=192, num_layers=6, num_heads=6, intermediate_size=512, context=512, tie_embeddings=True,
        rope_theta=500, attention_bias=True, look_back=[1], initializer_range=0.08,
        value_output_correlation=0.7,
    )  # fmt: skip
    model = llama(shape, vocab_size=VOCAB, eos=data.end, pad=data.pad).to(where)
    attention.use_fastest(model, device=where, context=CONTEXT)
    first = training.weights_of(model)

    def begin(total: int) -> Iterator[object]:
        training.load_weights(model, first)
        return training.train(
            lambda batch: training.next_token_loss(model, batch, device=where, precision=precision),
            batches.Packed(data.train, CONTEXT, settings.batch, settings.seed, data.end),
            optimizers.build("muon", model, weight_decay=0.1),
            schedule=lambda step: warmup_cosine(
                step, steps=total, peak=settings.rate, warmup_share=0.05, final_share=0.02
            ),
            steps=total,
            gradient_clip=1.0,
        )

    done, took = _timed(begin, settings.seconds)
    return {
        "name": f"Moteur, batch {settings.batch}",
        "parameters": model.num_parameters(),
        "tokens": done * settings.batch * CONTEXT,
        "seconds": took,
        "bits_per_byte": likelihood(model, data.valid, data.valid_bytes, CONTEXT).bits_per_byte,
    }


def _peer(settings: argparse.Namespace, size: int, data: Data) -> Row:
    device.prepare(settings.seed, None)
    model = gpt2_style.GPT2Style(vocab_size=VOCAB, context=CONTEXT, width=192, depth=6, heads=6)
    first = training.weights_of(model)

    def begin(total: int) -> Iterator[object]:
        training.load_weights(model, first)
        return gpt2_style.train(model, data.train, context=CONTEXT, batch_size=size, steps=total, seed=settings.seed)

    done, took = _timed(begin, settings.seconds)
    windows = batches.windows(data.valid, context=CONTEXT, batch_size=32, start_token=data.end)
    return {
        "name": f"GPT-2 style, batch {size}",
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "tokens": done * size * CONTEXT,
        "seconds": took,
        "bits_per_byte": gpt2_style.nats(model, windows) / math.log(2) / data.valid_bytes,
    }


if __name__ == "__main__":
    main()

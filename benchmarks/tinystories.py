"""Bits per byte of held-out TinyStories after so many seconds of training: Moteur beside a GPT-2-style peer.

    python -m benchmarks.tinystories --data /path/to/data --seconds 180

`--data` is a folder with pretrain/tinystories.{train,valid}.txt.gz (stories parted by <|endoftext|>). Both sides have
the same tokenizer (byte-level BPE of 2,048 entries, trained on the training text), about 3 million parameters, a
context of 256 and the same seconds of training; measuring and set-up do not count. Ours has the values of params.yaml
and profiles/tinystories.yaml, the peer those of its recipe. Learning rates follow the clock, so that each cosine ends
with the time. Held-out text is read in windows of 256, every token predicted once.
"""

import argparse
import gzip
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from benchmarks import gpt2_style
from flows import profiles
from pipelines import params as schema
from pipelines.adapters import device
from pipelines.core.judging.likelihood import likelihood
from pipelines.core.learning import attention, batches, optimizers, training
from pipelines.core.learning.architecture import llama
from pipelines.core.learning.schedules import warmup_cosine
from pipelines.core.text import bpe, chat
from pipelines.params import Params

CONTEXT, VOCAB = 256, 2048
END = "<|endoftext|>"
PARTS = 100_000
"""Of the time, for the learning rate."""
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
    parser.add_argument("--peer-batches", type=int, nargs="*", default=[2, 4, 8], help="batch sizes of the peer")
    parser.add_argument("--batch", type=int, help="batch size of ours; default: that of the profile")
    parser.add_argument("--seed", type=int, default=7)
    settings = parser.parse_args()
    data = _read(settings.data / "pretrain")
    rows = [_ours(settings, _params(settings), data)]
    rows += [_peer(settings, size, data) for size in settings.peer_batches]
    print(f"{'':28} {'parameters':>10} {'tokens seen':>12} {'seconds':>8} {'tokens/s':>9} {'bits per byte':>14}")
    for row in rows:
        speed = row["tokens"] / row["seconds"]
        print(
            f"{row['name']:28} {row['parameters']:10,} {row['tokens']:12,} {row['seconds']:8.1f} {speed:9,.0f}", end=""
        )
        print(f" {row['bits_per_byte']:14.3f}")
    RESULTS.parent.mkdir(exist_ok=True)
    found = {"seconds": settings.seconds, "threads": torch.get_num_threads(), "seed": settings.seed, "rows": rows}
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _params(settings: argparse.Namespace) -> Params:
    """params.yaml with the profile for real text over it."""
    values = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    profile = profiles.read(Path("profiles/tinystories.yaml"), {"DATA": str(settings.data)})
    if settings.batch:
        profile["pretraining"]["batch_size"] = settings.batch
    return schema.parse(profiles.merge(values, profile, "profiles/tinystories.yaml"))


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


class Clock:
    """Counts the seconds of one run; the schedules follow it, so that each side's cosine ends with its time."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.began = seconds, time.perf_counter()

    @property
    def spent(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self.began

    @property
    def share(self) -> float:
        """Of the time that is given, at most 1."""
        return min(1.0, self.spent / self.seconds)

    def run(self, steps: Iterator[object]) -> int:
        """Take steps until the time is up; return how many."""
        done = 0
        for _ in steps:
            done += 1
            if self.share >= 1:
                break
        return done


def _ours(settings: argparse.Namespace, params: Params, data: Data) -> Row:
    """Model, batches, loss, optimiser and schedule of the stage pretraining, with the values of the profile."""
    where = device.prepare(settings.seed, params.threads)
    chosen, precision = params.pretraining, device.precision(params.pretraining.precision)
    model = llama(params.model, vocab_size=VOCAB, eos=data.end, pad=data.pad).to(where)
    attention.use_fastest(model, device=where, context=chosen.context)
    optimizer = optimizers.build(chosen.optimizer, model, weight_decay=chosen.weight_decay)
    packed = batches.Packed(data.train, chosen.context, chosen.batch_size, settings.seed, data.end)
    clock = Clock(settings.seconds)
    steps = training.train(
        lambda batch: training.next_token_loss(model, batch, device=where, precision=precision),
        packed,
        optimizer,
        schedule=lambda _step: warmup_cosine(
            round(clock.share * PARTS),
            steps=PARTS + 1,
            peak=chosen.learning_rate,
            warmup_share=chosen.warmup_share,
            final_share=chosen.final_learning_rate_share,
        ),
        steps=sys.maxsize,
        gradient_clip=chosen.gradient_clip,
    )
    done = clock.run(steps)
    return {
        "name": f"Moteur, batch {chosen.batch_size}",
        "parameters": model.num_parameters(),
        "tokens": done * chosen.batch_size * chosen.context,
        "seconds": clock.spent,
        "bits_per_byte": likelihood(model, data.valid, data.valid_bytes, CONTEXT).bits_per_byte,
    }


def _peer(settings: argparse.Namespace, size: int, data: Data) -> Row:
    device.prepare(settings.seed, None)
    model = gpt2_style.GPT2Style(vocab_size=VOCAB, context=CONTEXT, width=192, depth=6, heads=6)
    clock = Clock(settings.seconds)
    steps = gpt2_style.train(
        model, data.train, context=CONTEXT, batch_size=size, share=lambda: clock.share, seed=settings.seed
    )
    done = clock.run(steps)
    windows = batches.windows(data.valid, context=CONTEXT, batch_size=32, start_token=data.end)
    return {
        "name": f"GPT-2 style, batch {size}",
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "tokens": done * size * CONTEXT,
        "seconds": clock.spent,
        "bits_per_byte": gpt2_style.nats(model, windows) / math.log(2) / data.valid_bytes,
    }


if __name__ == "__main__":
    main()

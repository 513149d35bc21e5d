"""Bits per byte of held-out TinyStories after this many seconds of training: Moteur beside a GPT-2-style peer.

    python -m benchmarks.tinystories --data /path/to/data --seconds 180

`--data` is a folder with pretrain/tinystories.{train,valid}.txt.gz (stories parted by <|endoftext|>). Both sides have
the same tokenizer (byte-level BPE of 2,048 entries, trained on the training text), about 3 million parameters, a
context of 256 and the same seconds of training; measuring and set-up do not count. Ours has the values of params.yaml
and profiles/tinystories.yaml, the peer those of its recipe. Learning rates follow the clock, so that each cosine ends
with the time. Held-out text is read in windows of 256, every token predicted once.
"""

import argparse
import gzip
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from benchmarks import gpt2_style, learner, runs
from flows.workspaces import profiles
from pipelines import params as schema
from pipelines.adapters import device
from pipelines.core.judging.likelihood import likelihood
from pipelines.core.learning import batches
from pipelines.core.learning.schedules import warmup_cosine
from pipelines.core.text import bpe, chat
from pipelines.params import Params

CONTEXT, VOCAB = 256, 2048
END = "<|endoftext|>"
PARTS = 100_000
"""Of the time, for the learning rate."""


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
    data, chosen = _read(settings.data / "pretrain"), _params(settings)
    machine = runs.machine()
    turns = {f"Moteur, batch {chosen.pretraining.batch_size}": [_ours(settings, chosen, data)]}
    turns |= {f"GPT-2 style, batch {size}": [_peer(settings, size, data)] for size in settings.peer_batches}
    runs.write(
        "tinystories",
        how=f"Held-out TinyStories after {settings.seconds:g} s of training; seed {settings.seed}, one run of each.",
        machine=machine,
        comparisons=[
            runs.Comparison(
                title="3 million parameters, vocabulary of 2,048, context of 256",
                runs=turns,
                figure="bits_per_byte",
                columns={
                    "bits_per_byte": "bits per byte",
                    "tokens": "tokens seen",
                    "tokens_per_second": "tokens/s",
                    "parameters": "parameters",
                },
            )
        ],
        aims=[runs.Aim(what="bits per byte", found=next(iter(turns.values()))[0]["bits_per_byte"], at_most=1.05)],
    )


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


def _ours(settings: argparse.Namespace, params: Params, data: Data) -> runs.Figures:
    """Model, batches, loss, optimiser and schedule of the stage pretraining, with the values of the profile."""
    chosen = params.pretraining
    model, steps = learner.steps(
        params.model_copy(update={"seed": settings.seed}),
        data.train,
        vocab_size=VOCAB,
        end=data.end,
        pad=data.pad,
        schedule=lambda _step: warmup_cosine(
            round(clock.share * PARTS),
            steps=PARTS + 1,
            peak=chosen.learning_rate,
            warmup_share=chosen.warmup_share,
            final_share=chosen.final_learning_rate_share,
        ),
        count=sys.maxsize,
    )
    clock = Clock(settings.seconds)
    tokens = clock.run(steps) * chosen.batch_size * chosen.context
    spent, measured = clock.spent, likelihood(model, data.valid, data.valid_bytes, CONTEXT)
    return _figures(tokens, spent, measured.bits_per_byte, model.num_parameters())


def _peer(settings: argparse.Namespace, size: int, data: Data) -> runs.Figures:
    device.prepare(settings.seed, None)
    model = gpt2_style.GPT2Style(vocab_size=VOCAB, context=CONTEXT, width=192, depth=6, heads=6)
    clock = Clock(settings.seconds)
    steps = gpt2_style.train(
        model, data.train, context=CONTEXT, batch_size=size, share=lambda: clock.share, seed=settings.seed
    )
    tokens = clock.run(steps) * size * CONTEXT
    spent = clock.spent
    windows = batches.windows(data.valid, context=CONTEXT, batch_size=32, start_token=data.end)
    bits = gpt2_style.nats(model, windows) / math.log(2) / data.valid_bytes
    return _figures(tokens, spent, bits, sum(weight.numel() for weight in model.parameters()))


def _figures(tokens: int, seconds: float, bits_per_byte: float, parameters: int) -> runs.Figures:
    return {
        "bits_per_byte": bits_per_byte,
        "tokens": tokens,
        "tokens_per_second": tokens / seconds,
        "parameters": parameters,
    }


if __name__ == "__main__":
    main()

"""Speed of pretraining: Moteur beside the Hugging Face Trainer and a GPT-2-style loop.

    python -m benchmarks.pretraining
    python -m benchmarks.pretraining --sizes 3M 10M --seconds 30 --repeats 5

Every side trains a model of about the same size on rows of 256 tokens of the same text, in batches of as many tokens.
Ours is the loop of the stage with the values of params.yaml but for size and batch, once as shipped and once with AdamW
in the place of Muon, which does more work a step. The Trainer has the same Llama with transformers' own attention and
AdamW; the GPT-2-style loop (benchmarks/gpt2_style.py) is what nanoGPT does on a CPU by default: float32, no
compilation. The first steps of each run are left out.

In each turn the machine's matrix products are measured, too: those of our model's step, alone, in the same dtypes. A
side's model FLOP/s (benchmarks/flops.py) are held against those in its own dtype.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import learner, runs
from benchmarks.flops import Shape
from pipelines import params as schema
from pipelines import stage
from pipelines.adapters import device
from pipelines.core.learning.schedules import warmup_cosine
from pipelines.core.text import bpe, chat
from pipelines.core.world import corpus
from pipelines.params import Params

if TYPE_CHECKING:
    import torch

VOCAB, CONTEXT = 2048, 256
SIZES = {
    "1.5M": {"hidden_size": 128, "num_layers": 6, "num_heads": 4, "intermediate_size": 352},
    "3M": {"hidden_size": 192, "num_layers": 6, "num_heads": 6, "intermediate_size": 512},
    "10M": {"hidden_size": 320, "num_layers": 8, "num_heads": 10, "intermediate_size": 848},
    "30M": {"hidden_size": 512, "num_layers": 9, "num_heads": 8, "intermediate_size": 1376},
}
WARM_UP, LEAST = 3, 3
"""Steps that are not counted, and that are counted at least."""
STORIES = 4000
OURS, ADAMW = "Moteur", "Moteur, AdamW"


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every side is given."""

    model: dict[str, int]
    """Over the section `model` of params."""
    pretraining: dict[str, Any]
    """Over the section `pretraining`."""
    vocab: int
    tokens: str
    """A file of numpy with ids, `end` after each document."""
    end: int
    pad: int
    seconds: float
    packed: bool = True

    @property
    def params(self) -> Params:
        """params.yaml with the size, batch and context of the job."""
        values = stage.load_params(runs.ROOT / "params.yaml").model_dump(mode="json")
        values["model"] |= self.model
        values["pretraining"] |= self.pretraining
        return schema.parse(values)

    @property
    def step_tokens(self) -> int:
        """Tokens of a batch."""
        return int(self.pretraining["batch_size"] * self.pretraining["context"])

    def shape(self, *, gated: bool = True) -> Shape:
        """For the count of operations; without a gate the feed-forward is four times as wide as the model."""
        width, inner = self.model["hidden_size"], self.model["intermediate_size"]
        return Shape(
            width=width,
            layers=self.model["num_layers"],
            inner=inner if gated else 4 * width,
            vocab=self.vocab,
            gated=gated,
        )

    @property
    def row(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The ids."""
        found: np.ndarray[Any, np.dtype[np.int64]] = np.load(self.tokens)
        return found


def main() -> None:
    """Run every side in turn at every size, print the tables and keep them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=list(SIZES))
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side")
    parser.add_argument("--seconds", type=float, default=15.0, help="of steps, in each run")
    parser.add_argument("--batch", type=int, default=32, help="rows of a batch")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.side:
        job = Job(**json.loads(settings.job.read_text(encoding="utf-8")))
        print(json.dumps(SIDES[settings.side](job)))
        return
    machine = runs.machine(stage.load_params(runs.ROOT / "params.yaml").threads)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        held = text(Path(folder))
        for size in settings.sizes:
            job = Job(
                model=SIZES[size],
                pretraining={"batch_size": settings.batch, "context": CONTEXT},
                seconds=settings.seconds,
                **held,
            )
            found[size] = with_shares(runs.alternate(sides(job, Path(folder)), settings.repeats))
    runs.write(
        "pretraining",
        how=f"Rows of {CONTEXT} tokens of the built-in corpus, {settings.batch} a batch, vocabulary {VOCAB:,};"
        f" {settings.repeats} runs of each side in turn, {settings.seconds:g} s of steps each.",
        machine=machine,
        comparisons=[comparison(f"{size} parameters", turns) for size, turns in found.items()],
        aims=[aim for size, turns in found.items() if size in ("3M", "10M") for aim in _aims(size, turns)],
        notes=["Muon orthogonalises the update of each matrix; the AdamW row shows a step without that."],
    )


def text(folder: Path) -> dict[str, Any]:
    """Some of the built-in corpus as ids, with a tokenizer of its own."""
    texts = [document.text for document in corpus.documents(corpus.TalesSource(), "train", STORIES)]
    tokenizer = bpe.train(texts, VOCAB)
    end, pad = tokenizer.convert_tokens_to_ids([chat.END, chat.PAD])
    path = folder / "tokens.npy"
    np.save(path, np.array([token for ids in tokenizer(texts)["input_ids"] for token in [*ids, end]], dtype=np.int64))
    return {"vocab": VOCAB, "tokens": str(path), "end": end, "pad": pad}


def sides(job: Job, folder: Path) -> list[runs.Side]:
    """All sides of a job."""
    fast = str(device.precision("auto")).removeprefix("torch.")
    dtypes = list(dict.fromkeys(["float32", fast]))
    adamw = replace(job, pretraining={**job.pretraining, "optimizer": "adamw"})
    return [
        side(OURS, "ours", job, folder),
        side(ADAMW, "ours", adamw, folder),
        *(side(f"HF Trainer, {dtype}", f"trainer_{dtype}", job, folder) for dtype in dtypes),
        side("GPT-2 style, float32", "gpt2", job, folder),
        *(side(f"matrix products alone, {dtype}", f"gemm_{dtype}", job, folder) for dtype in dtypes),
    ]


def side(name: str, kind: str, job: Job, folder: Path) -> runs.Side:
    """One side, its job written to a file."""
    path = folder / f"{len(list(folder.iterdir()))}.json"
    path.write_text(json.dumps(asdict(job)), encoding="utf-8")
    return runs.Side(name=name, command=runs.ours("pretraining", "--side", kind, "--job", path))


def with_shares(turns: runs.Runs) -> runs.Runs:
    """With `share_of_gemm` of each run: its operations a second in percent of the same turn's matrix products."""
    gemm = {name.rsplit(", ", 1)[1]: one for name, one in turns.items() if name.startswith("matrix products")}
    fast = list(gemm)[-1]
    return {
        name: [
            {**run, "share_of_gemm": 100 * run["gflops"] / peak["gflops"]}
            for run, peak in zip(one, gemm.get(name.rsplit(", ", 1)[-1], gemm[fast]), strict=True)
        ]
        for name, one in turns.items()
    }


def comparison(title: str, turns: runs.Runs) -> runs.Comparison:
    """The table of one size."""
    return runs.Comparison(
        title=title,
        runs=turns,
        figure="tokens_per_second",
        columns={
            "tokens_per_second": "tokens/s",
            "gflops": "model GFLOP/s",
            "share_of_gemm": "% of the matrix products",
            "peak_mib": "MiB",
        },
        ours=OURS,
    )


def _aims(size: str, turns: runs.Runs) -> Iterator[runs.Aim]:
    def times(side: str) -> float:
        return median(runs.ratios(turns, OURS, side, "tokens_per_second"))

    peers = [name for name in turns if name.startswith("HF")]
    yield runs.Aim(what=f"{size}: times the GPT-2-style loop", found=times("GPT-2 style, float32"), at_least=2.5)
    yield runs.Aim(what=f"{size}: times the faster Trainer", found=min(map(times, peers)), at_least=1.25)
    if size == "10M":
        share = runs.middle(turns, OURS, "share_of_gemm")
        yield runs.Aim(what=f"{size}: % of the matrix products", found=share, at_least=45)


def _speed(job: Job, tokens_per_second: float, parameters: int, *, gated: bool = True) -> runs.Figures:
    operations = job.shape(gated=gated).per_token(job.pretraining["context"])
    return {
        "tokens_per_second": tokens_per_second,
        "gflops": tokens_per_second * operations / 1e9,
        "parameters": parameters,
    }


def timed(steps: Iterator[object], job: Job) -> float:
    """Tokens a second, the first steps left out."""
    for _ in range(WARM_UP):
        next(steps)
    _synchronised()
    start, done = time.perf_counter(), 0
    for _ in steps:
        done += 1
        if done >= LEAST and time.perf_counter() - start >= job.seconds:
            break
    _synchronised()
    return done * job.step_tokens / (time.perf_counter() - start)


def _synchronised() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _ours(job: Job) -> runs.Figures:
    learner.settle()
    params = job.params
    schedule = partial(
        warmup_cosine, steps=100_000, peak=params.pretraining.learning_rate, warmup_share=0.05, final_share=0.1
    )
    model, steps = learner.steps(
        params,
        job.row,
        vocab_size=job.vocab,
        end=job.end,
        pad=job.pad,
        schedule=schedule,
        count=sys.maxsize,
        packed=job.packed,
    )
    return _speed(job, timed(steps, job), model.num_parameters())


def _trainer(dtype: str, job: Job) -> runs.Figures:
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from pipelines.core.learning.architecture import llama

    torch.set_num_threads(job.params.threads or runs.cores())
    context = job.pretraining["context"]
    rows = torch.from_numpy(job.row[: len(job.row) // context * context].reshape(-1, context))
    model = llama(job.params.model, vocab_size=job.vocab, eos=job.end, pad=job.pad)
    times: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]  # transformers has no types
        def on_step_end(self, _arguments: Any, _state: Any, control: Any, **_: Any) -> None:
            if len(times) == WARM_UP - 1:
                _synchronised()
            times.append(time.perf_counter())
            counted = len(times) - WARM_UP
            control.should_training_stop = counted >= LEAST and times[-1] - times[WARM_UP - 1] >= job.seconds

        def on_train_end(self, *_: Any, **__: Any) -> None:
            _synchronised()
            times[-1] = time.perf_counter()

    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            per_device_train_batch_size=job.pretraining["batch_size"],
            max_steps=10**6,
            learning_rate=1e-3,
            lr_scheduler_type="cosine",
            bf16=dtype == "bfloat16",
            torch_compile=bool(job.pretraining.get("compile")),
            use_cpu=not torch.cuda.is_available(),
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        dataset = [{"input_ids": row, "labels": row} for row in rows]
        Trainer(model=model, args=arguments, train_dataset=dataset, callbacks=[Clock()]).train()
    counted = len(times) - WARM_UP
    return _speed(job, counted * job.step_tokens / (times[-1] - times[WARM_UP - 1]), model.num_parameters())


def _gpt2(job: Job) -> runs.Figures:
    import torch

    from benchmarks import gpt2_style

    torch.set_num_threads(job.params.threads or runs.cores())
    context = job.pretraining["context"]
    model = gpt2_style.GPT2Style(
        vocab_size=job.vocab,
        context=context,
        width=job.model["hidden_size"],
        depth=job.model["num_layers"],
        heads=job.model["num_heads"],
    )
    steps = gpt2_style.train(
        model, job.row, context=context, batch_size=job.pretraining["batch_size"], share=lambda: 0.0, seed=0
    )
    parameters = sum(weight.numel() for weight in model.parameters())
    return _speed(job, timed(steps, job), parameters, gated=False)


def _gemm(dtype: str, job: Job) -> runs.Figures:
    """Operations a second over the matrix products of one step: each shape by itself, as often as it occurs."""
    learner.settle()
    import torch

    where = device.prepare(0, job.params.threads)
    precision: torch.dtype = getattr(torch, dtype)
    tokens, operations, seconds = job.step_tokens, 0.0, 0.0
    shape = job.shape()
    share = job.seconds / (3 * len(shape.matrices))
    for rows, columns, count in shape.matrices:
        x = torch.randn(tokens, columns, device=where).to(precision)
        weight = torch.randn(rows, columns, device=where).to(precision)
        gradient = torch.randn(tokens, rows, device=where).to(precision)
        products: list[Callable[[], torch.Tensor]] = [
            partial(torch.mm, x, weight.T),
            partial(torch.mm, gradient, weight),
            partial(torch.mm, gradient.T, x),
        ]
        seconds += count * sum(_seconds(product, share) for product in products)
        operations += count * 6 * tokens * rows * columns
    return {"gflops": operations / seconds / 1e9}


def _seconds(product: "Callable[[], torch.Tensor]", limit: float) -> float:
    """Of one call: the median over this many seconds."""
    product()
    times: list[float] = []
    while sum(times) < limit or len(times) < LEAST:
        _synchronised()
        start = time.perf_counter()
        product()
        _synchronised()
        times.append(time.perf_counter() - start)
    return median(times)


SIDES: dict[str, Callable[[Job], runs.Figures]] = {
    "ours": _ours,
    "gpt2": _gpt2,
    **{f"trainer_{dtype}": partial(_trainer, dtype) for dtype in ("float32", "bfloat16")},
    **{f"gemm_{dtype}": partial(_gemm, dtype) for dtype in ("float32", "bfloat16")},
}


if __name__ == "__main__":
    main()

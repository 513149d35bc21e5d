"""What a checkpoint of pretraining costs: python -m benchmarks.checkpoints.

For the default model and one of 30 million parameters: the time of a training step on random tokens, the time of each
part of a checkpoint, the share of training time that goes into checkpoints at the default
`pretraining.checkpoint_every`, and from how many steps on between checkpoints that share is within its budget.
"""

import argparse
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pipelines import stage
from pipelines.adapters import device, files
from pipelines.adapters.checkpoints import TENSORS, Checkpoints
from pipelines.core.learning import attention, optimizers, training
from pipelines.core.learning.architecture import llama
from pipelines.core.learning.batches import Packed

RESULTS = Path(__file__).parent / "results" / "checkpoints.json"
SIZES: dict[str, dict[str, int]] = {
    "default": {},
    "30M": {"hidden_size": 512, "num_layers": 9, "num_heads": 8, "intermediate_size": 1376},
}
STEPS = {"default": 30, "30M": 6}
BUDGET = 0.02
"""Of training time."""
REPEATS = 5


def main() -> None:
    """Measure both, print, write."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    rows = {name: measured(name) for name in SIZES}
    parts = list(next(iter(rows.values()))["milliseconds"])
    print(
        f"{'':8} {'parameters':>11} {'MiB':>6} {'step':>9} "
        + "".join(f"{part:>12}" for part in parts)
        + f"{'share':>9}"
    )
    for name, row in rows.items():
        times = "".join(f"{value:9.0f} ms" for value in row["milliseconds"].values())
        head = f"{name:8} {row['parameters']:11,} {row['mebibytes']:6.0f} {row['milliseconds_per_step']:6.0f} ms "
        print(f"{head}{times} {row['share_of_training_time']:8.3%}{row['least_steps_between']:8} steps")
    files.write_json(RESULTS, {"cores": os.cpu_count(), "sizes": rows})


def measured(name: str) -> dict[str, Any]:
    """Parameters, bytes and times of one size; each time is the median."""
    import torch

    params = stage.load_params()
    settings, shape = params.pretraining, params.model.model_copy(update=SIZES[name])
    where, precision = device.prepare(0, params.threads), device.precision(settings.precision)
    model = llama(shape, vocab_size=params.tokenization.vocab_size, eos=1, pad=0).to(where)
    attention.use_fastest(model, device=where, context=settings.context)
    optimizer = optimizers.build(settings.optimizer, model, weight_decay=settings.weight_decay, precision=precision)
    row = torch.randint(2, params.tokenization.vocab_size, (200_000,)).numpy()
    steps = training.train(
        partial(training.next_token_loss, model, device=where, precision=precision),
        Packed(row, settings.context, settings.batch_size, 0),
        optimizer,
        schedule=lambda _step: 1e-3,
        steps=10**6,
        gradient_clip=settings.gradient_clip,
    )
    next(steps)
    step = statistics.median(seconds(lambda: next(steps)) for _ in range(STEPS[name]))
    with tempfile.TemporaryDirectory(dir=".") as scratch:
        parts, size = checkpoint(model, optimizer, Path(scratch))
    return {
        "parameters": model.num_parameters(),
        "mebibytes": size / 2**20,
        "milliseconds_per_step": step * 1000,
        "milliseconds": {part: value * 1000 for part, value in parts.items()},
        "share_of_training_time": parts["in all"] / (parts["in all"] + settings.checkpoint_every * step),
        "least_steps_between": math.ceil(parts["in all"] * (1 / BUDGET - 1) / step),
    }


def checkpoint(model: Any, optimizer: Any, folder: Path) -> tuple[dict[str, float], int]:
    """Seconds of each part of a checkpoint in which the best weights lie too, and the bytes of its tensors."""
    from safetensors.torch import save_file

    tensors: dict[str, Any] = {}

    def copy() -> None:
        tensors.update(training.state_of(model, optimizer))

    def sync() -> None:
        with (folder / TENSORS).open("rb") as file:
            os.fsync(file.fileno())

    copied = median(copy)
    tensors |= {f"best.{name}": tensor for name, tensor in training.weights_of(model).items()}
    found = {"copy": [copied], "write": [], "sync": [], "digest": [], "in all": []}
    with Checkpoints.opened("benchmark", {}, [], folder) as store:
        for repeat in range(REPEATS):
            found["write"].append(seconds(lambda: save_file(tensors, folder / TENSORS)))
            found["sync"].append(seconds(sync))
            found["digest"].append(seconds(lambda: files.sha256(folder / TENSORS)))
            found["in all"].append(copied + seconds(lambda: store.save(repeat + 1, tensors, {"curve": []})))  # noqa: B023
    return {part: statistics.median(times) for part, times in found.items()}, (folder / TENSORS).stat().st_size


def median(work: Callable[[], Any]) -> float:
    """Median seconds of some repeats."""
    return statistics.median(seconds(work) for _ in range(REPEATS))


def seconds(work: Callable[[], Any]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()

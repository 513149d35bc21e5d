"""Pretraining on a GPU: tokens a second and model FLOPs utilisation at 124 and 350 million parameters.

    python -m benchmarks.gpu

The sides of benchmarks/pretraining.py in bfloat16 with torch.compile and flash attention (torch's
scaled_dot_product_attention): ours with Muon and with AdamW, and the Hugging Face Trainer on the same model. Rows are
1,024 tokens of the built-in corpus in a vocabulary of 50,304; documents of a row see each other here, for the mask that
parts them keeps torch from its flash kernel. How much that costs is shown by one row more. Operations are held against
the card's published dense bfloat16 peak (MFU) and against its matrix products of the same shapes.

Without a GPU it says so and ends.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import pretraining, runs
from benchmarks.flops import published_peak

VOCAB, CONTEXT = 50_304, 1024
SIZES: dict[str, tuple[dict[str, int], int]] = {
    "124M": ({"hidden_size": 768, "num_layers": 12, "num_heads": 12, "intermediate_size": 2048}, 64),
    "350M": ({"hidden_size": 1024, "num_layers": 24, "num_heads": 16, "intermediate_size": 2736}, 32),
}
"""Model, and rows of a batch."""
APART = "Moteur, documents kept apart"


def main() -> None:
    """Run every side in turn at both sizes, print the tables and keep them; without a GPU say so."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=list(SIZES))
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side")
    parser.add_argument("--seconds", type=float, default=10.0, help="of steps, in each run")
    settings = parser.parse_args()
    machine = runs.machine()
    if machine["gpu"] is None:
        print("No GPU here: benchmarks.gpu is left out.")
        return
    found: dict[str, runs.Runs] = {}
    with tempfile.TemporaryDirectory() as folder:
        text = {**pretraining.text(Path(folder)), "vocab": VOCAB}
        for size in settings.sizes:
            turns = runs.alternate(sides(size, text, settings.seconds, Path(folder)), settings.repeats)
            found[size] = _with_mfu(pretraining.with_shares(turns), machine["gpu"])
    runs.write(
        "gpu",
        how=f"{machine['gpu']}; rows of {CONTEXT:,} tokens, vocabulary {VOCAB:,}, bfloat16, torch.compile;"
        f" {settings.repeats} runs of each side in turn, {settings.seconds:g} s of steps each.",
        machine=machine,
        comparisons=[_comparison(size, turns) for size, turns in found.items()],
        aims=list(_aims(found)),
    )


def sides(size: str, text: dict[str, Any], seconds: float, folder: Path) -> list[runs.Side]:
    """All sides of one size."""
    model, batch = SIZES[size]
    settings = {"batch_size": batch, "context": CONTEXT, "precision": "bfloat16", "compile": True}
    job = pretraining.Job(
        model={**model, "context": CONTEXT}, pretraining=settings, seconds=seconds, packed=False, **text
    )
    adamw = replace(job, pretraining={**settings, "optimizer": "adamw"})
    return [
        pretraining.side(pretraining.OURS, "ours", job, folder),
        pretraining.side(pretraining.ADAMW, "ours", adamw, folder),
        pretraining.side(APART, "ours", replace(job, packed=True), folder),
        pretraining.side("HF Trainer, bfloat16", "trainer_bfloat16", job, folder),
        pretraining.side("matrix products alone, bfloat16", "gemm_bfloat16", job, folder),
    ]


def _with_mfu(turns: runs.Runs, card: str) -> runs.Runs:
    peak = published_peak(card)
    if peak is None:
        return turns
    return {name: [{**run, "mfu": 1e11 * run["gflops"] / peak} for run in one] for name, one in turns.items()}


def _comparison(size: str, turns: runs.Runs) -> runs.Comparison:
    shown = pretraining.comparison(f"{size} parameters", turns)
    return replace(shown, columns={**shown.columns, "mfu": "MFU, %"})


def _aims(found: dict[str, runs.Runs]) -> Iterator[runs.Aim]:
    turns = found.get("350M", {})
    if "mfu" in turns.get(pretraining.OURS, [{}])[0]:
        yield runs.Aim(what="350M: MFU, %", found=runs.middle(turns, pretraining.OURS, "mfu"), at_least=50)


if __name__ == "__main__":
    main()

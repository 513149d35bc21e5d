"""What two jobs on one machine cost each other, by how long torch's threads spin while they wait.

    python -m benchmarks.two_jobs

A server and a retraining share a machine. The threads of GNU OpenMP, which torch brings, spin before they sleep while
they wait for each other; with as many threads as cores in each of two processes, a spinning thread holds the core that
the awaited one needs. The job is a training step of the default model, on random tokens.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "two_jobs.json"
LIMIT_SECONDS = 60.0
SETTINGS = {"default": {}, "1000 spins": {"GOMP_SPINCOUNT": "1000"}, "sleep at once": {"OMP_WAIT_POLICY": "PASSIVE"}}
STEPS = 40
JOB = f"""
import sys, time, torch
from pipelines import stage
from pipelines.adapters import device
from pipelines.core.learning import attention, batches, optimizers, training
from pipelines.core.learning.architecture import llama
params = stage.load_params()
where, precision = device.prepare(0, None), device.precision("auto")
model = llama(params.model, vocab_size=params.tokenization.vocab_size, eos=1, pad=0).to(where)
attention.use_fastest(model, device=where, context=params.pretraining.context)
row = torch.randint(2, params.tokenization.vocab_size, (100_000,)).numpy()
packed = batches.Packed(row, params.pretraining.context, params.pretraining.batch_size, 0)
steps = training.train(
    lambda batch: training.next_token_loss(model, batch, device=where, precision=precision), packed,
    optimizers.build("muon", model, weight_decay=0.1), schedule=lambda _: 1e-3, steps=10**6, gradient_clip=1.0)
for _ in range(5):
    next(steps)
print("ready", flush=True)
sys.stdin.readline()
began = time.perf_counter()
for _ in range({STEPS}):
    next(steps)
print((time.perf_counter() - began) / {STEPS} * 1000)
"""


def main() -> None:
    """Run one job, then two at once, under each setting."""
    rows = {name: [_slowest(added, jobs) for jobs in (1, 2)] for name, added in SETTINGS.items()}
    print(f"{'threads that wait':18} {'one job':>12} {'two jobs':>12} {'ratio':>7}")
    for name, (alone, beside) in rows.items():
        least = ">" if beside >= LIMIT_SECONDS * 1000 / STEPS else " "
        print(f"{name:18} {alone:9.0f} ms {least}{beside:8.0f} ms {beside / alone:6.1f}x")
    found = {"cores": os.cpu_count(), "milliseconds_per_step": rows}
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _slowest(added: dict[str, str], jobs: int) -> float:
    """Milliseconds a step of the slowest of `jobs` equal jobs at once, or the limit where one is not done."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    }
    command = [sys.executable, "-c", JOB]
    started = [
        subprocess.Popen(command, env=environment | added, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603  our own
        for _ in range(jobs)
    ]
    for job in started:
        if not job.stdout or job.stdout.readline() != "ready\n":
            raise RuntimeError("a job ended before it began: see what it says above")
    for job in started:
        if job.stdin:
            job.stdin.write("go\n")
            job.stdin.flush()
    return max(_milliseconds(job) for job in started)


def _milliseconds(job: "subprocess.Popen[str]") -> float:
    try:
        return float(job.communicate(timeout=LIMIT_SECONDS)[0])
    except subprocess.TimeoutExpired:
        job.kill()
        return LIMIT_SECONDS * 1000 / STEPS


if __name__ == "__main__":
    main()

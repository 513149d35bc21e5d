"""What two jobs on one machine cost each other, by how long torch's threads spin while they wait.

    python -m benchmarks.two_jobs

A server and a retraining share a machine. The threads of GNU OpenMP, which torch brings, spin before they sleep while
they wait for each other; with as many threads as cores in each of two processes, a spinning thread holds the core that
the awaited one needs. The job is a training step of the default model, on random tokens.
"""

import argparse
import os
import subprocess
import sys

from benchmarks import runs

LIMIT_SECONDS = 60.0
SETTINGS = {
    "default": {},
    "10000 spins": {"GOMP_SPINCOUNT": "10000"},
    "3000 spins": {"GOMP_SPINCOUNT": "3000"},
    "1000 spins": {"GOMP_SPINCOUNT": "1000"},
    "sleep at once": {"OMP_WAIT_POLICY": "PASSIVE"},
}
STEPS = 40
JOB = f"""
import sys, time, torch
from benchmarks import learner
from pipelines import stage
params = stage.load_params()
vocab = params.tokenization.vocab_size
_, steps = learner.steps(
    params, torch.randint(2, vocab, (100_000,)).numpy(), vocab_size=vocab, end=1, pad=0, schedule=lambda _: 1e-3,
    count=10**6, packed=False)
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
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    machine = runs.machine()
    runs.write(
        "two_jobs",
        how=f"{STEPS} steps of the default model, alone and beside a second process that does the same; a job that has"
        f" not ended after {LIMIT_SECONDS:g} s counts as {LIMIT_SECONDS * 1000 / STEPS:,.0f} ms.",
        machine=machine,
        comparisons=[
            runs.Comparison(
                title="Milliseconds a step, by what threads do that wait",
                runs={name: [_both(added)] for name, added in SETTINGS.items()},
                figure="two_jobs",
                columns={"two_jobs": "two jobs, ms", "one_job": "one job, ms", "ratio": "ratio"},
            )
        ],
    )


def _both(added: dict[str, str]) -> runs.Figures:
    alone, beside = (_slowest(added, jobs) for jobs in (1, 2))
    return {"one_job": alone, "two_jobs": beside, "ratio": beside / alone}


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

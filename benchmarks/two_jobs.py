"""What two jobs on one machine cost each other, by how torch's threads wait.

    python -m benchmarks.two_jobs

A server and a retraining share a machine. OpenMP's threads spin by default while they wait for each other; with as many
threads as cores in each of two processes, a spinning thread holds the core that the awaited one needs.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "two_jobs.json"
LIMIT_SECONDS = 120.0
JOB = """
import time, torch
hidden, weights = torch.randn(2048, 128), torch.randn(128, 352)
for _ in range(200):
    (hidden @ weights).relu_()
began = time.perf_counter()
for _ in range(2000):
    (hidden @ weights).relu_()
print(time.perf_counter() - began)
"""


def main() -> None:
    """Run one job, then two at once, with threads that spin and with threads that sleep."""
    rows = {policy: [_slowest(policy, jobs) for jobs in (1, 2)] for policy in ("ACTIVE", "PASSIVE")}
    print(f"{'OMP_WAIT_POLICY':16} {'one job':>10} {'two jobs':>10} {'ratio':>7}")
    for policy, (alone, beside) in rows.items():
        print(f"{policy:16} {alone:8.1f} s {beside:8.1f} s {beside / alone:6.1f}x")
    RESULTS.write_text(json.dumps({"cores": os.cpu_count(), "seconds": rows}, indent=2) + "\n", encoding="utf-8")


def _slowest(policy: str, jobs: int) -> float:
    """Seconds of the slowest of `jobs` equal jobs at once; `LIMIT_SECONDS` where one is not done by then."""
    environment = {**os.environ, "OMP_WAIT_POLICY": policy}
    started = [
        subprocess.Popen([sys.executable, "-c", JOB], env=environment, stdout=subprocess.PIPE, text=True)  # noqa: S603
        for _ in range(jobs)
    ]
    return max(_seconds(job) for job in started)


def _seconds(job: "subprocess.Popen[str]") -> float:
    try:
        return float(job.communicate(timeout=LIMIT_SECONDS)[0])
    except subprocess.TimeoutExpired:
        job.kill()
        return LIMIT_SECONDS


if __name__ == "__main__":
    main()

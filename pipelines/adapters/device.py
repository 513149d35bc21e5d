"""The machine: threads, seeds, precision, memory."""

import ctypes
import os
import random
import resource
import sys
from typing import TYPE_CHECKING, Literal

from pipelines.errors import ResourceError

if TYPE_CHECKING:
    import torch


EXCLUSIVE = {"GOMP_SPINCOUNT": "10000"}
"""For the environment of a process before it imports torch, where little else runs on the machine: how often threads
look while they wait for each other, before they sleep. As fast as GNU OpenMP's 300,000, which make two jobs on one
machine each many times as slow."""

SHARED = {"GOMP_SPINCOUNT": "1000"}
"""The same where a server and a retraining share the machine: a step may take half as long again alone, but two at once
are fair to each other."""


def prepare(seed: int, threads: int | None, *, local_rank: int = 0, local_size: int = 1) -> "torch.device":
    """Seed torch, numpy and random, set CPU threads, ask for deterministic kernels; return the device to use.

    Of `local_size` processes that share the machine each has its share of the cores, and a GPU of its own.

    Raises:
        ResourceError: when there are fewer GPUs than processes.
    """
    import numpy as np
    import torch

    _keep_freed_memory()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(threads or max(1, len(os.sched_getaffinity(0)) // local_size))
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if local_size == 1:
        return torch.device("cuda")
    if local_size > torch.cuda.device_count():
        raise ResourceError(
            f"{local_size} processes train together on this machine, which has {torch.cuda.device_count()} GPUs: lower"
            " pretraining.processes in params.yaml, or --nproc-per-node of torchrun."
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


MALLOPT = {"M_ARENA_MAX": (-8, 1), "M_MMAP_THRESHOLD": (-3, 32 << 20), "M_TRIM_THRESHOLD": (-1, 2**31 - 1)}
"""Settings of glibc's malloc: number and value."""


def _keep_freed_memory() -> None:
    """Let freed buffers wait for the next step instead of going back to the system.

    By default every large activation is mapped, faulted in page by page and unmapped again in each step: 4,800 faults,
    a fifth of the time of a step of a small model.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return  # not glibc
    for number, value in MALLOPT.values():
        mallopt(number, value)


def precision(setting: Literal["auto", "float32", "bfloat16"]) -> "torch.dtype":
    """The dtype of matrix products: `auto` is bfloat16 where the hardware computes in it."""
    import torch

    if setting == "float32":
        return torch.float32
    if setting == "bfloat16":
        return torch.bfloat16
    native = torch.cuda.is_bf16_supported() if torch.cuda.is_available() else _cpu_has_bfloat16()
    return torch.bfloat16 if native else torch.float32


def _cpu_has_bfloat16() -> bool:
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())  # noqa: SLF001  no public way


def peak_memory_mib() -> float:
    """Largest resident memory of this process so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)

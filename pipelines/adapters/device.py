"""The machine: threads, seeds, precision, memory."""

import os
import random
import resource
import sys
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch


def prepare(seed: int, threads: int | None) -> "torch.device":
    """Seed torch, numpy and random, set CPU threads, ask for deterministic kernels; return the device to use."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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

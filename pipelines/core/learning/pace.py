"""How fast a model is pretrained, beside its size: the settings that decide it."""

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.params import Params

MATTERS = (
    "objective",
    "init",
    "context",
    "batch_size",
    "microbatch_size",
    "processes",
    "optimizer",
    "precision",
    "compile",
)
"""Keys of section pretraining."""


def settings(params: "Params") -> dict[str, Any]:
    """Those settings, as plain values."""
    facts = {key: getattr(params.pretraining, key) for key in MATTERS}
    return {**facts, "architecture": params.model.architecture, "threads": params.threads}


def key(params: "Params") -> str:
    """A short name of them, for the ledger: the FLOPs of two runs tell their times apart when it is the same."""
    return hashlib.sha256(json.dumps(settings(params), sort_keys=True).encode()).hexdigest()[:12]

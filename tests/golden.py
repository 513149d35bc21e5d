"""The learning curve of a small fixed pretraining. `python -m tests.golden` writes it anew, for a change that is meant.

Order, first weights, schedule, optimiser and clipping are those of the stage. The tokens are drawn by whole numbers
here and every setting is given, so that the curve changes with the loop and with nothing else.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import pretraining
from pipelines.adapters import files, tokens
from pipelines.adapters.tracking import NullTracker
from pipelines.artifacts import Artifact
from tests import fixtures
from tests.learning import params

CURVE = Path(__file__).parent / "golden_curve.json"
VOCABULARY = 400
MODEL: Mapping[str, Any] = {
    "architecture": "llama",
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 2,
    "intermediate_size": 64,
    "context": 512,
    "tie_embeddings": True,
    "rope_theta": 500.0,
    "attention_bias": True,
    "look_back": [1],
    "initializer_range": 0.08,
    "value_output_correlation": 0.7,
}
SETTINGS: Mapping[str, Any] = {
    "objective": "causal",
    "init": None,
    "context": 32,
    "batch_size": 8,
    "microbatch_size": None,
    "processes": 1,
    "max_tokens": 20 * 8 * 32,
    "budget": None,
    "optimizer": "muon",
    "learning_rate": 0.01,
    "warmup_share": 0.2,
    "final_learning_rate_share": 0.1,
    "weight_decay": 0.1,
    "gradient_clip": 0.5,
    "precision": "float32",
    "compile": False,
    "evaluate_every": 10,
    "validation_tokens": 512,
    "patience": 10,
    "checkpoint_every": 10,
}


class Curve(NullTracker):
    """What is logged of each step."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.gradient_norms: list[float] = []

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Keep it."""
        self.losses.append(metrics["loss"])
        self.gradient_norms.append(metrics["gradient_norm"])


def prepare() -> None:
    """Write a tokenizer and tokens into the working directory."""
    tokenizer = fixtures.tiny_tokenizer(["of the text only the end token is needed"], VOCABULARY)
    tokenizer.add_tokens([f"entry {number}" for number in range(len(tokenizer), VOCABULARY)])
    tokenizer.save_pretrained(Artifact.TOKENIZER.path)
    Artifact.TOKENS.path.mkdir(parents=True)
    splits = {}
    for split, length in (("train", 4000), ("valid", 600), ("test", 600)):
        ids = np.array(_ids(length, tokenizer.eos_token_id))
        run = tokens.Encoded(ids=ids, num_bytes=3 * length, num_documents=length // 23)
        splits[split] = tokens.write_split(Artifact.TOKENS.path, split, [run], dtype="uint16", shard_tokens=1500)
    index = {"eos": tokenizer.eos_token_id, "vocab_size": VOCABULARY, "dtype": "uint16", "splits": splits}
    files.write_json(Artifact.TOKENS.path / tokens.INDEX, index)


def _ids(length: int, end: int) -> list[int]:
    """Documents of 23 tokens, in which most tokens follow from the one before."""
    state, ids = 1, [10]
    for place in range(1, length):
        state = (state * 1103515245 + 12345) % 2**31
        drawn = (state >> 16) % 16 == 0
        ids.append(end if place % 23 == 22 else 10 + (state >> 8 if drawn else ids[-1] * 5) % 200)
    return ids


def curve(**changes: Any) -> Curve:
    """Pretrain in the working directory, with some settings changed."""
    kept = Curve()
    pretraining.main(params(model=MODEL, pretraining={**SETTINGS, **changes}), kept)
    return kept


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        prepare()
        CURVE.write_text(json.dumps(vars(curve()), indent=2) + "\n", encoding="utf-8")

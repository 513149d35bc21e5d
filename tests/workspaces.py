"""Workspaces that several tests of stages begin with, in the working directory."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from pipelines import tokenization
from pipelines.adapters.tracking import NullTracker
from pipelines.artifacts import Artifact
from pipelines.core.judging import kl_axis
from pipelines.core.world.corpus import TalesSource, instruction_records
from tests import fixtures
from tests.learning import params, reward_model, write_model, write_validated

TOKENIZATION: Mapping[str, Any] = {"vocab_size": 400, "audit_samples": 10}


def aligned() -> dict[str, list[dict[str, Any]]]:
    """Write what PPO reads: instructions, which are returned, an instruction model and two reward models."""
    tales = {
        split: [asdict(record) for record in instruction_records(TalesSource(), split, count)]
        for split, count in (("train", 60), ("valid", 40))
    }
    tokenizer = fixtures.tiny_tokenizer([record["completion"] for record in tales["train"]])
    model = fixtures.tiny_model(tokenizer, context=512)
    write_model(Artifact.SFT.path, model, tokenizer)
    write_model(Artifact.REWARD.path, reward_model(model), tokenizer)
    write_model(Artifact.HELD_OUT_REWARD.path, reward_model(model, seed=2), tokenizer)
    write_validated(Artifact.VALIDATED.path, instructions=tales)
    return tales


def tokenized(folder: Path, *, stories: int = 300) -> Path:
    """Write what pretraining reads into `folder`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        fixtures.write_records(Artifact.VALIDATED.path, stories=stories)
        tokenization.main(params(tokenization=TOKENIZATION), NullTracker())
    return folder


def linked(made: Path) -> None:
    """Link what `tokenized` has written into the working directory."""
    Path("data").symlink_to(made / "data")
    Path("models").mkdir()
    Path("models/tokenizer").symlink_to(made / "models/tokenizer")


def take_the_last_policy(patch: pytest.MonkeyPatch) -> None:
    """Let PPO take the last policy: random reward models agree on nothing, and the choice by them has its own tests."""
    patch.setattr(kl_axis, "chosen", lambda examined, **_limits: examined[-1])

"""What the tests of feedback, reward modelling and policy optimisation share."""

import copy
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipelines import params as schema
from pipelines import stage
from pipelines.adapters import datasets, files, models
from pipelines.adapters.tracking import NullTracker

ROOT = Path(__file__).parent.parent


def reward_model(model: Any, seed: int = 1) -> Any:
    """A sequence classifier with the body of a causal model and a random head of one output."""
    import torch
    from transformers import LlamaForSequenceClassification

    torch.manual_seed(seed)
    config = copy.deepcopy(model.config)
    config.num_labels = 1
    made = LlamaForSequenceClassification(config).eval()
    made.model.load_state_dict(model.model.state_dict())
    return made


def params(**sections: Mapping[str, Any]) -> schema.Params:
    """The params of the repository on one thread, with some keys of some sections changed."""
    import yaml

    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["threads"] = 1
    for name, changes in sections.items():
        values[name] = {**values[name], **changes}
    return schema.parse(values)


def write_validated(
    folder: Path,
    *,
    instructions: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    preferences: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> None:
    """All nine files of a validated data folder, by kind and split; what is not given is empty."""
    for split in datasets.SPLITS:
        files.write_jsonl(datasets.file(folder, "corpus", split), [])
        files.write_jsonl(datasets.file(folder, "instructions", split), (instructions or {}).get(split, []))
        files.write_jsonl(datasets.file(folder, "preferences", split), (preferences or {}).get(split, []))


@contextmanager
def reward_functions(**modules: str) -> Iterator[Path]:
    """The folder `reward_functions` of the working directory with these modules, forgotten by Python afterwards."""
    folder = Path("reward_functions")
    folder.mkdir()
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    found, places = set(sys.modules), list(sys.path)
    try:
        yield folder
    finally:
        sys.path[:] = places
        for name in set(sys.modules) - found:
            if name.split(".")[0] == "reward_functions":
                del sys.modules[name]


def write_model(folder: Path, model: Any, tokenizer: Any) -> None:
    """A model folder."""
    models.save(model, tokenizer, folder)


class Stops:
    """Asks the process to stop once so much has been logged by its tracker: steps, or iterations of PPO."""

    def __init__(self, patch: pytest.MonkeyPatch, after: int) -> None:
        self.seen = 0
        self.seconds_before = 0.0
        """Of the runs from whose checkpoint this one went on, as the ledger is told."""
        self.resumed = 0
        """Units with which a bar began."""
        patch.setattr(stage, "preempted", lambda: self.seen >= after)

    def tracker(self) -> NullTracker:
        """Counts what it is told."""
        outer = self

        class Bar:
            def resume(self, amount: int) -> None:
                outer.resumed += amount

            def advance(self, amount: int = 1, **figures: float) -> None:
                pass

        class Counting(NullTracker):
            def log(self, metrics: Mapping[str, float], step: int) -> None:
                outer.seen += 1

            def effort(self, *, seconds: float = 0, **_: Any) -> None:
                outer.seconds_before += seconds

            @contextmanager
            def progress(self, what: str, total: int | None, unit: str) -> Iterator[Bar]:
                yield Bar()

        return Counting()

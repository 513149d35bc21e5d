"""A row of the table: figures of the test split that are those of the base model in the workspace."""

from pathlib import Path

import pytest
import yaml

from pipelines import architecture_comparison, pretraining, stage
from pipelines.adapters import models
from pipelines.adapters.tokens import TokenStore
from pipelines.adapters.tracking import NullTracker
from pipelines.artifacts import Artifact
from pipelines.core.judging.likelihood import likelihood
from tests import fixtures

QUICKLY = {"max_tokens": 10 * 8 * 64, "context": 64, "evaluate_every": 10, "precision": "float32"}
SMALL = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64, "context": 64}


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    fixtures.write_workspace(tmp_path, stories=120, model=SMALL, pretraining=QUICKLY, finetuning={"max_length": 64})
    values = yaml.safe_load((tmp_path / "params.yaml").read_text(encoding="utf-8"))
    values["reward_modeling"]["max_length"] = 64
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    tokenizer = models.load_tokenizer(tmp_path / Artifact.BASE)
    tokenizer.save_pretrained(str(tmp_path / Artifact.TOKENIZER))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trained(**changes):
    path = Path("params.yaml")
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key, value in changes.items():
        values["model" if key == "architecture" else "pretraining"][key] = value
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    params = stage.load_params()
    return pretraining.main(params, NullTracker()), architecture_comparison.main(params, NullTracker())


def test_bits_per_byte_and_accuracy_of_a_causal_model_are_those_of_the_whole_split(workspace):
    model, row = models.load_causal(Artifact.BASE.path), TokenStore.open(Artifact.TOKENS.path).split("test")
    measured = architecture_comparison.main(stage.load_params(), NullTracker())
    known = likelihood(model, row, row.num_bytes, 64)
    assert measured.bits_per_byte == pytest.approx(known.bits_per_byte, rel=1e-5)
    assert measured.num_asked == len(row)
    assert 0 <= measured.accuracy < 0.1


@pytest.mark.parametrize("architecture", ["lstm", "mlp"])
def test_a_baseline_is_loaded_and_measured_as_its_pretraining_measured_it(workspace, architecture):
    report, measured = trained(architecture=architecture)
    assert measured.architecture == architecture
    assert measured.bits_per_byte == pytest.approx(report.test_bits_per_byte, rel=1e-5)
    assert measured.num_parameters == report.num_parameters


@pytest.mark.parametrize("objective", ["masked", "span_corruption"])
def test_hidden_tokens_are_the_same_ones_that_pretraining_asked_for(workspace, objective):
    report, measured = trained(objective=objective)
    assert measured.bits_per_byte is None
    assert measured.accuracy == pytest.approx(report.test_accuracy, abs=1e-6)
    assert measured.loss == pytest.approx(report.test_loss, rel=1e-5)
    assert measured.num_asked == report.num_hidden_tokens

import pytest

from pipelines import finetuning_comparison, stage
from pipelines.adapters import models
from pipelines.adapters.tracking import NullTracker
from pipelines.artifacts import Artifact
from tests import fixtures


def test_a_model_is_asked_held_out_questions_and_its_likelihood_held_against_the_base(tmp_path, monkeypatch):
    fixtures.write_workspace(tmp_path, finetuning={"max_new_tokens": 8, "evaluation_records": 12})
    monkeypatch.chdir(tmp_path)
    tokenizer = models.load_tokenizer(Artifact.BASE.path)
    models.save(models.load_causal(Artifact.BASE.path), tokenizer, Artifact.SFT.path)
    same = finetuning_comparison.main(stage.load_params(), NullTracker())
    assert same.forgetting == 0
    assert same.num_records == 12
    assert same.exact_match_low <= same.exact_match <= same.exact_match_high
    tasks = {task: list(figures) for task, figures in same.by_task.items()}
    assert tasks == {
        "question_answering": ["exact_match", "token_f1"],
        "summarisation": ["rouge_l", "token_f1"],
    }
    assert sum(next(iter(figures.values()))["count"] for figures in same.by_task.values()) == same.num_records
    models.save(fixtures.tiny_model(tokenizer, seed=5), tokenizer, Artifact.SFT.path)
    other = finetuning_comparison.main(stage.load_params(), NullTracker())
    assert other.forgetting != pytest.approx(0, abs=1e-6)

import json
import shutil

import pytest

from pipelines import evaluation, stage
from pipelines.adapters import datasets, files, models
from pipelines.adapters.tracking import NullTracker
from pipelines.artifacts import Artifact
from pipelines.errors import DataError
from tests import fixtures

SETTINGS = {
    "examples_per_task": 12,
    "shots": [0, 2],
    "shot_examples": 6,
    "decoding_examples": 4,
    "win_rate_prompts": 8,
    "max_new_tokens": 16,
}


def with_gold(record):
    if record["task"] != "question_answering":
        return record
    return {**record, "gold": {"task": "question_answering", "answer": record["completion"]}}


def write_models(root):
    """An instruction model and a policy with other random weights than the base, and a reward model."""
    tokenizer = models.load_tokenizer(root / Artifact.BASE)
    for seed, artifact in ((1, Artifact.SFT), (2, Artifact.POLICY)):
        models.save(fixtures.tiny_model(tokenizer, seed=seed), tokenizer, root / artifact)
    models.save(models.with_reward_head(root / Artifact.SFT), tokenizer, root / Artifact.REWARD)


def workspace(root, monkeypatch, gold=True):
    fixtures.write_workspace(
        root, evaluation=SETTINGS, feedback={"tasks": ["question_answering"] if gold else ["summarisation"]}
    )
    path = datasets.file(root / Artifact.VALIDATED, "instructions", "test")
    files.write_jsonl(path, [with_gold(record) for record in list(files.read_jsonl(path))])
    write_models(root)
    monkeypatch.chdir(root)
    return stage.load_params()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluation")
    with pytest.MonkeyPatch.context() as patch:
        params = workspace(root, patch)
        report = evaluation.main(params, NullTracker())
    return root, report


def test_each_model_has_its_likelihood_and_forgetting_is_relative_to_the_base(done):
    _, report = done
    assert len({report.base_bits_per_byte, report.sft_bits_per_byte, report.policy_bits_per_byte}) == 3
    assert report.sft_forgetting == pytest.approx(report.sft_bits_per_byte / report.base_bits_per_byte - 1)
    assert report.policy_forgetting == pytest.approx(report.policy_bits_per_byte / report.base_bits_per_byte - 1)
    assert report.base_perplexity > 1


def test_tasks_are_scored_by_the_metric_that_suits_their_answers(done):
    _, report = done
    assert report.short_answer_tasks == ["question_answering"]
    assert set(report.tasks["sft"]["question_answering"]) == {"exact_match", "token_f1"}
    assert set(report.tasks["sft"]["summarisation"]) == {"rouge_l", "token_f1"}
    assert report.tasks["sft"]["question_answering"]["exact_match"]["count"] == 12
    for model in ("base", "sft", "policy"):
        for task in report.tasks[model].values():
            for figures in task.values():
                assert 0 <= figures["low"] <= figures["mean"] <= figures["high"] <= 1


def test_the_base_is_asked_in_every_way_and_the_best_comes_first(done):
    _, report = done
    base = [row for row in report.shots if row["model"] == "base"]
    assert {(row["style"], row["shots"]) for row in base} == {(s, n) for s in ("plain", "chat") for n in (0, 2)}
    assert base[0]["mean"] == max(row["mean"] for row in base) == report.base_exact_match
    assert report.shots[-1]["model"] == "sft"
    assert report.shots[-1]["count"] == base[0]["count"]


def test_every_way_of_decoding_is_compared(done):
    _, report = done
    assert [row["name"] for row in report.decodings] == ["greedy", "temperature 0.7", "beam 4"]


def test_win_rates_count_the_same_prompts_by_reward_and_by_gold(done):
    _, report = done
    for rate in (report.win_rate_by_reward, report.win_rate_by_gold):
        assert rate.wins + rate.ties + rate.losses == 8
        assert rate.win_rate == pytest.approx((rate.wins + rate.ties / 2) / 8)
        assert rate.low <= rate.win_rate <= rate.high


def test_samples_show_all_models_and_gold_where_there_are_facts(done):
    root, _ = done
    rows = [json.loads(line) for line in (root / Artifact.SAMPLES).read_text().splitlines()]
    assert {row["task"] for row in rows} == {"question_answering", "summarisation"}
    for row in rows:
        assert {"id", "task", "prompt", "reference", "base", "sft", "policy", "gold"} == set(row)
        assert (row["gold"] is None) == (row["task"] == "summarisation")


def test_the_report_is_json_and_the_same_inputs_give_the_same_bytes(done, tmp_path, monkeypatch):
    root, report = done
    params = workspace(tmp_path, monkeypatch)
    again = evaluation.main(params, NullTracker())
    stage.write_report(report, tmp_path / "first.json")
    stage.write_report(again, tmp_path / "second.json")
    assert (tmp_path / "first.json").read_bytes() == (tmp_path / "second.json").read_bytes()
    assert (tmp_path / Artifact.SAMPLES).read_bytes() == (root / Artifact.SAMPLES).read_bytes()


def test_without_gold_facts_there_is_no_win_rate_by_gold_and_equal_models_tie(tmp_path, monkeypatch):
    params = workspace(tmp_path, monkeypatch, gold=False)
    shutil.rmtree(Artifact.POLICY.path)
    shutil.copytree(Artifact.SFT.path, Artifact.POLICY.path)
    report = evaluation.main(params, NullTracker())
    assert report.win_rate_by_gold is None
    assert report.win_rate_by_reward.ties == 8
    assert report.win_rate_by_reward.win_rate == 0.5
    assert report.policy_forgetting == report.sft_forgetting


def test_no_test_instruction_is_an_error_that_names_the_key(tmp_path, monkeypatch):
    params = workspace(tmp_path, monkeypatch)
    files.write_jsonl(datasets.file(Artifact.VALIDATED.path, "instructions", "test"), [])
    with pytest.raises(DataError, match=r"Give ingestion\.instructions a test source"):
        evaluation.main(params, NullTracker())

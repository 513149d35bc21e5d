import pytest

from pipelines.adapters import metrics
from pipelines.core.judging import scores

ANSWERS = ["The red ball.", "Ann and Ben went home", "", "kite"]
REFERENCES = [["red ball"], ["Ann went home with Ben", "They went home"], ["hill"], ["a drum", "The Kite!"]]


@pytest.mark.parametrize("metric", ["exact_match", "token_f1", "rouge_l"])
def test_the_modules_for_evaluate_agree_with_the_pure_scores(metric, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pure = getattr(scores, metric)
    expected = [pure(answer, accepted) for answer, accepted in zip(ANSWERS, REFERENCES, strict=True)]
    assert metrics.score(metric, ANSWERS, REFERENCES) == pytest.approx(expected)


def test_nothing_to_score_is_no_score():
    assert metrics.score("exact_match", [], []) == []


def test_the_values_are_in_the_order_of_the_answers():
    assert metrics.score("exact_match", ANSWERS[::-1], REFERENCES[::-1]) == [1, 0, 0, 1]

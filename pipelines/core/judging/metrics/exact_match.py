"""Share of answers that are an accepted one, but for case, articles and punctuation."""

import datasets
import evaluate

from pipelines.core.judging import scores as rules


class ExactMatch(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """Mean under `exact_match`, and under `scores` the value of each answer."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Share of answers that are an accepted one, but for case, articles and punctuation.",
            citation="Rajpurkar et al. 2016, arXiv:1606.05250",
            inputs_description="predictions: answers; references: for each answer a list of accepted ones",
            features=datasets.Features(
                {
                    "predictions": datasets.Value("string"),
                    "references": datasets.Sequence(datasets.Value("string")),
                }
            ),
        )

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float | list[float]]:
        scores = [rules.exact_match(*pair) for pair in zip(predictions, references, strict=True)]
        return {"exact_match": sum(scores) / len(scores), "scores": scores}

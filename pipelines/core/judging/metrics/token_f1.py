"""Overlap of the words of answer and reference, best over the accepted answers."""

import datasets
import evaluate

from pipelines.core.judging import scores as rules


class TokenF1(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """Mean under `token_f1`, and under `scores` the value of each answer."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Overlap of the words of answer and reference, best over the accepted answers.",
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
        scores = [rules.token_f1(*pair) for pair in zip(predictions, references, strict=True)]
        return {"token_f1": sum(scores) / len(scores), "scores": scores}

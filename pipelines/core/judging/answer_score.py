"""Scores of answers as a metric of the library `evaluate`, which loads this file by its path: no code is fetched."""

import datasets
import evaluate

from pipelines.core.judging import scores


class AnswerScore(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """Under `scores` what the function of `scores` that the configuration names says of each answer."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=getattr(scores, self.config_name).__doc__,
            citation="Rajpurkar et al. 2016, arXiv:1606.05250; Lin 2004, ROUGE: A Package for Automatic Evaluation",
            inputs_description="predictions: answers; references: for each answer a list of accepted ones",
            features=datasets.Features(
                {
                    "predictions": datasets.Value("string"),
                    "references": datasets.Sequence(datasets.Value("string")),
                }
            ),
        )

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, list[float]]:
        score = getattr(scores, self.config_name)
        return {"scores": [score(*pair) for pair in zip(predictions, references, strict=True)]}

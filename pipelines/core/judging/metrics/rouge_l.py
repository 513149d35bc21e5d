"""F-measure of the longest common subsequence of words, best over the accepted answers."""

import datasets
import evaluate
from rouge_score import rouge_scorer


class RougeL(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """Mean under `rouge_l`, and under `scores` the value of each answer."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="F-measure of the longest common subsequence of words, best over the accepted answers.",
            citation="Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries",
            inputs_description="predictions: answers; references: for each answer a list of accepted ones",
            features=datasets.Features(
                {
                    "predictions": datasets.Value("string"),
                    "references": datasets.Sequence(datasets.Value("string")),
                }
            ),
        )

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float | list[float]]:
        scorer = rouge_scorer.RougeScorer(["rougeL"])
        scores = [
            float(scorer.score_multi(accepted, answer)["rougeL"].fmeasure)
            for answer, accepted in zip(predictions, references, strict=True)
        ]
        return {"rouge_l": sum(scores) / len(scores), "scores": scores}

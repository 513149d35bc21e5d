"""The part of the report about the reward model: is it right, for whom, and as sure as it is right?"""

from collections.abc import Mapping
from typing import Any

from flows.reporting import charts
from flows.reporting.charts import Series


def part(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the template shows; None when the report has no calibration curve."""
    from markupsafe import Markup

    chart = calibration(report)
    if chart is None:
        return None
    return {
        "chart": Markup(chart),  # noqa: S704  our own SVG, its texts escaped
        "accuracies": accuracies(report),
        "parts": parts(report),
        "tasks": report.get("rewards_by_task", {}),
    }


def calibration(report: Mapping[str, Any]) -> str | None:
    """Accuracy over confidence as a chart, beside the diagonal; None when the report has no such curve."""
    bins = report.get("calibration") or []
    if not bins:
        return None
    measured = Series(
        name="reward model",
        points=[(row["confidence"], row["accuracy"]) for row in bins],
        colour=2,
        marks=True,
    )
    ideal = Series(name="as right as sure", points=[(0.5, 0.5), (1.0, 1.0)], colour=4)
    return charts.line_chart([measured, ideal], "confidence, sigmoid of the margin", "accuracy on held-out pairs")


def parts(report: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """(who, accuracy with interval and counts): each source, then each annotator."""
    rows = [("source " + name, figures) for name, figures in report.get("by_source", {}).items()]
    rows += [("labels by " + name, figures) for name, figures in report.get("by_annotator", {}).items()]
    return rows + [
        ("labels by those never trained on", figures) for figures in [report.get("unseen_annotators")] if figures
    ]


def accuracies(report: Mapping[str, Any]) -> list[tuple[str, float]]:
    """(which accuracy, value): of the model, of the one that judges, by length, and where length is no help."""
    names = (
        ("The model that teaches", "held_out_accuracy"),
        ("The held-out model", "held_out_model_accuracy"),
        ("Best reachable", "best_reachable_accuracy"),
        ("Preferring the longer response", "length_baseline_accuracy"),
        ("On pairs of similar length", "similar_length_accuracy"),
        ("On pairs whose longer response lost", "shorter_chosen_accuracy"),
    )
    return [(name, report[field]) for name, field in names if report.get(field) is not None]

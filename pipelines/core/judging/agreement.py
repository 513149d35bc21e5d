"""Do annotators agree beyond chance?"""

from collections.abc import Iterable


def krippendorff_alpha(labels: Iterable[tuple[str, str, float]]) -> float | None:
    """Krippendorff's alpha with the interval metric, which takes any number of coders and missing labels.

    Args:
        labels: (coder, item, value). Items with a single label say nothing about agreement and are left out.

    Returns:
        1: perfect agreement; 0: as by chance; below: systematic disagreement. None when no item has two labels.
        Source: Krippendorff 2004, Content Analysis, chapter 11.
    """
    from nltk.metrics.agreement import AnnotationTask
    from nltk.metrics.distance import interval_distance

    by_item: dict[str, list[tuple[str, str, float]]] = {}
    for label in labels:
        by_item.setdefault(label[1], []).append(label)
    shared = [label for group in by_item.values() if len({coder for coder, _, _ in group}) > 1 for label in group]
    return float(AnnotationTask(shared, distance=interval_distance).alpha()) if shared else None

"""Do annotators agree beyond chance?"""

from collections.abc import Iterable, Iterator, Sequence


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


def agreement_with_others(labels: Sequence[tuple[str, str, float]]) -> dict[str, float | None]:
    """Krippendorff's alpha of each coder with whoever else labelled the same items; None where nobody did.

    Each label of another coder to an item stands beside the coder's own label as a unit of two, so that what the
    others disagree on among themselves is not held against the coder.
    """
    by_item: dict[str, list[tuple[str, float]]] = {}
    for coder, item, value in labels:
        by_item.setdefault(item, []).append((coder, value))
    met: dict[str, list[tuple[float, float]]] = {coder: [] for coder in sorted({coder for coder, _, _ in labels})}
    for group in by_item.values():
        for coder, value in group:
            met[coder] += [(value, other) for somebody, other in group if somebody != coder]
    return {coder: krippendorff_alpha(_units(pairs)) for coder, pairs in met.items()}


def _units(pairs: Iterable[tuple[float, float]]) -> Iterator[tuple[str, str, float]]:
    for number, (own, other) in enumerate(pairs):
        yield "own", f"{number:09}", own
        yield "other", f"{number:09}", other

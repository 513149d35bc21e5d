"""Does a judge know how sure to be?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def expected_calibration_error(confidences: Sequence[float], correct: Sequence[float], *, bins: int = 10) -> float:
    """Mean distance between confidence and accuracy over equally wide bins of confidence, weighted by their size.

    Args:
        confidences: In [0, 1].
        correct: 1 where right, 0 where wrong, 0.5 where undecided.
        bins: Of [0, 1].

    Raises:
        ValueError: without values, or for a confidence outside [0, 1].

    Source: Guo et al. 2017, arXiv:1706.04599, equation 3.
    """
    sure, right = np.asarray(confidences, dtype=float), np.asarray(correct, dtype=float)
    if not len(sure) or not ((sure >= 0) & (sure <= 1)).all():
        raise ValueError("confidences must be at least one number, each in [0, 1]")
    bin_of = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = np.bincount(bin_of, weights=right - sure, minlength=bins)
    return float(np.abs(gaps).sum() / len(sure))


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Preferences of about the same confidence."""

    confidence: float
    """Mean."""
    accuracy: float
    count: int


def calibration_curve(margins: Sequence[float], *, bins: int = 10) -> list[Bin]:
    """How often a Bradley-Terry model is right, by how sure it is: equally wide bins of [0.5, 1], empty ones left out.

    Its mean gap, weighted by the counts, is `pairwise_calibration_error` for twice as many bins.
    """
    margin = np.asarray(margins, dtype=float)
    sure, right = 1 / (1 + np.exp(-np.abs(margin))), 0.5 + 0.5 * np.sign(margin)
    bin_of = np.minimum((sure * 2 * bins).astype(int), 2 * bins - 1)
    return [
        Bin(
            confidence=float(sure[bin_of == number].mean()),
            accuracy=float(right[bin_of == number].mean()),
            count=int((bin_of == number).sum()),
        )
        for number in np.unique(bin_of)
    ]


def pairwise_calibration_error(margins: Sequence[float], *, bins: int = 20) -> float:
    """Calibration error of a Bradley-Terry model that prefers one of two with probability sigmoid(|margin|).

    Args:
        margins: Reward of the response that was chosen less that of the rejected one; negative where the model errs.
        bins: Of [0, 1]; a preference is never less sure than 0.5, so half of them can be filled.
    """
    margin = np.asarray(margins, dtype=float)
    sure = 1 / (1 + np.exp(-np.abs(margin)))
    return expected_calibration_error(sure.tolist(), (0.5 + 0.5 * np.sign(margin)).tolist(), bins=bins)

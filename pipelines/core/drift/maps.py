"""A map of documents: two principal axes of their embeddings, and clusters named by the words that set them apart.

Shapes: N documents (reference first), D embedding width, C clusters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.core.drift import terms

AXES: Final = 8
"""Principal axes on which clusters are sought: the map shows the first two."""
ROUNDS: Final = 50


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A group of documents that lie together."""

    name: str
    """The words that set it apart."""
    reference_share: float
    """Of the reference's documents that lie in it."""
    window_share: float
    place: tuple[float, float]
    """Its middle on the map."""
    example: int | None
    """Number, within the window, of its document nearest to the middle; None when the window has none there."""


@dataclass(frozen=True, kw_only=True)
class Map:
    """Points of the map with their clusters, those that grew most first."""

    reference: NDArray[np.float64]
    """(documents, 2)"""
    window: NDArray[np.float64]
    clusters: tuple[Cluster, ...]


def draw(
    reference: NDArray[np.floating],
    window: NDArray[np.floating],
    texts: Sequence[str],
    *,
    clusters: int,
    seed: int,
) -> Map | None:
    """The map of two sets of embeddings; None when there is nothing to lay out.

    Args:
        reference: (N1, D), all finite.
        window: (N2, D), all finite.
        texts: Of all documents, reference first; clusters are named by their words.
        clusters: How many are sought.
        seed: Of the first centres.
    """
    points_ND = np.concatenate([reference, window]).astype(np.float64)
    if len(points_ND) < max(clusters, 3) or not len(window):
        return None
    places_NA = _principal(points_ND)
    if places_NA.shape[1] < 2:
        return None
    belongs_N, centres_CA = _grouped(places_NA, clusters, np.random.default_rng(seed))
    old = len(reference)
    found = [
        _cluster(number, belongs_N, centres_CA, places_NA, old, texts)
        for number in range(len(centres_CA))
        if (belongs_N == number).any()
    ]
    found.sort(key=lambda cluster: cluster.reference_share - cluster.window_share)
    return Map(reference=places_NA[:old, :2], window=places_NA[old:, :2], clusters=tuple(found))


def _principal(points_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places on the main axes, each divided by the deviation of the first so that figures are small (N, A)."""
    centred_ND = points_ND - points_ND.mean(axis=0)
    variances_D, axes_DD = np.linalg.eigh(centred_ND.T @ centred_ND / len(points_ND))
    order = np.argsort(-variances_D)[:AXES]
    order = order[variances_D[order] > 1e-12 * max(float(variances_D.max()), 1e-300)]
    axes_DA = axes_DD[:, order]
    axes_DA = axes_DA * np.where(axes_DA[np.abs(axes_DA).argmax(axis=0), np.arange(axes_DA.shape[1])] < 0, -1, 1)
    places_NA: NDArray[np.float64] = (centred_ND @ axes_DA) / np.sqrt(variances_D[order][:1])
    return places_NA


def _grouped(
    places_NA: NDArray[np.float64], clusters: int, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """k-means with spread first centres (Arthur and Vassilvitskii 2007)."""
    centres = [places_NA[rng.integers(len(places_NA))]]
    while len(centres) < clusters:
        nearest_N = _distances(places_NA, np.array(centres)).min(axis=1)
        total = float(nearest_N.sum())
        if total <= 0:
            break
        centres.append(places_NA[rng.choice(len(places_NA), p=nearest_N / total)])
    centres_CA = np.array(centres)
    belongs_N = _distances(places_NA, centres_CA).argmin(axis=1)
    for _ in range(ROUNDS):
        for number in range(len(centres_CA)):
            if (belongs_N == number).any():
                centres_CA[number] = places_NA[belongs_N == number].mean(axis=0)
        moved_N = _distances(places_NA, centres_CA).argmin(axis=1)
        if (moved_N == belongs_N).all():
            break
        belongs_N = moved_N
    return belongs_N, centres_CA


def _distances(places_NA: NDArray[np.float64], centres_CA: NDArray[np.float64]) -> NDArray[np.float64]:
    squared_NC: NDArray[np.float64] = ((places_NA[:, None] - centres_CA[None]) ** 2).sum(axis=2)
    return squared_NC


def _cluster(
    number: int,
    belongs_N: NDArray[np.intp],
    centres_CA: NDArray[np.float64],
    places_NA: NDArray[np.float64],
    old: int,
    texts: Sequence[str],
) -> Cluster:
    inside_N = belongs_N == number
    inside = [texts[row] for row in np.flatnonzero(inside_N).tolist()]
    outside = [texts[row] for row in np.flatnonzero(~inside_N).tolist()]
    words = [item.word for item in terms.carriers(outside, inside, most=60) if item.score > 0 and item.word.isalpha()]
    new = np.flatnonzero(inside_N[old:])
    nearest = None
    if len(new):
        nearest = int(new[_distances(places_NA[old:][new], centres_CA[number : number + 1])[:, 0].argmin()])
    return Cluster(
        name=", ".join(words[:3]) or "all alike",
        reference_share=float(inside_N[:old].mean()) if old else 0.0,
        window_share=float(inside_N[old:].mean()),
        place=(float(places_NA[inside_N, 0].mean()), float(places_NA[inside_N, 1].mean())),
        example=nearest,
    )

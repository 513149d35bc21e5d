"""The statistics of a comparison, each for all deals at once.

Shape suffixes: N pooled documents (reference first), P deals, V token types, D embedding width, K columns.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.core.drift.permutations import Deals

Floats = NDArray[np.float32]

BLOCK: Final = 1 << 24
"""Numbers in one intermediate result, 64 MiB."""
RIDGE: Final = 0.1
"""Share of the mean variance that is added to each axis: axes of almost no variance are not blown up to full size."""


def jensen_shannon(counts_NV: Floats, deals_PN: Deals) -> NDArray[np.float64]:
    """Jensen-Shannon divergence, in bits, between the token distributions of reference and window (Lin 1991).

    Args:
        counts_NV: How often each document has each token type.
        deals_PN: From `permutations.deals`. Whole documents are dealt, since the tokens of one depend on each other.

    Returns:
        One figure in [0, 1] a deal.
    """
    total_V = counts_NV.sum(axis=0)
    found = np.zeros(len(deals_PN))
    rows = max(1, BLOCK // max(counts_NV.shape[1], 1))
    for start in range(0, len(deals_PN), rows):
        window_PV = deals_PN[start : start + rows] @ counts_NV
        q_PV = _distributions(window_PV)
        p_PV = _distributions(total_V - window_PV)
        found[start : start + rows] = (
            _entropy(((p_PV + q_PV) / 2).astype(np.float32)) - (_entropy(p_PV) + _entropy(q_PV)) / 2
        )
    return np.clip(found, 0.0, 1.0)


def _distributions(sums_PV: Floats) -> Floats:
    shares_PV: Floats = (sums_PV / np.maximum(sums_PV.sum(axis=1, keepdims=True), 1)).astype(np.float32)
    return shares_PV


def _entropy(shares_PV: Floats) -> NDArray[np.float64]:
    logs_PV = np.log2(shares_PV, out=np.zeros_like(shares_PV), where=shares_PV > 0)
    entropies: NDArray[np.float64] = -np.einsum("pv,pv->p", shares_PV, logs_PV, dtype=np.float64)
    return entropies


def presence_difference(held_NV: Floats, deals_PN: Deals) -> NDArray[np.float64]:
    """Fourth-power norm, over words, of the standardised difference of the share of documents that hold the word.

    With d the difference of the shares and v = s (1 - s) the variance of the pooled share s, it is
    (sum of (d^2 / v)^2)^(1/4). A sum of squares drowns a few new words in the noise of all others, the maximum
    overlooks many small shifts; the fourth power sees both (compare the sums of powers of Xu, Lin, Wei and Pan 2016,
    doi:10.1093/biomet/asw029). The variance is that of the pooled documents, which no deal changes.

    Args:
        held_NV: 1 where a document holds a word, else 0; every word is held by some documents and not by all.
        deals_PN: From `permutations.deals`.
    """
    n = float(deals_PN[0].sum())
    m = deals_PN.shape[1] - n
    total_V = held_NV.sum(axis=0)
    share_V = total_V / (n + m)
    variance_V = share_V * (1 - share_V)
    found = np.zeros(len(deals_PN))
    rows = max(1, BLOCK // max(held_NV.shape[1], 1))
    for start in range(0, len(deals_PN), rows):
        sums_PV = deals_PN[start : start + rows] @ held_NV
        squares_PV = (sums_PV / n - (total_V - sums_PV) / m) ** 2 / variance_V
        found[start : start + rows] = np.einsum("pv,pv->p", squares_PV, squares_PV, dtype=np.float64) ** 0.25
    return found


def whitened(points_ND: Floats, ridge: float = RIDGE) -> Floats:
    """The points turned to the axes of their covariance, each axis divided by its deviation; axes without any left out.

    Hidden states vary a hundred times more along a few axes than along the rest, and those few would decide every
    distance. The covariance is that of the pooled documents, so it is the same for every deal.
    """
    centred_ND = (points_ND - points_ND.mean(axis=0)).astype(np.float64)
    variances_D, axes_DD = np.linalg.eigh(centred_ND.T @ centred_ND / max(len(points_ND), 1))
    kept = variances_D > 1e-10 * max(float(variances_D[-1]), 1e-30)
    scales_D = np.sqrt(variances_D[kept] + ridge * variances_D[kept].mean()) if kept.any() else variances_D[kept]
    turned_ND: Floats = (centred_ND @ axes_DD[:, kept] / scales_D).astype(np.float32)
    return turned_ND


def squared_distances(points_ND: Floats) -> Floats:
    """Squared Euclidean distances between all points (N, N)."""
    norms_N = np.einsum("nd,nd->n", points_ND, points_ND)
    squared_NN: Floats = np.clip(norms_N[:, None] + norms_N[None] - 2 * (points_ND @ points_ND.T), 0, None)
    return squared_NN


def gaussian_kernel(squared_NN: Floats) -> Floats:
    """Gaussian kernel whose squared bandwidth is the median squared distance.

    The median is taken over the pooled documents, so it is the same for every deal and the test stays exact
    (Gretton et al. 2012, Journal of Machine Learning Research 13, section 8).
    """
    between = squared_NN[np.triu_indices(min(len(squared_NN), 1000), 1)]
    median = float(np.median(between)) if len(between) else 0.0
    scale = median or float(between.mean() if len(between) else 0.0) or 1.0
    kernel_NN: Floats = np.exp(squared_NN / np.float32(-2 * scale))
    return kernel_NN


def squared_discrepancy(kernel_NN: Floats, deals_PN: Deals) -> NDArray[np.float64]:
    """Unbiased squared maximum mean discrepancy (Gretton et al. 2012, lemma 6); it may be below 0.

    Args:
        kernel_NN: Kernel values of all pairs; not changed.
        deals_PN: From `permutations.deals`.
    """
    n = float(deals_PN[0].sum())
    m = deals_PN.shape[1] - n
    centred_NN = kernel_NN - np.float32(kernel_NN.mean(dtype=np.float64))  # cancels, and keeps the sums small
    np.fill_diagonal(centred_NN, 0)
    sums_N = centred_NN.sum(axis=1, dtype=np.float64)
    within_P = np.einsum("pn,pn->p", deals_PN @ centred_NN, deals_PN, dtype=np.float64)
    touching_P = deals_PN @ sums_N
    apart_P = sums_N.sum() - 2 * touching_P + within_P
    found: NDArray[np.float64] = (
        apart_P / (m * (m - 1)) + within_P / (n * (n - 1)) - 2 * (touching_P - within_P) / (m * n)
    )
    return found


def kolmogorov_smirnov(values_N: NDArray[np.floating], deals_PN: Deals) -> NDArray[np.float64]:
    """Largest distance between the distribution functions of reference and window, in [0, 1].

    Unlike the asymptotic test it is exact with ties, which counts and shares have many of.
    """
    n = float(deals_PN[0].sum())
    m = deals_PN.shape[1] - n
    order_N = np.argsort(values_N, kind="stable")
    ordered_N = values_N[order_N]
    ends = np.flatnonzero(np.append(ordered_N[1:] != ordered_N[:-1], True))
    counts_PN = np.cumsum(deals_PN[:, order_N], axis=1, dtype=np.float32)[:, ends]
    gaps_PN = counts_PN * np.float32(1 / n + 1 / m) - ((ends + 1) / m).astype(np.float32)
    largest_P: NDArray[np.float64] = np.abs(gaps_PN).max(axis=1).astype(np.float64)
    return largest_P


def divergence_by_type(
    reference_V: NDArray[np.floating[Any]], window_V: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """What each token type adds to the Jensen-Shannon divergence of two count vectors (V), in bits."""
    p_V, q_V = (part.astype(np.float64) / max(float(part.sum()), 1.0) for part in (reference_V, window_V))
    mean_V = (p_V + q_V) / 2
    parts_V = np.zeros_like(mean_V)
    for share_V in (p_V, q_V):
        inside = share_V > 0
        parts_V[inside] += share_V[inside] / 2 * np.log2(share_V[inside] / mean_V[inside])
    return parts_V

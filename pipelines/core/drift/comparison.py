"""Compare a window with a reference: five tests on the same deals, one outcome.

| test | statistic | sees |
|---|---|---|
| tokens | Jensen-Shannon divergence of the token distributions | another mixture of the same words |
| words | fourth-power norm of the differences of the shares of documents that hold a word | a few new words |
| meaning | maximum mean discrepancy of the whitened embeddings | another use of the same words |
| perplexity | Kolmogorov-Smirnov distance of nats per byte | what the model predicts badly |
| descriptors | largest Kolmogorov-Smirnov distance over lengths, shares, ... | another shape |

Each is a permutation test and exact on its own; for the alarm their p-values are adjusted by Bonferroni.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.core.drift import multiple, permutations, statistics, terms
from pipelines.core.drift.permutations import Deals
from pipelines.core.drift.policy import Outcome
from pipelines.core.drift.sample import PERPLEXITY, Sample

Test = Literal["tokens", "words", "meaning", "perplexity", "descriptors"]
TESTS: Final[tuple[Test, ...]] = ("tokens", "words", "meaning", "perplexity", "descriptors")

MOST_TYPES: Final = 4096
"""Token types and words that are counted; of more the ones in fewest documents are left out."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a comparison is made."""

    alpha: float = 0.01
    """Probability of a false alarm of one comparison, over all its tests."""
    permutations: int = 1999
    """Random deals. (permutations + 1) x alpha / tests should be a whole number: then the tests use all of alpha."""
    min_documents: int = 50
    """With fewer documents on either side nothing is said."""
    max_missing_share: float = 0.05
    """A test with a greater share of documents without its figure says nothing; a descriptor is left out."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one test found. The figures are None where it says nothing."""

    test: Test
    outcome: Outcome
    p_value: float | None = None
    """Of this test alone."""
    alarm_p_value: float | None = None
    """Adjusted by Bonferroni over the tests of the comparison."""
    q_value: float | None = None
    """Adjusted by Benjamini-Hochberg over the tests of the comparison."""
    effect: float | None = None
    """The statistic less what chance alone gives on average."""
    own_variation: float | None = None
    """The effect that the reference shows against itself: only a greater one counts."""
    detail: str = ""
    """The column or word with the largest statistic, or why nothing is said."""


@dataclass(frozen=True, kw_only=True)
class ColumnFinding:
    """One descriptor, for the report."""

    column: str
    p_value: float
    q_value: float
    distance: float
    """Kolmogorov-Smirnov distance, in [0, 1]."""
    reference_median: float
    window_median: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A window beside its reference."""

    outcome: Outcome
    reference_documents: int
    window_documents: int
    findings: tuple[Finding, ...]

    @property
    def effects(self) -> dict[str, float]:
        """Test -> effect, of the tests that said something."""
        return {finding.test: finding.effect for finding in self.findings if finding.effect is not None}


@dataclass(frozen=True)
class _Measured:
    """One statistic for every deal."""

    statistic_P: NDArray[np.float64]
    detail: str = ""
    missing: str = ""
    """What could not be measured: then only a difference is an answer."""


class _Silent(Exception):  # noqa: N818  it is an answer, not an error
    """A test cannot say anything; the message is the reason."""


class _Pool:
    """Reference and window together, and the deals by the documents that a test can use."""

    def __init__(self, reference: Sample, window: Sample, settings: Settings, seed: int) -> None:
        self.reference, self.window, self.settings, self._seed = reference, window, settings, seed
        self._deals: dict[tuple[int, int], Deals] = {}

    def usable(self, mask_N: NDArray[np.bool_]) -> tuple[NDArray[np.intp], Deals]:
        """Pooled numbers of the documents that can be used, and the deals of them.

        Raises:
            _Silent: too few, or too many without the figure.
        """
        size = self._usable(mask_N)
        if size not in self._deals:
            rng = np.random.default_rng(self._seed)
            self._deals[size] = permutations.deals(*size, self.settings.permutations, rng)
        return np.flatnonzero(mask_N), self._deals[size]

    def lacks(self, mask_N: NDArray[np.bool_]) -> str:
        """Why so few documents cannot be used; empty when they can."""
        try:
            self._usable(mask_N)
        except _Silent as reason:
            return str(reason)
        return ""

    def _usable(self, mask_N: NDArray[np.bool_]) -> tuple[int, int]:
        in_reference = int(mask_N[: len(self.reference)].sum())
        in_window = int(mask_N[len(self.reference) :].sum())
        for side, usable, documents in (
            ("reference", in_reference, len(self.reference)),
            ("window", in_window, len(self.window)),
        ):
            if usable < max(2, self.settings.min_documents):
                raise _Silent(
                    f"the {side} has {usable} usable documents, at least {self.settings.min_documents} are needed"
                )
            if documents - usable > self.settings.max_missing_share * documents:
                raise _Silent(f"{documents - usable} of {documents} documents of the {side} have no figure")
        return in_reference, in_window

    def column(self, name: str) -> NDArray[np.float64]:
        """A column of both (N), to five decimals: logs and releases keep them to different precision."""
        both = np.concatenate([self.reference.columns[name], self.window.columns[name]])
        return both.astype(np.float64).round(5)

    def filled(self) -> NDArray[np.bool_]:
        """Which documents have tokens (N)."""
        return np.concatenate([np.diff(part.offsets) > 0 for part in (self.reference, self.window)])


def compare(
    reference: Sample,
    window: Sample,
    settings: Settings,
    *,
    seed: int,
    variation: Mapping[str, float] | None = None,
) -> Comparison:
    """Test whether `window` is drawn like `reference`.

    Args:
        reference: What is normal.
        window: What is judged.
        settings: Alpha and the rest.
        seed: Of the random deals.
        variation: Test -> the largest effect that accepted windows showed against this reference; what chance passes
            with probability alpha is the least in any case.
    """
    pool = _Pool(reference, window, settings, seed)
    measured: dict[Test, _Measured] = {}
    silent: dict[Test, str] = {}
    for test in TESTS:
        if not _is_measured(test, pool):
            continue
        try:
            measured[test] = _STATISTICS[test](pool)
        except _Silent as reason:
            silent[test] = str(reason)
    judged = _judged(measured, settings, variation or {})
    findings = tuple(
        judged[test] if test in judged else Finding(test=test, outcome="insufficient data", detail=silent[test])
        for test in TESTS
        if test in judged or test in silent
    )
    return Comparison(
        outcome=_outcome([finding.outcome for finding in findings]),
        reference_documents=len(reference),
        window_documents=len(window),
        findings=findings,
    )


def ratios(findings: Sequence[Finding]) -> dict[str, float]:
    """Test -> effect over own variation, of the tests that said something: above 1 it counts."""
    return {
        finding.test: finding.effect / finding.own_variation
        for finding in findings
        if finding.effect is not None and finding.own_variation
    }


def _outcome(outcomes: list[Outcome]) -> Outcome:
    """A difference is one whatever else is missing; "same" needs every test that is measured at all."""
    if "differs" in outcomes:
        return "differs"
    return "same" if outcomes and "insufficient data" not in outcomes else "insufficient data"


def _is_measured(test: Test, pool: _Pool) -> bool:
    parts = (pool.reference, pool.window)
    match test:
        case "tokens":
            return all(part.tokens is not None for part in parts)
        case "words":
            return all(bool(part.texts) or (part.tokens is not None and not len(part)) for part in parts)
        case "meaning":
            return all(part.embeddings is not None for part in parts)
        case "perplexity":
            return all(PERPLEXITY in part.columns for part in parts)
        case "descriptors":
            return bool(_descriptor_names(pool))


def _descriptor_names(pool: _Pool) -> list[str]:
    return [name for name in pool.reference.columns if name in pool.window.columns and name != PERPLEXITY]


def _judged(
    measured: Mapping[Test, _Measured], settings: Settings, variation: Mapping[str, float]
) -> dict[Test, Finding]:
    p_values = [permutations.p_value(item.statistic_P) for item in measured.values()]
    adjusted = zip(
        measured.items(), p_values, multiple.bonferroni(p_values), multiple.benjamini_hochberg(p_values), strict=True
    )
    found: dict[Test, Finding] = {}
    for (test, item), p_value, alarm, q_value in adjusted:
        effect = permutations.excess(item.statistic_P)
        own = max(permutations.chance(item.statistic_P, settings.alpha), variation.get(test, 0.0))
        differs = alarm <= settings.alpha and effect > own
        if item.missing and not differs:
            found[test] = Finding(test=test, outcome="insufficient data", detail=item.missing)
            continue
        found[test] = Finding(
            test=test,
            outcome="differs" if differs else "same",
            p_value=p_value,
            alarm_p_value=alarm,
            q_value=q_value,
            effect=effect,
            own_variation=own,
            detail=item.detail,
        )
    return found


def _tokens(pool: _Pool) -> _Measured:
    rows, deals_PN = pool.usable(pool.filled())
    assert pool.reference.tokens is not None  # noqa: S101  by _is_measured
    assert pool.window.tokens is not None  # noqa: S101
    types = _types(pool)
    counts_NV = np.concatenate([pool.reference.counts(types), pool.window.counts(types)])[rows]
    return _Measured(statistics.jensen_shannon(counts_NV, deals_PN))


def _types(pool: _Pool) -> NDArray[np.int64]:
    """The token types of both, at most `MOST_TYPES`: those with the highest counts."""
    assert pool.reference.tokens is not None  # noqa: S101  by _is_measured
    assert pool.window.tokens is not None  # noqa: S101
    both = np.concatenate([pool.reference.tokens, pool.window.tokens]).astype(np.int64)
    types, counts = np.unique(both, return_counts=True)
    return np.sort(types[np.argsort(-counts, kind="stable")[:MOST_TYPES]])


def _words(pool: _Pool) -> _Measured:
    texts = (*pool.reference.texts, *pool.window.texts)
    rows, deals_PN = pool.usable(np.array([bool(text.strip()) for text in texts], dtype=np.bool_))
    table = terms.presence([texts[row] for row in rows.tolist()], most=MOST_TYPES)
    if not table.words:
        raise _Silent("no word occurs in several documents")
    return _Measured(statistics.presence_difference(table.held_NV, deals_PN), _loudest(table, deals_PN[0] > 0))


def _loudest(table: terms.Presence, in_window_N: NDArray[np.bool_]) -> str:
    """The word with the largest standardised difference."""
    share_V = table.held_NV.mean(axis=0)
    difference_V = table.held_NV[in_window_N].mean(axis=0) - table.held_NV[~in_window_N].mean(axis=0)
    return table.words[int((difference_V**2 / (share_V * (1 - share_V))).argmax())]


def _meaning(pool: _Pool) -> _Measured:
    assert pool.reference.embeddings is not None  # noqa: S101  by _is_measured
    assert pool.window.embeddings is not None  # noqa: S101
    points_ND = np.concatenate([pool.reference.embeddings, pool.window.embeddings]).astype(np.float32)
    rows, deals_PN = pool.usable(np.asarray(np.isfinite(points_ND).all(axis=1)))
    whitened_ND = statistics.whitened(points_ND[rows])
    if not whitened_ND.shape[1]:
        raise _Silent("all embeddings are the same")
    kernel_NN = statistics.gaussian_kernel(statistics.squared_distances(whitened_ND))
    return _Measured(statistics.squared_discrepancy(kernel_NN, deals_PN))


def _finite(values_N: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(values_N), dtype=np.bool_)


def _perplexity(pool: _Pool) -> _Measured:
    values_N = pool.column(PERPLEXITY)
    rows, deals_PN = pool.usable(_finite(values_N))
    if np.ptp(values_N[rows]) == 0:
        raise _Silent(f"{PERPLEXITY} is {values_N[rows][0]:g} everywhere")
    return _Measured(statistics.kolmogorov_smirnov(values_N[rows], deals_PN))


def _descriptors(pool: _Pool) -> _Measured:
    columns = {name: pool.column(name) for name in _descriptor_names(pool)}
    lacks = {name: pool.lacks(_finite(values_N)) for name, values_N in columns.items()}
    names = [name for name, reason in lacks.items() if not reason]
    missing = "; ".join(f"{name}: {reason}" for name, reason in lacks.items() if reason)
    if not names:
        raise _Silent(next(iter(lacks.values())))
    values_NK = np.stack([columns[name] for name in names], axis=1)
    rows, deals_PN = pool.usable(np.asarray(np.isfinite(values_NK).all(axis=1)))
    varying = [place for place in range(len(names)) if np.ptp(values_NK[rows, place]) > 0]
    if not varying:
        raise _Silent("every descriptor has one value everywhere")
    distances_KP = np.stack([statistics.kolmogorov_smirnov(values_NK[rows, place], deals_PN) for place in varying])
    return _Measured(distances_KP.max(axis=0), names[varying[int(distances_KP[:, 0].argmax())]], missing)


_STATISTICS: Final[dict[Test, Callable[[_Pool], _Measured]]] = {
    "tokens": _tokens,
    "words": _words,
    "meaning": _meaning,
    "perplexity": _perplexity,
    "descriptors": _descriptors,
}


def compare_columns(reference: Sample, window: Sample, settings: Settings, *, seed: int) -> list[ColumnFinding]:
    """Every column by itself, for the report: those that changed most first; columns that say nothing are left out."""
    pool = _Pool(reference, window, settings, seed)
    found: list[dict[str, Any]] = []
    for name in [*_descriptor_names(pool), *([PERPLEXITY] if _is_measured("perplexity", pool) else [])]:
        values_N = pool.column(name)
        try:
            rows, deals_PN = pool.usable(_finite(values_N))
        except _Silent:
            continue
        if np.ptp(values_N[rows]) == 0:
            continue
        distance_P = statistics.kolmogorov_smirnov(values_N[rows], deals_PN)
        inside_N = deals_PN[0] > 0
        found.append(
            {
                "column": name,
                "p_value": permutations.p_value(distance_P),
                "distance": float(distance_P[0]),
                "reference_median": float(np.median(values_N[rows][~inside_N])),
                "window_median": float(np.median(values_N[rows][inside_N])),
            }
        )
    q_values = multiple.benjamini_hochberg([item["p_value"] for item in found])
    made = [ColumnFinding(**item, q_value=q_value) for item, q_value in zip(found, q_values, strict=True)]
    return sorted(made, key=lambda item: (item.p_value, -item.distance))

"""What carries a change: words, tokens, a map of the documents, examples. For people; nothing is decided here."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines.core.drift import maps, terms
from pipelines.core.drift.sample import Sample

WORDS, TOKENS, CLUSTERS, EXAMPLES = 16, 20, 7, 6
MOST_POINTS = 700
"""Points of each colour on the map: more hide each other."""


def describe(folder: Path, reference: Sample, window: Sample, *, quote: bool, seed: int) -> dict[str, Any]:
    """Words, tokens, map and examples as plain values; empty where the texts of either side are not kept.

    Args:
        folder: The release, whose tokenizer spells tokens.
        reference: What is normal.
        window: What is judged.
        quote: Show whole documents; those of people who asked something must not outlive the log.
        seed: Of the map.
    """
    if not reference.texts or not window.texts:
        return {}
    words = terms.carriers(reference.texts, window.texts, most=200)
    strong = [item for item in words if abs(item.score) >= 2.5]
    more = [item for item in strong if item.score > 0][:WORDS]
    kept = [*more, *[item for item in strong if item.score < 0][: WORDS - min(len(more), WORDS // 2)]] or words[:6]
    rising = {item.word: item.score for item in words if item.score > 2}
    return {
        "words": [asdict(item) for item in kept],
        "tokens": _tokens(folder, reference, window),
        "map": _map(reference, window, quote=quote, seed=seed),
        **({"examples": _examples(window.texts, rising), "old_examples": _old_examples(reference)} if quote else {}),
    }


def _tokens(folder: Path, reference: Sample, window: Sample) -> list[dict[str, Any]]:
    """The tokens with the largest parts of the Jensen-Shannon divergence."""
    import numpy as np
    from tokenizers import Tokenizer

    from pipelines.core.drift import statistics

    if reference.tokens is None or window.tokens is None:
        return []
    types = np.unique(np.concatenate([reference.tokens, window.tokens]).astype(np.int64))
    old_V, new_V = (part.counts(types).sum(axis=0) for part in (reference, window))
    parts_V = statistics.divergence_by_type(old_V, new_V)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [
        {
            "token": tokenizer.decode([int(types[place])], skip_special_tokens=False),
            "reference_share": float(old_V[place] / max(old_V.sum(), 1)),
            "window_share": float(new_V[place] / max(new_V.sum(), 1)),
            "bits": float(parts_V[place]),
        }
        for place in np.argsort(-parts_V, kind="stable")[:TOKENS].tolist()
    ]


def _map(reference: Sample, window: Sample, *, quote: bool, seed: int) -> dict[str, Any] | None:
    import numpy as np

    from pipelines.core.drift.sample import evenly

    if reference.embeddings is None or window.embeddings is None:
        return None
    rng = np.random.default_rng(seed)
    old, new = (
        evenly(part.take(np.flatnonzero(np.isfinite(part.embeddings).all(axis=1))), MOST_POINTS, rng)
        for part in (reference, window)
        if part.embeddings is not None
    )
    if old.embeddings is None or new.embeddings is None:
        return None
    drawn = maps.draw(old.embeddings, new.embeddings, [*old.texts, *new.texts], clusters=CLUSTERS, seed=seed)
    if drawn is None:
        return None
    return {
        "reference": drawn.reference.round(3).tolist(),
        "window": drawn.window.round(3).tolist(),
        "clusters": [
            {
                **asdict(cluster),
                "example": new.texts[cluster.example] if quote and cluster.example is not None else None,
            }
            for cluster in drawn.clusters
        ],
    }


def _examples(texts: Sequence[str], rising: dict[str, float]) -> list[dict[str, Any]]:
    """Documents with the most of what is new, each adding words that the ones before did not show."""
    held = [{word for word in _split(text) if word in rising} for text in texts]
    shown: set[str] = set()
    found = []
    for _ in range(EXAMPLES):
        gains = [sum(rising[word] for word in words - shown) for words in held]
        best = max(range(len(texts)), key=gains.__getitem__, default=None)
        if best is None or gains[best] <= 0:
            break
        found.append({"text": texts[best], "words": sorted(held[best])})
        shown |= held[best]
    return found


def _split(text: str) -> set[str]:
    return {word.strip(".,;:!?\"'()-").lower() for word in text.split()}


def _old_examples(reference: Sample) -> list[str]:
    """The documents of the reference that are nearest to its middle."""
    import numpy as np

    if reference.embeddings is None:
        return list(reference.texts[:3])
    points_ND = reference.embeddings.astype(np.float64)
    away_N = np.linalg.norm(points_ND - np.nanmean(points_ND, axis=0), axis=1)
    order = np.argsort(np.nan_to_num(away_N, nan=np.inf), kind="stable")
    return [reference.texts[row] for row in order[:3].tolist()]

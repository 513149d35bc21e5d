"""One window of traffic: beside the release's reference, and beside the accepted weeks once there are enough of them.

What people ask is never quite what the model was trained on. While nothing better is known the release's reference
decides; the accepted weeks take over as soon as there are some, and with them their own variation from week to week.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipelines.core.drift.comparison import Comparison, Settings, compare
from pipelines.core.drift.sample import Sample, evenly, joined

PAST = 20
"""Accepted windows whose effects are the release's variation from week to week; the largest of all only ever rises."""
ROUGH = 199
"""Random deals where only an effect is wanted and no p-value."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a window came to."""

    decided: Comparison
    """The comparison that decides."""
    by_release: Comparison
    """The one with the release's reference."""
    reference: Sample
    """What the window was compared with in the comparison that decides."""
    by_weeks: bool
    """The accepted weeks decided."""


def judge(
    release: Sample,
    weeks: Sequence[Sample],
    window: Sample,
    settings: Settings,
    *,
    past_effects: Sequence[Mapping[str, float]],
    most: int,
    seed: int,
) -> Judgement:
    """Compare a window with what is normal.

    Args:
        release: The release's reference.
        weeks: The accepted windows; empty while there are too few.
        window: What is judged.
        settings: Of the comparisons.
        past_effects: The effects of accepted windows against the release's reference, oldest first: the last `PAST`
            are its variation from week to week.
        most: Documents of all weeks together that are used.
        seed: Of the random deals and of the draw.
    """
    by_release = compare(release, window, settings, seed=seed, variation=largest(past_effects[-PAST:]))
    if len(weeks) < 2:
        return Judgement(decided=by_release, by_release=by_release, reference=release, by_weeks=False)
    rng = np.random.default_rng(seed)
    rough = replace(settings, permutations=ROUGH)
    own = [
        compare(evenly(joined([*weeks[:number], *weeks[number + 1 :]]), most, rng), week, rough, seed=seed).effects
        for number, week in enumerate(weeks)
    ]
    reference = evenly(joined(weeks), most, rng)
    by_weeks = compare(reference, window, settings, seed=seed, variation=largest(own))
    return Judgement(decided=by_weeks, by_release=by_release, reference=reference, by_weeks=True)


def largest(effects: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The largest effect of each test."""
    names = {name for effect in effects for name in effect}
    return {name: max(effect[name] for effect in effects if name in effect) for name in sorted(names)}

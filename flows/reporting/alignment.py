"""The part of the report about PPO: reward against KL, and what became of the gain along the way."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from flows.reporting import charts, shapes
from flows.reporting.charts import Series
from pipelines.artifacts import Artifact
from pipelines.core.judging.overoptimization import Law

REWARDS = (
    ("reward", "the reward model", 1),
    ("held_out_reward", "the held-out reward model", 2),
    ("gold", "the gold scorer", 3),
)
ROWS = (
    ("Reward", "reward"),
    ("Held-out reward", "held_out_reward"),
    ("Gold score", "gold"),
    ("Mean length, tokens", "mean_length"),
    ("Share finished", "finished"),
    ("Distinct responses", "distinct"),
)
SMOOTH = 40
"""Points of a fitted curve."""

Drawn = tuple[str, str, str]
"""Title, chart, what it shows."""


def part(ppo: Mapping[str, Any], curve: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, Any] | None:
    """Charts, the figures before and after, and why it stopped early if it did; None when there is nothing to draw.

    Args:
        ppo: The report of the stage.
        curve: Column -> (iteration, value), of the stage's curve.

    Raises:
        OtherVersion: when the report names a chosen policy that its axis does not have.
    """
    drawn = [each for each in (_axis(ppo), _iterations(curve)) if each]
    if not drawn:
        return None
    rows = [
        (label, ppo[f"{key}_before"], ppo[f"{key}_after"])
        for label, key in ROWS
        if ppo.get(f"{key}_before") is not None and ppo.get(f"{key}_after") is not None
    ]
    return {"charts": drawn, "rows": rows, "stopped": ppo.get("stopped")}


def _iterations(curve: Mapping[str, Sequence[tuple[float, float]]]) -> Drawn | None:
    kl, reward = dict(curve.get("kl", [])), dict(curve.get("reward", []))
    points = [(kl[step], reward[step]) for step in sorted(kl.keys() & reward.keys())]
    if not points:
        return None
    line = Series(name="PPO iterations", points=points, colour=1, marks=True)
    chart = charts.line_chart([line], "KL from the instruction model, nats", "mean reward")
    return "While it learnt", chart, "One point an iteration, on the prompts of its rollout."


def _axis(ppo: Mapping[str, Any]) -> Drawn | None:
    """Gains of each reward over the root of the divergence, with the law fitted to each; the chosen policy marked."""
    axis, spreads = ppo.get("axis", []), ppo.get("spreads", {})
    if len(axis) < 2:
        return None
    lines: list[Series] = []
    for key, name, colour in REWARDS:
        if axis[0].get(key) is None or not spreads.get(key):
            continue
        gains = [(_root(point["kl"]), (point[key] - axis[0][key]) / spreads[key]) for point in axis]
        lines.append(Series(name=name, points=sorted(gains), colour=colour, marks=True))
        if law := ppo.get("laws", {}).get(key):
            fitted = _fitted(Law(**law), max(root for root, _ in gains), spreads[key])
            lines.append(Series(name=name, points=fitted, colour=colour, dashed=True))
    chosen = next((point for point in axis if point["updates"] == ppo.get("chosen_updates")), None)
    if chosen is None:
        raise shapes.OtherVersion(
            f"{Artifact.PPO_REPORT} is of another version (chosen_updates names no policy of its axis)."
            " `moteur run --from ppo` writes it again."
        )
    chart = charts.line_chart(
        lines, "root of the KL divergence, nats", "gain, deviations", mark=(_root(chosen["kl"]), "chosen")
    )
    return "On held-out prompts", chart, _told(ppo, chosen)


def _root(kl: float) -> float:
    """An estimate of a small divergence may lie a little below 0."""
    return math.sqrt(max(kl, 0.0))


def _fitted(law: Law, furthest: float, spread: float) -> list[tuple[float, float]]:
    roots = [furthest * number / SMOOTH for number in range(SMOOTH + 1)]
    return [(root, law.gain(root**2) / spread) for root in roots]


def _told(ppo: Mapping[str, Any], chosen: Mapping[str, Any]) -> str:
    text = (
        "Gain over the instruction model in deviations of its own responses; dashed, the law d (alpha - beta log d)"
        " fitted to it (Gao et al. 2022)."
    )
    if chosen["updates"]:
        done = f"{chosen['updates']} of {ppo['iterations']} iterations"
        text += f" Chosen: the policy after {done}, at {chosen['kl']:.1f} nats"
    else:
        text += (
            " Chosen: the instruction model itself, as no policy was worth its divergence (ppo.kl_price) and kept the"
            " length of its responses (ppo.max_length_change)"
        )
    best = ppo.get("share_of_best_gold")
    return text + (f", with {100 * best:.1f} % of the best gold score on the curve." if best else ".")

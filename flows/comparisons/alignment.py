"""`moteur compare alignment`: methods of alignment on one instruction model, with the same prompts, pairs, budget."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.comparisons import methods
from flows.comparisons.methods import Page
from flows.reporting import charts
from flows.reporting.charts import Series
from flows.stages import figures
from pipelines.artifacts import Artifact, State

Say = Callable[[str], None]
NAME = "alignment"
OTHERS = ("dpo", "grpo", "rloo", "best-of-n")
REWARD_ALONE: dict[str, Any] = {"reward_model_weight": 1.0, "reward_functions": []}
"""Of section ppo: all methods are rewarded by the reward model and nothing else."""
QUICK = {"iterations": 4, "evaluation_prompts": 100}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method."""

    report: Mapping[str, Any]
    seconds: float
    peak_memory_mib: float


def run(root: Path, say: Say, *, quick: bool) -> Path:
    """Run what has not run yet; write the page, show the table; return the page."""
    overrides = {"ppo": {**REWARD_ALONE, **(QUICK if quick else {})}}
    inputs = sorted({*methods.reads(root, "ppo"), Artifact.PREFERENCES.path})
    folder = methods.folder(NAME, quick=quick)
    say(f"[1/{len(OTHERS) + 1}] ppo")
    place = methods.scratch(root, folder, "ppo", overrides, inputs)
    trained = place.outcome("ppo", Artifact.PPO_REPORT.value)
    budget = f"{trained.flops:.6g}"
    measured = place.outcome("alignment_comparison", State.MEASURED.value, "ppo", budget)
    steps = trained.report["iterations"]
    rows = [
        Row(
            report={**measured.report, "steps": steps},
            seconds=trained.seconds,
            peak_memory_mib=trained.peak_memory_mib,
        )
    ]
    for number, method in enumerate(OTHERS, 2):
        say(f"[{number}/{len(OTHERS) + 1}] {method}, {figures.short(trained.flops)} operations as ppo")
        place = methods.scratch(root, folder, method, overrides, inputs)
        made = place.outcome("alignment_comparison", State.MEASURED.value, method, budget)
        if made.again:
            say("      finished before")
        rows.append(Row(report=made.report, seconds=made.seconds, peak_memory_mib=made.peak_memory_mib))
        page = drawn(rows, quick=quick)
        path = methods.write(page, {"quick": quick, "rows": [_values(row) for row in rows]})
    say(methods.table(page))
    return path


def _values(row: Row) -> dict[str, Any]:
    return {**row.report, "seconds": row.seconds, "peak_memory_mib": row.peak_memory_mib}


COLUMNS = (
    *("method", "gold gain (95 %)", "gold", "reward", "held-out reward", "KL, nats", "length", "finished"),
    *("operations", "steps", "time"),
)


def drawn(rows: Sequence[Row], *, quick: bool) -> Page:
    """The page."""
    first = rows[0].report
    base = {
        **{name: first[name] for name in first if name.endswith("_before")},
        "num_prompts": first["num_prompts"],
    }
    before = [
        *("sft", "-", _known(base["gold_before"]), figures.three(base["reward_before"])),
        *(figures.three(base["held_out_reward_before"]), "0", f"{base['length_before']:.1f}"),
        *(figures.share(base["finished_before"]), "-", "-", "-"),
    ]
    scored = "gold_after" if first["gold_after"] is not None else "reward_after"
    label = "gold score" if scored == "gold_after" else "reward"
    start = base[scored.replace("after", "before")]
    return Page(
        name=NAME,
        title="Methods of alignment",
        summary=[
            (
                f"One instruction model and reward model, the same prompts and pairs, and about as many floating-point"
                f" operations; measured on {first['num_prompts']} held-out prompts of the split test, one sampled"
                " response each."
            ),
            *(["A quick look: a part of the budget."] if quick else []),
        ],
        columns=COLUMNS,
        rows=[before, *map(_cells, rows)],
        figures={
            f"The {label} over the distance from the instruction model": charts.line_chart(
                [
                    Series(
                        name=row.report["method"],
                        points=[(0.0, start), (row.report["kl"], row.report[scored])],
                        colour=number % 5 + 1,
                        marks=True,
                    )
                    for number, row in enumerate(rows)
                ],
                "KL, nats a response",
                label,
            ),
            "Reward": charts.bar_chart(
                {row.report["method"]: {"gain": _gained(row)} for row in rows}, "gain in reward"
            ),
        },
        notes=[
            (
                "Operations: 2 N for each token in a forward pass and 4 N in a backward pass of a model of N weights,"
                " sampling and pretraining text included, padding not. The budget is what PPO spent; the others stop at"
                " the first step that reaches it. The reward model was trained before, at the same cost to all but DPO,"
                " which has no need of it."
            ),
            (
                "Best-of-n trains nothing: it spends its operations on each answer for ever. Here it is given the whole"
                " budget for the test prompts, and its KL is the upper bound log n - (n - 1) / n."
            ),
            (
                "The gain in gold score is held against the instruction model's responses to the same prompts with the"
                " same seed. KL of the others is the estimator k3, in nats a response."
            ),
        ],
    )


def _gained(row: Row) -> float:
    return float(row.report["reward_after"] - row.report["reward_before"])


def _known(value: float | None) -> str:
    return "-" if value is None else figures.three(value)


def _cells(row: Row) -> list[str]:
    said = row.report
    gain = said["gold_gain"]
    return [
        f"best of {said['candidates']}" if said["candidates"] > 1 else said["method"],
        "-" if gain is None else f"{gain:+.3f} ({said['gold_gain_low']:+.3f} to {said['gold_gain_high']:+.3f})",
        _known(said["gold_after"]),
        figures.three(said["reward_after"]),
        figures.three(said["held_out_reward_after"]),
        f"{'at most ' if said['candidates'] > 1 else ''}{said['kl']:.2f}",
        f"{said['length_after']:.1f}",
        figures.share(said["finished_after"]),
        figures.short(said["flops"]),
        str(said["steps"] or "-"),
        figures.duration(row.seconds),
    ]

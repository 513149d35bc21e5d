"""`moteur report`: reports/lifecycle.html, one page that needs no other file and no network."""

import csv
import math
from collections.abc import Callable, Container, Mapping, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

from flows.reporting import alignment, charts, diagnosis, rendering, reward_model, shapes
from flows.reporting.charts import Series
from flows.stages import figures, graph, ledger
from pipelines.adapters import lineage
from pipelines.artifacts import Artifact, Display

PATH = Display.LIFECYCLE.path
MAX_POINTS = 300
MAX_SAMPLES = 24
MODELS = ("base", "sft", "policy")

Reports = Mapping[str, Mapping[str, Any]]
T = TypeVar("T")


def write() -> Path:
    """Draw the page from what is in the workspace; a part that is missing says how to make it."""
    return rendering.write(PATH, "lifecycle.html.jinja", content())


def content() -> dict[str, Any]:
    """Everything the template shows."""
    from pipelines import stage

    params = stage.load_params()
    pipeline, built = graph.lifecycle(params), not params.ends_with_base
    reports = {name: report for name, report in ledger.reports().items() if name in pipeline.names}
    efforts = {name: entry for name, entry in ledger.last_finished().items() if name in pipeline.names}
    version = lineage.code_version()
    parts = _Parts(pipeline.names)
    return {
        "style": rendering.style("lifecycle.css"),
        "title": params.deployment.name,
        "ending": graph.ending(params),
        "commit": version["commit"][:12] + (" with changes" if version["dirty"] else ""),
        "written": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "headlines": headlines(parts, efforts),
        "changed": [name for name in pipeline.names if name in pipeline.stale],
        "graph": _drawn(lambda: charts.graph_chart(pipeline, lambda name: _lines(name, reports, efforts))),
        "data": parts.of("What was checked", "data_validation", checked),
        "curves": curves({out for node in pipeline.nodes for out in node.outs}, parts),
        "tasks": parts.of("Task scores", "evaluation", task_scores),
        "win_rates": parts.of("Win rates", "evaluation", win_rates) or [],
        "shots": parts.of("Examples in the prompt", "evaluation", lambda found: found.get("shots")),
        "decodings": parts.of("Ways of decoding", "evaluation", lambda found: found.get("decodings")),
        "reward": parts.of("Reward model", "reward_modeling", reward_model.part),
        "ppo": parts.made("Reward and KL", lambda: aligned(parts)) if built else None,
        "diagnosis": diagnosis.part() if built else None,
        "compression": parts.of("Compression", "compression", compression),
        "samples": parts.made("Samples side by side", samples) if built else None,
        "effort": effort(pipeline, efforts),
        "undrawn": parts.undrawn,
    }


class _Parts:
    """The parts of the page, and why some could not be drawn."""

    def __init__(self, stages: Container[str]) -> None:
        self._stages = stages
        self.undrawn: dict[str, list[str]] = {}
        """Why -> the titles of the parts."""

    def of(self, title: str, stage: str, draw: Callable[[Mapping[str, Any]], T]) -> T | None:
        """A part from the report of one stage; None when there is no report, or one of another version."""
        report = self.made(title, lambda: shapes.report(stage)) if stage in self._stages else None
        return self.made(title, lambda: draw(report)) if report is not None else None

    def made(self, title: str, make: Callable[[], T]) -> T | None:
        """A part of the page; None, with the reason kept, when what it is read from is of another version."""
        try:
            return make()
        except shapes.OtherVersion as error:
            titles = self.undrawn.setdefault(str(error), [])
            if title not in titles:
                titles.append(title)
            return None


def checked(report: Mapping[str, Any]) -> str:
    """What data validation found, in a sentence."""
    reasons = ", ".join(
        f"{reason.replace('_', ' ')} {number:,}" for reason, number in report["rejected_by_reason"].items() if number
    )
    return (
        f"{report['num_documents']:,} records checked, {report['num_rejected']:,} rejected"
        + (f" ({reasons})" if reasons else "")
        + f"; {report['expectations_met']} of {report['expectations_total']} expectations met."
    )


def _drawn(draw: Callable[[], str]) -> Any:
    from markupsafe import Markup

    return Markup(draw())  # noqa: S704  our own SVG, its texts escaped


def _lines(name: str, reports: Reports, efforts: Mapping[str, ledger.Entry]) -> tuple[str, str]:
    entry = efforts.get(name)
    time = figures.duration(entry["seconds"]) if entry else "not run here"
    first = figures.of(name, reports.get(name, {}))[:1]
    return time, " ".join(first[0]) if first else ""


Headline = tuple[str, str, str]
"""Label, figure, small print."""


def headlines(parts: _Parts, efforts: Mapping[str, ledger.Entry]) -> list[Headline]:
    """The figures at the top; those whose report or figure is missing are left out."""
    makers: Mapping[str, Callable[[Mapping[str, Any]], Headline | None]] = {
        "pretraining": _base_headline,
        "finetuning": _answers_headline,
        "reward_modeling": _reward_headline,
        "ppo": _alignment_headline,
        "compression": _release_headline,
    }
    found = [_effort_headline(efforts)] if efforts else []
    return found + [
        headline for stage, make in makers.items() if (headline := parts.of(f"Figures of {stage}", stage, make))
    ]


def _effort_headline(efforts: Mapping[str, ledger.Entry]) -> Headline:
    peak = max(entry["peak_memory_mib"] for entry in efforts.values()) / 1024
    total = sum(entry["seconds"] for entry in efforts.values())
    return "Whole lifecycle", figures.duration(total), f"at most {peak:.1f} GiB of memory"


def _base_headline(base: Mapping[str, Any]) -> Headline:
    size = figures.short(base["num_parameters"])
    if base["val_bits_per_byte"] is not None:
        return "Base model", size, f"parameters, {base['val_bits_per_byte']:.3f} bits per byte"
    restored = f", {figures.share(base['val_accuracy'])} of hidden tokens restored" if "val_accuracy" in base else ""
    return "Base model", size, f"parameters{restored}"


def _answers_headline(sft: Mapping[str, Any]) -> Headline | None:
    exact, guessed = sft["exact_match"], sft["exact_match_story_removed"]
    if exact is None:
        return None
    return "Exact match", figures.three(exact), "" if guessed is None else f"{guessed:.3f} with the text removed"


def _reward_headline(reward: Mapping[str, Any]) -> Headline:
    low, high = reward["held_out_accuracy_low"], reward["held_out_accuracy_high"]
    return "Reward accuracy", figures.three(reward["held_out_accuracy"]), f"95 %: {low:.3f} to {high:.3f}"


def _release_headline(small: Mapping[str, Any]) -> Headline:
    return "Release", figures.size(small["bytes"]), f"{small['chosen']}, {small['bytes_ratio']:.2f} of float32"


def _alignment_headline(policy: Mapping[str, Any]) -> Headline:
    kl = f"at {policy['kl']:.1f} nats KL"
    if policy.get("gold_gain") is not None:
        return "PPO, gold score", f"{policy['gold_gain']:+.3f}", kl
    return "PPO, reward", f"{policy['reward_after'] - policy['reward_before']:+.3f}", kl


def aligned(parts: _Parts) -> dict[str, Any] | None:
    """The part about PPO, from its report where there is one and its curve, which is there while it runs."""
    report = parts.of("Reward and KL", "ppo", lambda report: report)
    return alignment.part(report or {}, read_curve(Artifact.PPO_CURVE.path))


def read_curve(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Column -> (first column, value) where there is a finite value; empty when there is no such file.

    Raises:
        OtherVersion: when it is torn.
    """
    if not path.exists():
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = list(csv.reader(file)) or [[]]
            table = [[_number(text) for text in row] for row in rows]
    except (ValueError, csv.Error):
        raise shapes.OtherVersion(f"{path} is torn. The stage that wrote it writes it again.") from None
    return {
        column: [
            (row[0], row[place])
            for row in table
            if place < len(row) and math.isfinite(row[0]) and math.isfinite(row[place])
        ]
        for place, column in enumerate(header)
        if place
    }


def _number(text: str) -> float:
    return math.nan if text in ("", "None") else float(text)


def smooth(points: Sequence[tuple[float, float]], most: int = MAX_POINTS) -> list[tuple[float, float]]:
    """At most `most` points: the mean of each run of neighbours."""
    size = -(-len(points) // most)
    runs = [points[start : start + size] for start in range(0, len(points), size or 1)]
    return [(run[-1][0], sum(y for _, y in run) / len(run)) for run in runs]


CURVES: tuple[tuple[str, Artifact, tuple[tuple[str, str], ...], str, str], ...] = (
    ("Pretraining, loss", Artifact.PRETRAINING_CURVE, (("loss", "training"),), "step", "nats per token"),
    (
        "Pretraining, held out",
        Artifact.PRETRAINING_CURVE,
        (("val_bits_per_byte", "validation"),),
        "step",
        "bits per byte",
    ),
    ("Pretraining, held out", Artifact.PRETRAINING_CURVE, (("val_loss", "validation"),), "step", "nats a hidden token"),
    ("Fine-tuning, loss", Artifact.FINETUNING_CURVE, (("loss", "training"),), "step", "nats per token"),
    ("Reward model, loss", Artifact.REWARD_MODELING_CURVE, (("loss", "training"),), "step", "nats per pair"),
    ("PPO, reward", Artifact.PPO_CURVE, (("reward", "reward"),), "iteration", "mean reward"),
    ("PPO, divergence", Artifact.PPO_CURVE, (("kl", "KL"),), "iteration", "nats per response"),
)


def curves(outs: Container[str], parts: _Parts) -> list[tuple[str, Any]]:
    """(title, chart) for each curve among `outs` that is there; (title, None) for one that is not."""
    found: dict[str, Any] = {}
    for title, artifact, columns, x_label, y_label in CURVES:
        if artifact not in outs:
            continue
        curve = parts.made(title, lambda: read_curve(artifact.path)) or {}  # noqa: B023
        lines = [
            Series(name=name, points=smooth(curve[column]), colour=number, marks=len(curve[column]) < 40)
            for number, (column, name) in enumerate(columns, 1)
            if curve.get(column)
        ]
        chart = _drawn(lambda: charts.line_chart(lines, x_label, y_label)) if lines else None  # noqa: B023
        found[title] = chart or found.get(title)
    return list(found.items())


def task_scores(evaluation: Mapping[str, Any]) -> Any:
    """Bars for base, SFT and policy, a group for each task and one for all short answers together."""
    short = evaluation.get("short_answer_tasks", [])
    groups: dict[str, dict[str, float]] = {}
    for model in MODELS:
        if (score := evaluation.get(f"{model}_exact_match")) is not None:
            groups.setdefault("short answers", {})[model] = score
        for task, metrics in evaluation.get("tasks", {}).get(model, {}).items():
            metric = metrics.get("exact_match" if task in short else "rouge_l")
            if metric is not None:
                groups.setdefault(task, {})[model] = metric["mean"]
    return _drawn(lambda: charts.bar_chart(groups, "score")) if groups else None


def win_rates(evaluation: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """(judge, win rate of the policy over the instruction model), for the judges there are."""
    judges = (("the reward model", "win_rate_by_reward"), ("the gold scorer", "win_rate_by_gold"))
    return [(judge, evaluation[field]) for judge, field in judges if evaluation.get(field)]


def compression(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The candidates, the chosen one marked."""
    return [
        {**row, "is_chosen": row["name"] == report["chosen"], "size": figures.size(row["bytes"])}
        for row in report["candidates"]
    ]


def samples() -> list[dict[str, Any]]:
    """Some rows of reports/samples.jsonl, the tasks taking turns."""
    by_task: dict[str, list[dict[str, Any]]] = {}
    for row in shapes.samples(Artifact.SAMPLES.path):
        by_task.setdefault(row["task"], []).append(row)
    turns = zip_longest(*by_task.values())
    return [row for turn in turns for row in turn if row is not None][:MAX_SAMPLES]


def effort(pipeline: graph.Graph, efforts: Mapping[str, ledger.Entry]) -> list[dict[str, Any]]:
    """The table of time and effort: one row a stage, and the sum."""
    from pipelines.core.judging import budgets

    rows: list[dict[str, Any]] = []
    planned = ledger.planned(efforts.values())
    base = _Parts(pipeline.names).of("", "pretraining", lambda report: report["num_parameters"])
    for node in pipeline.nodes:
        entry = efforts.get(node.name)
        rows.append({"stage": node.name, "entry": entry, "planned": _planned_texts(planned.get(node.name))})
        if entry and entry["flops"] and base:
            rows[-1]["ratio"] = f"{entry['tokens'] / base:.2g}"
        if entry:
            rows[-1] |= _effort_texts(
                entry["seconds"], entry["flops"], entry["tokens"], entry["peak_memory_mib"], budgets
            )
    known = list(efforts.values())
    if known:
        total = _effort_texts(
            sum(entry["seconds"] for entry in known),
            sum(entry["flops"] for entry in known),
            sum(entry["tokens"] for entry in known),
            max(entry["peak_memory_mib"] for entry in known),
            budgets,
        )
        rows.append({"stage": "all", "entry": {"customisation": "", "objective": ""}, **total})
    return rows


def _planned_texts(planned: ledger.Planned | None) -> dict[str, str]:
    """What was expected, for the small print; empty where nothing was."""
    if planned is None:
        return {}
    writes = {"tokens": figures.short, "flops": lambda value: f"{value:.2e}", "seconds": figures.duration}
    return {key: write(planned[key]) for key, write in writes.items() if planned.get(key)}  # type: ignore[literal-required]


def _effort_texts(seconds: float, flops: float, tokens: float, memory: float, budgets: Any) -> dict[str, str]:
    return {
        "time": figures.duration(seconds),
        "flops": f"{flops:.2e}" if flops else "",
        "days": f"{budgets.petaflop_s_days(flops):.2e}" if flops else "",
        "tokens": figures.short(tokens) if tokens else "",
        "memory": f"{memory:,.0f} MiB",
    }

"""`moteur compare architectures`: objectives and architectures of pretraining on the same tokens, of about one size."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flows.comparisons import methods
from flows.comparisons.methods import Outcome, Page
from flows.reporting import charts
from flows.reporting.charts import Series
from flows.reporting.page import read_curve
from flows.stages import figures
from pipelines import stage
from pipelines.adapters import vocabulary
from pipelines.artifacts import Artifact, State
from pipelines.core.judging import budgets, sizes
from pipelines.params import Params

Say = Callable[[str], None]
NAME = "architectures"
QUICK: Mapping[str, Any] = {"max_tokens": 500_000, "evaluate_every": 40}
"""Fewer would mislead: attention is behind until it has learnt to copy, after some 400,000 (docs/decisions/0005)."""
SCRATCH: Mapping[str, Any] = {"init": None, "budget": None}
"""Of section pretraining: all begin with random weights, and see the tokens that the budget pays for of the Llama."""
LEARNT = {"causal": "the next token", "masked": "masked tokens", "span_corruption": "corrupted spans"}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One model with one optimiser and learning rate."""

    objective: str = "causal"
    architecture: str = "llama"
    optimizer: str | None = None
    """None: as in params.yaml, and so its learning rate."""
    learning_rate: float | None = None

    @property
    def name(self) -> str:
        """Of its scratch workspace."""
        kind = self.architecture if self.objective == "causal" else self.objective
        return " ".join(str(part) for part in (kind, self.optimizer, self.learning_rate) if part is not None)

    def overrides(self, small: Mapping[str, Any]) -> dict[str, Any]:
        """Over params.yaml, by section."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return {"model": {"architecture": given.pop("architecture")}, "pretraining": {**given, **SCRATCH, **small}}


METHODS: dict[str, tuple[Candidate, ...]] = {
    "llama": (Candidate(),),
    "lstm": (Candidate(architecture="lstm"), Candidate(architecture="lstm", optimizer="muon", learning_rate=0.02)),
    "rnn": (Candidate(architecture="rnn"), Candidate(architecture="rnn", optimizer="muon", learning_rate=0.02)),
    "mlp": (Candidate(architecture="mlp"), Candidate(architecture="mlp", optimizer="muon", learning_rate=0.02)),
    "bert": (Candidate(objective="masked"),),
    "t5": (Candidate(objective="span_corruption"),),
}
"""All go as params.yaml says, where the rate was found for the Llama; what has no attention is also tried with another,
and the one with the least loss on the split valid is measured."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model, its best candidate."""

    name: str
    candidate: Candidate
    trained: Outcome
    measured: Outcome
    curve: Sequence[tuple[float, float]]
    """(step, bits per byte on valid); none where tokens are hidden."""

    @property
    def tokens_per_second(self) -> float:
        """Of the whole stage."""
        return float(self.trained.report["num_tokens"] / self.trained.seconds)


def run(root: Path, say: Say, *, quick: bool) -> Path:
    """Run what has not run yet; write the page, show the table; return the page."""
    small = QUICK if quick else {"max_tokens": _tokens(stage.load_params(root / "params.yaml"), root)}
    inputs, folder = methods.reads(root, "pretraining"), methods.folder(NAME, quick=quick)

    def workspace(candidate: Candidate) -> methods.Scratch:
        return methods.scratch(root, folder, candidate.name, candidate.overrides(small), inputs)

    rows: list[Row] = []
    for number, (name, candidates) in enumerate(METHODS.items(), 1):
        say(f"[{number}/{len(METHODS)}] {name}, which learns {LEARNT[candidates[0].objective]}")
        rows.append(_row(name, candidates, workspace, say))
        page = drawn(rows, quick=quick)
        path = methods.write(page, {"quick": quick, "rows": [_values(row) for row in rows]})
    say(methods.table(page))
    for sentence in page.summary:
        say(sentence)
    return path


def _tokens(params: Params, root: Path) -> int:
    settings = params.pretraining
    return budgets.pretraining_tokens(
        settings.budget,
        max_tokens=settings.max_tokens,
        parameters=sizes.parameters(params.model, vocabulary.size(params, root)),
        step_tokens=settings.batch_size * settings.context,
    )


def _row(
    name: str, candidates: Sequence[Candidate], workspace: Callable[[Candidate], methods.Scratch], say: Say
) -> Row:
    known = {candidate.name: candidate for candidate in candidates}
    chosen, place, outcome = methods.best(
        list(known),
        lambda each: workspace(known[each]),
        "pretraining",
        lambda report: float(report["val_loss"]),
        lambda report: f"loss {report['val_loss']:.3f}",
        say,
    )
    return Row(
        name=name,
        candidate=known[chosen],
        trained=outcome,
        measured=place.outcome("architecture_comparison", State.MEASURED.value),
        curve=read_curve(place.folder / Artifact.PRETRAINING_CURVE).get("val_bits_per_byte", []),
    )


def _values(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "candidate": asdict(row.candidate),
        "num_tokens": row.trained.report["num_tokens"],
        "num_steps": row.trained.report["num_steps"],
        "seconds": row.trained.seconds,
        "tokens_per_second": row.tokens_per_second,
        "peak_memory_mib": row.trained.peak_memory_mib,
        "curve": row.curve,
        **row.measured.report,
    }


COLUMNS = (
    *("model", "learns", "optimiser, rate", "parameters", "bits per byte", "accuracy", "nats a token"),
    *("tokens asked", "tokens/s", "time"),
)


def drawn(rows: Sequence[Row], *, quick: bool) -> Page:
    """The page."""
    causal = [row for row in rows if row.candidate.objective == "causal"]
    seen = rows[0].trained.report
    return Page(
        name=NAME,
        title="Objectives and architectures of pretraining",
        summary=[
            (
                f"About as many parameters each, the same {figures.short(seen['num_tokens'])} tokens in the same"
                f" {seen['num_steps']} steps; measured on the split test."
            ),
            *(["A quick look: a part of the tokens, so that none has learnt all it can."] if quick else []),
            *verdict(rows),
        ],
        columns=COLUMNS,
        rows=[_cells(row) for row in rows],
        figures={
            "Bits per byte on valid, by steps": charts.line_chart(
                [
                    Series(name=row.name, points=row.curve, colour=number, marks=True)
                    for number, row in enumerate(causal, 1)
                ],
                "step",
                "bits per byte",
            ),
            "Tokens said rightly": charts.bar_chart(
                {row.name: {LEARNT[row.candidate.objective]: row.measured.report["accuracy"]} for row in rows},
                "share of the tokens asked",
            ),
        },
        notes=[
            (
                "The causal models (llama, lstm, rnn, mlp) say each token of the split from those before it, in windows"
                " of pretraining.context, no document seeing another; the mlp sees the last 8 tokens. bert says the"
                " tokens that are hidden from it, 15 %, from both sides; t5 says hidden spans, the same share, and is"
                " told the tokens of a span before the one it says. So accuracies of different objectives answer"
                " different questions, and bits per byte are only those of causal models."
            ),
            (
                "What has no attention is as wide as the size of the llama allows; bert and t5 have embeddings of"
                " places, or attention between decoder and encoder, besides. Optimiser and rate are those of"
                " params.yaml; what has no attention was tried with another rate too, and the split valid chose."
            ),
            "Tokens/s and time are of the whole stage, start and validation included.",
            "Only llama with the next token goes on to the later stages.",
        ],
    )


def verdict(rows: Sequence[Row]) -> list[str]:
    """What attention buys, in a sentence, once the llama and another causal model are there."""
    bits = {row.name: row.measured.report["bits_per_byte"] for row in rows if row.candidate.objective == "causal"}
    others = {name: value for name, value in bits.items() if name != "llama"}
    if "llama" not in bits or not others:
        return []
    best = min(others, key=lambda name: others[name])
    gained = 1 - bits["llama"] / others[best]
    more = "fewer" if gained >= 0 else "more"
    said = f"{figures.three(bits['llama'])} and {figures.three(others[best])}"
    return [f"With attention {abs(gained):.0%} {more} bits per byte than the best without, {best}: {said}."]


def _cells(row: Row) -> list[str]:
    said, candidate = row.measured.report, row.candidate
    chosen = "as params.yaml"
    if candidate.optimizer is not None:
        chosen = f"{candidate.optimizer}, {candidate.learning_rate}"
    return [
        row.name,
        LEARNT[candidate.objective],
        chosen,
        figures.short(said["num_parameters"]),
        "-" if said["bits_per_byte"] is None else figures.three(said["bits_per_byte"]),
        figures.share(said["accuracy"]),
        figures.three(said["loss"]),
        figures.count(said["num_asked"]),
        figures.count(row.tokens_per_second),
        figures.duration(row.trained.seconds),
    ]

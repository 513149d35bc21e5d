"""`moteur compare finetuning`: methods of fine-tuning on one base model, with the same data and seed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flows.comparisons import methods, single_tasks
from flows.comparisons.methods import Outcome, Page, Table
from flows.reporting import charts
from flows.reporting.charts import Series
from flows.stages import figures
from pipelines import stage
from pipelines.artifacts import Artifact, State

Say = Callable[[str], None]
NAME = "finetuning"
QUICK = {"epochs": 0.2, "evaluation_records": 300}
REPLAY = (0.0, 0.05, 0.2)
"""Shares of replayed text for the full method, beside that of params.yaml."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One method with one optimiser and learning rate."""

    method: str
    optimizer: str | None = None
    """None: as in params.yaml, and so its learning rate."""
    learning_rate: float | None = None
    replay_share: float | None = None
    lora: Mapping[str, Any] | None = None
    """Settings of the method `lora` that differ from params.yaml's."""
    task: str | None = None
    """Trained on alone, by `task_weights`; None: the mixture of params.yaml."""
    task_weights: Mapping[str, float] | None = None
    epochs: float | None = None

    @property
    def name(self) -> str:
        """Of its scratch workspace."""
        parts = [self.method, self.optimizer, self.learning_rate]
        parts += [f"replay {self.replay_share:g}"] if self.replay_share is not None else []
        parts += [f"{key} {value}" for key, value in (self.lora or {}).items()]
        parts += [f"{self.task} alone"] if self.task is not None else []
        parts += [f"{self.epochs:g} epochs"] if self.epochs is not None else []
        return " ".join(str(part) for part in parts if part is not None)

    def overrides(self) -> dict[str, Any]:
        """For the section finetuning."""
        return {name: value for name, value in vars(self).items() if value is not None and name != "task"}


LEAST_KEPT, MOST_FORGOTTEN = 0.95, 0.5
"""What is expected of LoRA, as shares of what full fine-tuning gains and forgets."""
FROZEN = {"train_embeddings": False, "rank": 64, "alpha": 128, "merge_scale": 0.88}
"""Embeddings that stay as they are leave more to the adapters; the scale was chosen on the split valid."""
METHODS: dict[str, tuple[Candidate, ...]] = {
    "full": (Candidate(method="full"),),
    "lora": (
        Candidate(method="lora", optimizer="muon", learning_rate=0.005),
        Candidate(method="lora", optimizer="adamw", learning_rate=0.01),
    ),
    "prompt_tuning": (
        Candidate(method="prompt_tuning", optimizer="adamw", learning_rate=0.03),
        Candidate(method="prompt_tuning", optimizer="adamw", learning_rate=0.1),
    ),
    "bitfit": (
        Candidate(method="bitfit", optimizer="adamw", learning_rate=0.02),
        Candidate(method="bitfit", optimizer="adamw", learning_rate=0.05),
    ),
    **{f"full, replay {share:.0%}": (Candidate(method="full", replay_share=share),) for share in REPLAY},
    "lora, replay 0%": (Candidate(method="lora", replay_share=0.0, lora=FROZEN),),
}
"""The full method goes as params.yaml says, where its rate was found; the others are tried with these, and the one with
the best scores on the split valid is measured."""


NO_REPLAY = "full, replay 0%"
LORA_NO_REPLAY = "lora, replay 0%"
SAME_PASSES = "full, {} alone"
SAME_TOKENS = "full, {} alone, as many tokens"
ALONE_NO_REPLAY = "full, {} alone, as many tokens, replay 0%"
"""Names of the rows of one task: as the mixture shows it, without the others; repeated until the training is as long as
the mixture's; and that without replay, which would hide what the mixture itself does for the base model's text."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method, its best candidate."""

    name: str
    candidate: Candidate | None
    """None: the base model, not trained."""
    trained: Outcome | None
    measured: Outcome


def run(root: Path, say: Say, *, quick: bool, single_tasks_asked: Sequence[str] = ()) -> Path:
    """Run what has not run yet; write the page, show the table; return the page.

    Args:
        root: The workspace.
        say: Prints a line.
        quick: A part of the data.
        single_tasks_asked: Tasks that are also trained on alone; without any the largest is.
    """
    small: Mapping[str, Any] = QUICK if quick else {}
    settings = {**stage.load_params(root / "params.yaml").finetuning.model_dump(), **small}
    shown = single_tasks.shares(root, settings["task_weights"])
    single = single_tasks.chosen(shown, single_tasks_asked)
    inputs, folder = methods.reads(root, "finetuning"), methods.folder(NAME, quick=quick)

    def workspace(candidate: Candidate) -> methods.Scratch:
        overrides = {"finetuning": {**small, **candidate.overrides()}}
        return methods.scratch(root, folder, candidate.name, overrides, inputs)

    untrained = methods.scratch(
        root, folder, "base", {"finetuning": small}, inputs, {Artifact.SFT.value: Artifact.BASE.path}
    )
    say("base: measured without training")
    rows = [Row(name="base", candidate=None, trained=None, measured=_measured(untrained))]
    count = len(METHODS) + 3 * len(single)
    for number, (name, candidates) in enumerate(_planned(single, settings, list(shown), rows), 1):
        say(f"[{number}/{count}] {name}")
        rows.append(_row(name, candidates, workspace, say))
        page = drawn(rows, quick=quick)
        path = methods.write(page, {"quick": quick, "rows": [_values(row) for row in rows]})
    say(methods.table(page))
    for sentence in page.summary:
        say(sentence)
    return path


def _planned(
    single: Sequence[str], settings: Mapping[str, Any], tasks: Sequence[str], rows: Sequence[Row]
) -> Iterator[tuple[str, Sequence[Candidate]]]:
    """Names of rows and their candidates. `rows` grows meanwhile: how long is as long is known once both have run."""
    yield from METHODS.items()
    for task in single:
        weights = single_tasks.alone(task, settings["task_weights"], tasks)
        candidate = Candidate(method="full", task=task, task_weights=weights)
        yield SAME_PASSES.format(task), (candidate,)
        tokens = {row.name: row.trained.report["num_tokens"] for row in rows if row.trained}
        epochs = settings["epochs"] * tokens["full"] / tokens[SAME_PASSES.format(task)]
        longer = replace(candidate, epochs=round(epochs, 3))
        yield SAME_TOKENS.format(task), (longer,)
        yield ALONE_NO_REPLAY.format(task), (replace(longer, replay_share=0.0),)


def _row(
    name: str, candidates: Sequence[Candidate], workspace: Callable[[Candidate], methods.Scratch], say: Say
) -> Row:
    known = {candidate.name: candidate for candidate in candidates}
    chosen, place, outcome = methods.best(
        list(known),
        lambda each: workspace(known[each]),
        "finetuning",
        lambda report: -valid_score(report),
        lambda report: f"score {valid_score(report):.3f}",
        say,
    )
    return Row(name=name, candidate=known[chosen], trained=outcome, measured=_measured(place))


def _measured(place: methods.Scratch) -> Outcome:
    return place.outcome("finetuning_comparison", State.MEASURED.value)


def valid_score(report: Mapping[str, Any]) -> float:
    """By which candidates are chosen: the mean of exact match and ROUGE-L, as far as there are such tasks."""
    known = [float(report[name]) for name in ("exact_match", "rouge_l") if report[name] is not None]
    return sum(known) / len(known)


def _values(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "candidate": row.candidate.overrides() if row.candidate else None,
        "trainable_parameters": row.trained.report["trainable_parameters"] if row.trained else 0,
        "task": row.candidate.task if row.candidate else None,
        "num_tokens": row.trained.report["num_tokens"] if row.trained else 0,
        "seconds": row.trained.seconds if row.trained else None,
        "peak_memory_mib": row.trained.peak_memory_mib if row.trained else None,
        **row.measured.report,
    }


COLUMNS = (
    *("method", "optimiser, rate", "weights trained", "exact match (95 %)", "story removed", "ROUGE-L"),
    *("forgetting", "peak memory", "time"),
)


def drawn(rows: Sequence[Row], *, quick: bool) -> Page:
    """The page."""
    every = {row.name: row.measured.report for row in rows}
    gains = {row.name: gain(every, row.name) for row in rows if row.candidate and not row.candidate.task}
    tasks = list(every["base"]["by_task"])
    return Page(
        name=NAME,
        title="Methods of fine-tuning",
        summary=[
            "One base model, the same instructions, seed and passes; scores on the split test, greedy, single turn.",
            *(["A quick look: a part of the data, so that no method has learnt all it can."] if quick else []),
            *(verdicts(every) if {"full", "lora", "prompt_tuning"} <= set(every) else []),
            *mixture_verdicts(rows),
        ],
        columns=COLUMNS,
        rows=[_cells(row) for row in rows],
        figures={
            "Exact match and ROUGE-L gained over the base model": charts.bar_chart(
                {name: {"gain": value} for name, value in gains.items()}, "gain in score"
            ),
            "Forgetting against gain, from the base model on": charts.line_chart(
                [
                    Series(
                        name=name,
                        points=[(0.0, 0.0), (gains[name], every[name]["forgetting"])],
                        colour=number % 5 + 1,
                        marks=True,
                    )
                    for number, name in enumerate(name for name in gains if "replay" not in name)
                ],
                "gain in score",
                "forgetting",
            ),
            **_mixture_figure(rows, tasks),
        },
        details={
            "The score of each task (95 %)": Table(
                columns=["method", *tasks],
                rows=[[row.name, *single_tasks.cells(row.measured.report, tasks)] for row in rows],
            )
        },
        notes=[
            (
                "Exact match is over short answers, ROUGE-L over the longer tasks; the gain is the mean of the two less"
                " the base model's. Story removed: the same questions without their text, hence what can be guessed."
            ),
            (
                "Forgetting is the relative growth of bits per byte on test text of the kind that the base model was"
                " trained on. A frozen body forgets too: new tokens are also outputs where embeddings and head are one"
                " matrix, and biases act on every text."
            ),
            "Where several rates were tried, the split valid chose.",
            (
                "One task alone: the others have weight 0. For the same passes the model sees the records of the task"
                " that the mixture shows; for as many tokens it sees them again until it was trained as long. Replay is"
                " as in params.yaml unless the row says otherwise. A task's score is exact match where its answers are"
                " short, else ROUGE-L."
            ),
        ],
    )


def mixture_verdicts(rows: Sequence[Row]) -> list[str]:
    """A sentence for each task that was also trained on alone."""
    every = {row.name: row.measured.report for row in rows}
    return [
        single_tasks.sentence(
            task,
            base=every["base"],
            mixture=every["full"],
            same_passes=every[SAME_PASSES.format(task)],
            same_tokens=every[SAME_TOKENS.format(task)],
            no_replay=(every[NO_REPLAY], every[ALONE_NO_REPLAY.format(task)]),
        )
        for task in _single(rows)
        if ALONE_NO_REPLAY.format(task) in every
    ]


def _single(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.candidate.task for row in rows if row.candidate and row.candidate.task))


def _mixture_figure(rows: Sequence[Row], tasks: Sequence[str]) -> dict[str, str]:
    compared = ["base", "full", *(SAME_TOKENS.format(task) for task in _single(rows))]
    every = {row.name: row.measured.report for row in rows if row.name in compared}
    if len(every) <= 2:
        return {}
    scores = {
        task: {name: single_tasks.score(report, task)["mean"] for name, report in every.items()} for task in tasks
    }
    return {"The mixture (full) beside one task alone": charts.bar_chart(scores, "score")}


def _cells(row: Row) -> list[str]:
    said = row.measured.report
    tried = row.candidate
    rate = f"{tried.optimizer} {tried.learning_rate:g}" if tried and tried.learning_rate else "as in params"
    exact, guessed = said["exact_match"], said["exact_match_story_removed"]
    return [
        row.name,
        rate if tried else "-",
        figures.count(row.trained.report["trainable_parameters"]) if row.trained else "0",
        "-" if exact is None else f"{exact:.3f} ({said['exact_match_low']:.3f} to {said['exact_match_high']:.3f})",
        "-" if guessed is None else figures.three(guessed),
        "-" if said["rouge_l"] is None else figures.three(said["rouge_l"]),
        f"{100 * said['forgetting']:+.1f} %",
        f"{row.trained.peak_memory_mib:.0f} MiB" if row.trained else "-",
        figures.duration(row.trained.seconds) if row.trained else "-",
    ]


def gain(every: Mapping[str, Mapping[str, Any]], name: str) -> float:
    """Score of a method less that of the base model."""
    return valid_score(every[name]) - valid_score(every["base"])


def verdicts(every: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What became of the expectations, in sentences."""
    full = gain(every, "full")
    if full <= 0:
        return ["Full fine-tuning gained nothing over the base model, so that nothing can be compared with it."]
    return [
        f"LoRA {_beside(every, 'lora', 'full')}",
        *([f"Without replay LoRA {_beside(every, LORA_NO_REPLAY, NO_REPLAY)}"] if LORA_NO_REPLAY in every else []),
        f"Prompt tuning keeps {gain(every, 'prompt_tuning') / full:.0%}.",
    ]


def _beside(every: Mapping[str, Mapping[str, Any]], lora: str, full: str) -> str:
    kept, lost, most = gain(every, lora) / gain(every, full), every[lora]["forgetting"], every[full]["forgetting"]
    met = kept >= LEAST_KEPT and lost <= MOST_FORGOTTEN * most
    return (
        f"keeps {kept:.0%} of the gain of full fine-tuning and forgets {100 * lost:+.1f} % against {100 * most:+.1f} %:"
        f" the aim (at least {LEAST_KEPT:.0%} of the gain, at most half the forgetting) is"
        f" {'met' if met else 'missed'}."
    )

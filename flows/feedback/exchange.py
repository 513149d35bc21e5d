"""`moteur feedback import` and `export`: labels come in from elsewhere, responses to label go out.

What comes in is checked line by line and brought to the one schema of `data/feedback`, where each file that was given
becomes a new one, named by its content. To take an import back, remove that file.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from flows import terminal
from flows.feedback import labelling
from pipelines import stage
from pipelines.adapters import files, labels, locks, rankings
from pipelines.adapters.rankings import Reject
from pipelines.artifacts import Artifact, State
from pipelines.core.learning import labels as forms
from pipelines.core.learning import preferences
from pipelines.core.learning.preferences import Ranking, Rating
from pipelines.errors import DataError, ParamsError
from pipelines.params import Params

UNLABELLED = "not labelled yet"
KNOWN = f"in {Artifact.FEEDBACK_BY_PEOPLE} already"
REASONS = 10
"""Reasons that the table shows one by one."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """What became of one file."""

    source: Path
    target: Path
    imported_before: bool = False
    rows: list[dict[str, Any]] = field(default_factory=list)
    """Lines of the schema."""
    records: list[Ranking | Rating] = field(default_factory=list)
    """The same."""
    rejects: list[Reject] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    """Reason -> lines, rejects not among them."""


def take(
    checkout: Path,
    params: Params,
    sources: Sequence[Path],
    *,
    annotator: str | None = None,
    by_instructions: bool = True,
) -> list[Made]:
    """Import files of labels; what can be used of each becomes a new file of `data/feedback`.

    Args:
        checkout: Whose `data/feedback`.
        params: Of the checkout.
        sources: `.jsonl` or `.csv`.
        annotator: Who made the labels that name nobody.
        by_instructions: Whether labels that do not say by which instructions they were made were made by those of the
            checkout, as they stand.

    Raises:
        DataError: a file cannot be read, or more lines than `feedback.max_bad_line_share` cannot be used. Nothing was
            imported.
    """
    digest = labelling.instructions(checkout).sha256 if by_instructions else None
    annotator = labelling.checked_name(annotator) if annotator is not None else None
    with alone(checkout, "import"):
        known = _Known(checkout / Artifact.FEEDBACK_BY_PEOPLE)
        made: list[Made] = []
        for source in sources:
            target = checkout / Artifact.FEEDBACK_BY_PEOPLE / f"import-{_name(source, annotator)}.jsonl"
            if target.exists() or target in [one.target for one in made]:
                made.append(Made(source=source, target=target, imported_before=True))
            else:
                made.append(_read(source, target, known, {"annotator": annotator, "instructions": digest}))
        rejects = [reject for one in made for reject in one.rejects]
        usable = sum(len(one.rows) + one.left_out[KNOWN] for one in made)
        for one in made:
            if one.rejects:
                files.write_jsonl(rejects_of(checkout, one), map(asdict, one.rejects))
        try:
            rankings.limit(rejects, usable + len(rejects), params.feedback.max_bad_line_share)
        except DataError as error:
            raise DataError(f"{error} Nothing was imported; {State.FEEDBACK}/*.rejects.jsonl name all.") from None
        for one in made:
            if one.rows:
                files.write_jsonl(one.target, one.rows)
    return made


def rejects_of(checkout: Path, made: Made) -> Path:
    """Where the lines that could not be used are set aside, with file, line and reason."""
    return checkout / State.FEEDBACK / f"{made.target.stem}.rejects.jsonl"


def alone(checkout: Path, what: str) -> AbstractContextManager[None]:
    """Nobody else does the same meanwhile.

    Raises:
        DataError: somebody does.
    """

    def busy(_holder: str) -> DataError:
        return DataError(f"another `moteur feedback` ({what}) is at work in {checkout}: wait for its end")

    return locks.holding(checkout / State.FEEDBACK / f"{what}.lock", wait=0, busy=busy)


def _name(source: Path, annotator: str | None) -> str:
    """By content, and by who made it where the content does not say: two people may fill in the same."""
    try:
        content = source.read_bytes()
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror}") from None
    return hashlib.sha256(content + (f"\0{annotator}".encode() if annotator else b"")).hexdigest()[:16]


class _Known:
    """What `data/feedback` holds, and what was read since."""

    def __init__(self, folder: Path) -> None:
        self.ids: dict[str, str] = {}
        """Id -> where it is."""
        self.contents: set[str] = set()
        self.subjects: dict[str, str] = {}
        """Who labelled which responses -> where."""
        for line in rankings.read(folder):
            if isinstance(line, rankings.Line):
                self.add(line.id, line.record, f"{line.file}:{line.line}")

    def add(self, name: str, record: Ranking | Rating, where: str) -> None:
        self.ids[name] = where
        self.contents.add(forms.content(record))
        self.subjects[forms.subject(record)] = where


def _read(source: Path, target: Path, known: _Known, missing: dict[str, str | None]) -> Made:
    """Check a file line by line; `missing` are the values of fields that a line may lack."""
    made = Made(source=source, target=target)
    for item in labels.read(source):
        if isinstance(item, Reject):
            made.rejects.append(item)
            continue
        number, line = item
        if line is None:
            made.left_out[UNLABELLED] += 1
            continue
        try:
            row, record = _identified({**missing, **line})
            if forms.content(record) in known.contents:
                made.left_out[KNOWN] += 1
                continue
            if where := known.subjects.get(forms.subject(record)):
                raise ValueError(rankings.contradiction(record, where))
            if row["id"] in known.ids:
                raise ValueError(
                    f"id {row['id']!r} is that of another label, {known.ids[row['id']]}: give another, or none, and one"
                    " is made"
                )
        except ValueError as error:
            made.rejects.append(Reject(file=source.as_posix(), line=number, reason=str(error)))
            continue
        known.add(row["id"], record, f"{source.as_posix()}:{number}")
        made.rows.append(row)
        made.records.append(record)
    return made


def _identified(line: dict[str, Any]) -> tuple[dict[str, Any], Ranking | Rating]:
    """The line with an id, in the order of the schema, and what it says."""
    if line.get("annotator") is None:
        raise ValueError("annotator is missing: add it, or name who made the labels by --annotator NAME")
    record = rankings.conform({"id": "made from the content", **line})
    name = line.get("id") or forms.content(record)[:16]
    if isinstance(record, Ranking):
        record = replace(record, id=name)
    return row(name, record), record


def row(name: str, record: Ranking | Rating) -> dict[str, Any]:
    """A ranking or rating as a line of `data/feedback`."""
    value = {"id": name} | asdict(record) | {"id": name}
    return {key: item for key, item in value.items() if key not in ("task", "gold")}


def export(
    checkout: Path, params: Params, target: Path, *, tasks: Sequence[str] = (), num_prompts: int | None = None
) -> int:
    """Write responses of the instruction model to be ranked elsewhere, without ranks; return how many prompts.

    Raises:
        ParamsError: the file is there already, has another ending, or a task has no responses.
    """
    if target.suffix not in labels.SUFFIXES:
        raise ParamsError(f"{target} ends neither in {' nor in '.join(labels.SUFFIXES)}: name another file")
    if target.exists():
        raise ParamsError(f"{target} is there already, and may hold somebody's labels: name another file")
    digest = labelling.instructions(checkout).sha256
    items = labelling.chosen(labelling.sampled(checkout, seed=params.seed), tasks, num_prompts)
    rows = [
        {
            "prompt": item.prompt,
            "responses": labelling.shuffled(item, seed=params.seed),
            "ranks": None,
            "annotator": None,
            "task": item.task,
            "instructions": digest,
        }
        for item in items
    ]
    if target.suffix == ".jsonl":
        return files.write_jsonl(target, rows)
    cells = ({**one, "responses": json.dumps(one["responses"], ensure_ascii=False)} for one in rows)
    files.write_csv(target, list(rows[0]), ([*one.values()] for one in cells))
    return len(rows)


def show_import(checkout: Path, sources: Sequence[Path], *, annotator: str | None, by_instructions: bool) -> None:
    """Import, and print what came in and what was left out and why."""
    params, console = stage.load_params(checkout / "params.yaml"), terminal.console()
    made = take(checkout, params, sources, annotator=annotator, by_instructions=by_instructions)
    for one in made:
        target = one.target.relative_to(checkout)
        if one.imported_before:
            console.print(f"{one.source} was imported before: {target} is made of it.", markup=False, soft_wrap=True)
        elif one.rows:
            console.print(f"{one.source}: {len(one.rows):,} labels into {target}", markup=False, soft_wrap=True)
        else:
            console.print(f"{one.source}: nothing to import.", markup=False, soft_wrap=True)
        if one.rejects:
            aside = rejects_of(checkout, one).relative_to(checkout)
            console.print(f"{len(one.rejects):,} lines were set aside: {aside}", markup=False, soft_wrap=True)
    if not all(one.imported_before for one in made):
        console.print(table(made))
    named = {record.annotator for one in made for record in one.records}
    if held_out := sorted(named.intersection(params.feedback.held_out_annotators)):
        console.print(
            f"feedback.held_out_annotators in params.yaml names {', '.join(held_out)}: what they say of prompts that"
            " are learnt from is left out.",
            markup=False,
            soft_wrap=True,
        )


def table(made: Sequence[Made]) -> Table:
    """What came in, and what was left out by reason."""
    records = list(chain.from_iterable(one.records for one in made))
    ranked = [record for record in records if isinstance(record, Ranking)]
    rated, _ = preferences.from_ratings((record for record in records if isinstance(record, Rating)), kind="human")
    counts = {
        "rankings": len(ranked),
        "ratings": len(records) - len(ranked),
        "pairs in them": sum(len(preferences.pairs(one)) for one in ranked + rated),
        "ties": sum(map(preferences.num_ties, ranked + rated)),
        "failed responses": sum(map(preferences.num_failed, ranked + rated)),
        "annotators": len({record.annotator for record in records}),
    }
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("feedback", justify="right")
    shown.add_column("")
    for name, count in counts.items():
        shown.add_row(f"{count:,}", name)
    bad = Counter(reject.reason for one in made for reject in one.rejects)
    left_out = sum((one.left_out for one in made), Counter[str]()) + Counter(dict(bad.most_common(REASONS)))
    if rest := bad.total() - sum(count for _, count in bad.most_common(REASONS)):
        left_out["for other reasons"] = rest
    for reason, count in left_out.most_common():
        shown.add_row(f"{count:,}", Text(f"left out: {reason}"))
    return shown


def show_export(checkout: Path, target: Path, *, tasks: Sequence[str], num_prompts: int | None) -> None:
    """Export, and say what comes next."""
    params, console = stage.load_params(checkout / "params.yaml"), terminal.console()
    count = export(checkout, params, target, tasks=tasks, num_prompts=num_prompts)
    console.print(
        f"{count:,} prompts with responses in {target}. Fill in ranks (1 is best, equal is a tie, null or F failed) as"
        f" {labelling.INSTRUCTIONS} says, and annotator; then `moteur feedback import`.",
        markup=False,
        soft_wrap=True,
    )

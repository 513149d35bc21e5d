"""`moteur accept`: what users sent, out of the request log, becomes accepted data.

Only what the log kept as text can be taken (`serving.log.text`), with personal data covered; the rules of
`data_validation` hold for it, and the same text is taken once. What the model wrote is no training data unless somebody
asks for it. How many records of each segment were looked at stands in `.moteur/accepted/requests.json`: it is written
after the data, so that a crash between both takes nothing twice and loses nothing.
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from flows import terminal
from pipelines.adapters import files, locks, requests
from pipelines.adapters.requests import Logged
from pipelines.artifacts import State
from pipelines.core.text.records import Record, UnfitError, conform
from pipelines.core.text.secrets import redact
from pipelines.errors import ArtifactError, ParamsError
from pipelines.params import DataValidation, Params

Kind = Literal["corpus", "instructions"]
SOURCE = "requests"
"""What the field `source` of the records says, how their files are called, and the task of instructions."""
BATCH = 1024
NO_TEXT = "the log holds no text of it"


@dataclass(frozen=True, kw_only=True)
class Taking:
    """What was taken out of the log."""

    kind: Kind
    taken: int
    file: Path | None
    left_out: Counter[str]
    """Reason -> requests."""

    @property
    def words(self) -> str:
        """One sentence."""
        looked = self.taken + self.left_out.total()
        into = f" into {self.file}" if self.file else ""
        return f"{looked:,} new requests in the log: {self.taken:,} taken as {self.kind}{into}"


def take(
    checkout: Path, params: Params, *, kind: Kind = "corpus", answers: bool = False, since: datetime | None = None
) -> Taking:
    """Take the requests that were not looked at before into a new file of the folder `retraining.accepted`.

    Args:
        checkout: Whose request log and folder these are.
        params: Of the checkout.
        kind: corpus: what users sent, a document each. instructions: conversations with the answer.
        answers: Take what the model wrote, too: completions with their answer, and all instructions.
        since: Requests before are left out, for good.

    Raises:
        ParamsError: instructions are wanted without answers.
        ArtifactError: the note of what was looked at is torn.
    """
    if kind == "instructions" and not answers:
        raise ParamsError("--kind instructions holds answers, which the model itself wrote: add --answers to want them")
    left_out: Counter[str] = Counter()
    note = checkout / State.ACCEPTED / "requests.json"
    with locks.holding(note.with_name("lock")):  # nobody else takes anything meanwhile
        looked = _looked(note)
        counts = Counter(looked.get(kind, {}))
        rows = _counted(requests.beyond(checkout / State.REQUESTS, counts), counts)
        found = list(_records(rows, kind, left_out, answers=answers, since=since))
        folder = checkout / params.retraining.accepted / kind
        chosen = list(_screened(found, _earlier(folder, kind), kind, params.data_validation, left_out))
        file = _write(folder, chosen) if chosen else None
        files.write_json(note, {**looked, kind: dict(counts)})
    shown = file.relative_to(checkout) if file else None
    return Taking(kind=kind, taken=len(chosen), file=shown, left_out=left_out)


def _looked(note: Path) -> dict[str, dict[str, int]]:
    """Kind -> segment of the log -> records that were looked at."""
    try:
        found: dict[str, dict[str, int]] = json.loads(note.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ArtifactError(
            f"{note}, which says what was taken, is not JSON ({error}): remove it, and the whole log is looked at again"
        ) from None
    return found


def _counted(rows: Iterable[tuple[str, Logged]], counts: Counter[str]) -> Iterator[Logged]:
    for segment, row in rows:
        counts[segment] += 1
        yield row


def _records(
    rows: Iterable[Logged], kind: Kind, left_out: Counter[str], *, answers: bool, since: datetime | None
) -> Iterator[Record]:
    """Requests as records of `kind`; those that are none are counted."""
    for row in rows:
        try:
            if since is not None and datetime.fromisoformat(row["time"]) < since:
                raise UnfitError("before --since", row["time"])
            yield _record(row, kind, answers=answers)
        except UnfitError as error:
            left_out[error.reason] += 1


def _record(row: Logged, kind: Kind, *, answers: bool) -> Record:
    prompt = row.get("prompt")
    if not isinstance(prompt, str):
        raise UnfitError(NO_TEXT, "prompt")
    if kind == "instructions":
        if row.get("route") != "chat.completions":
            raise UnfitError("not a conversation", str(row.get("route")))
        values = {"task": SOURCE, "prompt": prompt, "completion": _answer(row)}
    elif answers and row.get("route") == "completions":
        values = {"text": prompt + _answer(row)}
    else:
        values = {"text": prompt}
    if any(redact(value) != value for value in values.values()):
        raise UnfitError("looks like a secret", "")
    record = conform(kind, values, columns={}, constants={}, source=SOURCE)
    return {**record, "request": row.get("id")}


def _answer(row: Logged) -> str:
    """The answer, when there is one, to its end."""
    response = row.get("response")
    if not isinstance(response, str):
        raise UnfitError(NO_TEXT, "response")
    if row.get("status") != 200 or row.get("finish") != ["stop"]:
        raise UnfitError("not one whole answer", str(row.get("finish")))
    return response


def _screened(
    found: Sequence[Record], earlier: Iterable[Record], kind: Kind, settings: DataValidation, left_out: Counter[str]
) -> Iterator[Record]:
    """Those that data_validation would let through, beside what was taken earlier."""
    from pipelines.core.text.screening import REASONS, Rules, Screen

    screen = Screen(Rules(**{item.name: getattr(settings, item.name) for item in dataclasses.fields(Rules)}))
    for batch in _batches(earlier):
        screen.judge(kind, "train", batch)
    for batch in _batches(found):
        for record, code in zip(batch, screen.judge(kind, "train", batch).codes_N.tolist(), strict=True):
            if code:
                left_out[REASONS[code]] += 1
            else:
                yield record


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    rest = iter(records)
    while batch := list(islice(rest, BATCH)):
        yield batch


def _earlier(folder: Path, kind: Kind) -> Iterator[Record]:
    """What was taken by earlier calls and is still there; lines that somebody broke are for ingestion to name."""
    for path in sorted(folder.glob(f"{SOURCE}-*.jsonl")):
        for line in path.read_bytes().splitlines():
            try:
                yield conform(kind, json.loads(line), columns={}, constants={}, source=SOURCE)
            except (ValueError, AttributeError):
                continue


def _write(folder: Path, records: Sequence[Mapping[str, Any]]) -> Path:
    """A new file, readable by its owner only, as the log is."""
    stem = f"{SOURCE}-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    names = [stem, *(f"{stem}-{number}" for number in range(2, 1000))]
    path = next(path for path in (folder / f"{name}.jsonl" for name in names) if not path.exists())
    with files.replacing(path) as fresh:
        fresh.touch(mode=0o600)
        with fresh.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    return path


def show(checkout: Path, *, kind: Kind, answers: bool, since: str | None) -> None:
    """Take, and print what was taken, and what was left out and why."""
    from flows.champions import history
    from pipelines import stage

    params, console = stage.load_params(checkout / "params.yaml"), terminal.console()
    start = history.period(since, date.today(), "--since")[0] if since is not None else None  # noqa: DTZ011  as they say
    taking = take(checkout, params, kind=kind, answers=answers, since=start)
    console.print(f"{taking.words}.", markup=False, soft_wrap=True)
    if taking.left_out:
        console.print(table(taking))
    if taking.left_out[NO_TEXT] and not params.serving.log.text:
        console.print("serving.log.text in params.yaml is false: the log keeps no text. True keeps it from now on.")
    if taking.file:
        console.print("Read the file: what stays in it is in every later retraining.")


def table(taking: Taking) -> Table:
    """Taken, and left out by reason."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("requests", justify="right")
    shown.add_column("")
    shown.add_row(f"{taking.taken:,}", "taken")
    for reason, count in taking.left_out.most_common():
        shown.add_row(f"{count:,}", f"left out: {reason}")
    return shown

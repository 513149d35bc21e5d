"""Read every source into records of one schema."""

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipelines import stage
from pipelines.adapters import files, sources
from pipelines.adapters.datasets import KINDS, SPLITS, Kind, Split
from pipelines.adapters.intake import QUARANTINE, Intake, Task
from pipelines.adapters.tracking import Tracker
from pipelines.artifacts import Artifact, State
from pipelines.core.text.records import CONTRACTS
from pipelines.errors import MoteurError, ParamsError
from pipelines.params import Ingestion, Params, Source


@dataclass(frozen=True, kw_only=True)
class IngestionReport:
    """What was read; keys of `num_records` are `<kind>.<split>` as written, of `sources` as named in params."""

    num_records: dict[str, int]
    num_bytes: int
    num_quarantined: int
    quarantined_by_reason: dict[str, int]
    num_byte_order_marks: int
    sources: dict[str, int]


def main(params: Params, tracker: Tracker) -> IngestionReport:
    """Check every source, then read one after the other into data/raw."""
    settings = params.ingestion
    tasks = plan(settings)
    read: Counter[str] = Counter({task.name: 0 for task in tasks})
    with _keeping_quarantine(Artifact.RAW.path) as fresh, Intake(fresh, settings) as intake:
        for task in tasks:
            with tracker.progress(task.name, task.source.limit, "records") as bar:
                for _ in intake.take(task):
                    read[task.name] += 1
                    if read[task.name] % 1000 == 0:
                        bar.advance(1000)
        intake.check_draws()
    return IngestionReport(
        num_records=dict(intake.num_records),
        num_bytes=intake.num_bytes,
        num_quarantined=intake.reasons.total(),
        quarantined_by_reason=dict(sorted(intake.reasons.items())),
        num_byte_order_marks=sum(item.num_byte_order_marks for task in tasks for item in task.inputs),
        sources=dict(read),
    )


def plan(settings: Ingestion) -> list[Task]:
    """Every source with its inputs, all checked before any is read.

    Raises:
        ParamsError: a source is named wrongly.
        DataError: some cannot be read; all are named, a line each.
    """
    tasks: list[Task] = []
    faults: list[MoteurError] = []
    for kind in KINDS:
        for split in SPLITS:
            for source in getattr(getattr(settings, kind), split):
                _check_fields(kind, split, source)
                try:
                    inputs = sources.resolve(source, kind, split, Path(settings.root), settings.max_line_bytes)
                except MoteurError as fault:
                    faults.append(fault)
                else:
                    tasks.append(Task(kind, split, source, inputs))
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise type(faults[0])(f"{len(faults)} sources cannot be read:\n  " + "\n  ".join(map(str, faults)))
    return tasks


def _check_fields(kind: Kind, split: Split, source: Source) -> None:
    known = CONTRACTS[kind].fields
    for key in ("columns", "constants"):
        for name in getattr(source, key):
            if name not in known:
                raise ParamsError(
                    f"ingestion.{kind}.{split} ({source.uri}): {key} names the field {name!r}, which records of"
                    f" {kind} do not have; they have {', '.join(known)}"
                )
    for name in sorted(source.columns.keys() & source.constants.keys()):
        raise ParamsError(
            f"ingestion.{kind}.{split} ({source.uri}): the field {name!r} is in columns and in constants: keep one"
        )


@contextmanager
def _keeping_quarantine(path: Path) -> Iterator[Path]:
    """Like `files.replacing` for a folder; when the stage fails, the quarantine stays for looking at."""
    with files.replacing(path) as fresh:
        fresh.mkdir()
        kept = State.QUARANTINE.path
        kept.unlink(missing_ok=True)
        try:
            yield fresh
        except MoteurError:
            kept.parent.mkdir(exist_ok=True)
            shutil.copyfile(fresh / QUARANTINE, kept)
            raise


if __name__ == "__main__":
    stage.run("ingestion", main, report=Artifact.INGESTION_REPORT)

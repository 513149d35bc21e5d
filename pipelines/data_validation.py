"""Reject what does not meet the contract, with reasons, and profile what does."""

import json
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import chain, product
from pathlib import Path

import numpy as np

from pipelines import stage
from pipelines.adapters import datasets, expectations, files
from pipelines.adapters.datasets import KINDS, Kind, Split
from pipelines.adapters.expectations import Outcome
from pipelines.adapters.tables import Tables
from pipelines.adapters.tracking import Tracker
from pipelines.artifacts import Artifact, State
from pipelines.core.text.descriptors import Columns
from pipelines.core.text.ledger import Ledger
from pipelines.core.text.records import Record
from pipelines.core.text.screening import REASONS, SPLIT_ORDER, Rules, Screen, Screened, redact_record
from pipelines.errors import DataError
from pipelines.params import DataValidation, Params

REJECTS = "rejects.jsonl"
BATCH_BYTES = 1 << 19


@dataclass(frozen=True, kw_only=True)
class DataValidationReport:
    """Keys of `num_accepted` are `<kind>.<split>`; `rejected_by_reason` has every reason, 0 too."""

    num_documents: int
    num_rejected: int
    rejected_by_reason: dict[str, int]
    num_accepted: dict[str, int]
    num_near_duplicates: int
    num_contaminated: int
    num_with_personal_data: int
    expectations_met: int
    expectations_total: int


def main(params: Params, tracker: Tracker) -> DataValidationReport:
    """Screen every record and copy the accepted ones, then hold the contract against them."""
    settings = params.data_validation
    contract = expectations.compile_contract(settings.expectations)
    ledger = Ledger()
    rejects = State.REJECTS.path
    columns: dict[str, Columns] = {kind: Screen.columns(kind) for kind in KINDS}
    with files.replacing(Artifact.VALIDATED.path) as fresh, Tables(columns) as tables:
        fresh.mkdir()
        files.write_jsonl(rejects, screen(settings, fresh, ledger, tables, tracker))
        check_shares(ledger, settings.max_rejected_share, rejects)
        outcomes = expectations.check(tables, settings.expectations, contract, State.DATA_DOCS.path)
        check_outcomes(outcomes)
        shutil.copyfile(rejects, fresh / REJECTS)
    files.write_json(Artifact.REFERENCE_PROFILE.path, {kind: ledger.profile(kind) for kind in KINDS})
    reasons = ledger.reasons
    num_documents, num_accepted = reasons.total(), reasons.pop("accepted")
    return DataValidationReport(
        num_documents=num_documents,
        num_rejected=num_documents - num_accepted,
        rejected_by_reason=dict(reasons),
        num_accepted=ledger.num_accepted,
        num_near_duplicates=reasons["near duplicate"],
        num_contaminated=reasons["contamination"],
        num_with_personal_data=ledger.num_personal,
        expectations_met=sum(item.met for item in outcomes),
        expectations_total=len(outcomes),
    )


def screen(
    settings: DataValidation, target: Path, ledger: Ledger, tables: Tables, tracker: Tracker
) -> Iterator[Record]:
    """Judge every record, copy the accepted lines, fill ledger and tables, and give an entry for each reject."""
    judge = Screen(Rules(**{item.name: getattr(settings, item.name) for item in fields(Rules)}))
    with tracker.progress("records", None, "records") as bar:
        for split, kind in product(SPLIT_ORDER, KINDS):
            source = datasets.file(Artifact.RAW.path, kind, split)
            before = 0
            with datasets.file(target, kind, split).open("wb") as accepted:
                for lines, records in files.read_jsonl_batches(source, BATCH_BYTES):
                    screened = judge.judge(kind, split, records)
                    ledger.add(kind, split, screened)
                    _add_rows(tables, kind, split, before, records, screened)
                    redacted = screened.personal if settings.personal_data == "redact" else ()
                    accepted.write(b"".join(_accepted(kind, lines, screened, redacted)))
                    yield from _rejects(kind, split, before, records, screened, ledger)
                    before += len(records)
                    bar.advance(len(records))


def _add_rows(
    tables: Tables, kind: Kind, split: Split, before: int, records: Sequence[Record], screened: Screened
) -> None:
    kept = np.flatnonzero(screened.codes_N == 0)
    ids = [records[index]["id"] for index in kept.tolist()]
    tables.add(kind, split, ids, before + kept + 1, {name: values[kept] for name, values in screened.columns.items()})


def _accepted(kind: Kind, lines: Sequence[bytes], screened: Screened, redacted: Collection[int]) -> Iterator[bytes]:
    """The lines of the accepted records, those to be redacted redacted."""
    for index in np.flatnonzero(screened.codes_N == 0).tolist():
        if index in redacted:
            record = json.loads(lines[index])
            redact_record(kind, record)
            yield (json.dumps(record, ensure_ascii=False) + "\n").encode()
        else:
            yield lines[index]


def _rejects(
    kind: Kind, split: Split, before: int, batch: Sequence[Record], screened: Screened, ledger: Ledger
) -> Iterator[Record]:
    path = datasets.file(Artifact.RAW.path, kind, split).as_posix()
    for index in np.flatnonzero(screened.codes_N).tolist():
        entry = {
            "file": path,
            "line": before + index + 1,
            "id": batch[index]["id"],
            "reason": REASONS[screened.codes_N[index]],
            "detail": screened.details[index],
        }
        text = next(str(batch[index][name]) for name in ("text", "completion", "chosen") if name in batch[index])
        ledger.add_example(kind, entry, text[:60])
        yield entry


def check_shares(ledger: Ledger, limit: float, rejects: Path) -> None:
    """See that not too much is rejected.

    Raises:
        DataError: the share of some kind of record is too great; with the reasons and three records.
    """
    excesses = [excess for kind in KINDS if (excess := ledger.excess(kind, limit))]
    if excesses:
        raise DataError(
            f"data_validation.max_rejected_share is {limit}, but " + "\n".join(excesses) + f"\nAll are in {rejects}."
            " Mend the sources, or change the limits of data_validation in params.yaml."
        )


def check_outcomes(outcomes: Sequence[Outcome]) -> None:
    """See that the contract is met.

    Raises:
        DataError: it is not; with each broken expectation, how many rows break it, and three of them.
    """
    broken = [item for item in outcomes if not item.met]
    if not broken:
        return
    described = "\n".join(chain.from_iterable(map(_described, broken)))
    raise DataError(
        f"{len(broken)} of {len(outcomes)} expectations are not met:\n{described}\n"
        f"See {State.DATA_DOCS.path / 'index.html'}. Mend the sources, or change data_validation.expectations in"
        " params.yaml."
    )


def _described(item: Outcome) -> Iterator[str]:
    arguments = ", ".join(f"{name} {value}" for name, value in item.expectation.arguments.items())
    yield f"  {item.expectation.name} of {item.expectation.records} ({arguments}): found {item.observed}"
    for row in item.rows:
        yield "      " + "  ".join(f"{name} {value}" for name, value in row.items())


if __name__ == "__main__":
    stage.run("data_validation", main, report=Artifact.DATA_VALIDATION_REPORT)

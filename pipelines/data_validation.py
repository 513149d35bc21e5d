"""Reject what does not meet the contract, with reasons, and profile what does."""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import chain, product
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines import stage
from pipelines.adapters import datasets, expectations, files
from pipelines.adapters.datasets import KINDS, SPLITS, Kind, Split
from pipelines.adapters.expectations import Outcome
from pipelines.adapters.tracking import Tracker
from pipelines.artifacts import Artifact, State
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
    """Screen every record, hold the contract against the accepted ones, then copy them."""
    settings = params.data_validation
    contract = expectations.compile_contract(settings.expectations)
    ledger = Ledger()
    rejects = State.ROOT.path / REJECTS
    files.write_jsonl(rejects, screen(settings, ledger, tracker))
    check_shares(ledger, settings.max_rejected_share, rejects)
    tables: dict[str, pd.DataFrame] = {kind: ledger.table(kind) for kind in KINDS}
    outcomes = expectations.check(tables, settings.expectations, contract, State.DATA_DOCS.path)
    check_outcomes(outcomes)
    profiles = {kind: ledger.profile(kind) for kind in KINDS}
    with files.replacing(Artifact.VALIDATED.path) as fresh:
        fresh.mkdir()
        copy_accepted(ledger, Artifact.RAW.path, fresh)
        shutil.copyfile(rejects, fresh / REJECTS)
    files.write_json(Artifact.REFERENCE_PROFILE.path, profiles)
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


def screen(settings: DataValidation, ledger: Ledger, tracker: Tracker) -> Iterator[Record]:
    """Judge every record, fill the ledger, and give an entry for each reject."""
    judge = Screen(Rules(**{item.name: getattr(settings, item.name) for item in fields(Rules)}))
    redact = settings.personal_data == "redact"
    with tracker.progress("records", None, "records") as bar:
        for split in SPLIT_ORDER:
            for kind in KINDS:
                line = 0
                for batch in files.read_jsonl_batches(datasets.file(Artifact.RAW.path, kind, split), BATCH_BYTES):
                    screened = judge.judge(kind, split, batch)
                    ledger.add(kind, split, batch, screened, redact=redact)
                    yield from _rejects(kind, split, line, batch, screened, ledger)
                    line += len(batch)
                    bar.advance(len(batch))


def _rejects(
    kind: Kind, split: Split, line: int, batch: Sequence[Record], screened: Screened, ledger: Ledger
) -> Iterator[Record]:
    path = datasets.file(Artifact.RAW.path, kind, split).as_posix()
    for index in np.flatnonzero(screened.codes_N).tolist():
        entry = {
            "file": path,
            "line": line + index + 1,
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


def copy_accepted(ledger: Ledger, source: Path, target: Path) -> None:
    """Copy the accepted lines, those to be redacted redacted."""
    for kind, split in product(KINDS, SPLITS):
        part = ledger.parts[kind, split]
        codes = part.verdicts
        with datasets.file(source, kind, split).open("rb") as old, datasets.file(target, kind, split).open("wb") as new:
            _copy_lines(kind, old, new, codes, part.redacted)


def _copy_lines(kind: Kind, old: IO[bytes], new: IO[bytes], codes: NDArray[np.uint8], redacted: set[int]) -> None:
    for index, (line, code) in enumerate(zip(old, codes.tolist(), strict=True)):
        if code:
            continue
        if index in redacted:
            record = json.loads(line)
            redact_record(kind, record)
            line = (json.dumps(record, ensure_ascii=False) + "\n").encode()  # noqa: PLW2901
        new.write(line)


if __name__ == "__main__":
    stage.run("data_validation", main, report=Artifact.DATA_VALIDATION_REPORT)

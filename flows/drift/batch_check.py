"""A batch is one look: drift when it differs as a whole, or when its last parts do, as those of a stream would."""

from collections.abc import Sequence

from flows.drift import batch as batches
from flows.drift.reference import Reference
from flows.drift.schema import SchemaRow
from flows.drift.verdict import Verdict, WindowRow
from pipelines.adapters import reader, references
from pipelines.core.drift import comparison, policy, windows
from pipelines.core.drift.policy import Outcome, Policy
from pipelines.core.drift.policy import State as DriftState
from pipelines.core.drift.sample import Sample
from pipelines.params import Ingestion


def check(reference: Reference, uri: str) -> Verdict:
    """Look for drift in the batch behind `uri`.

    Raises:
        DataError: it cannot be read.
    """
    from flows.drift import changes as drift_changes

    batch = batches.read(uri, reference.kind, reference.params.ingestion)
    sample = _sample(reference, batch.texts)
    compared = reference.compare(sample)
    parts = windows.even(len(sample), reference.drift.window_documents)
    rows = [_row(reference, number, sample.take(range(part.start, part.stop))) for number, part in enumerate(parts, 1)]
    outcomes = [row.outcome for row in rows]
    schema = (*_bad_rows(batch, reference.params.ingestion), *reference.shape(reference.sample, sample))
    state = _state(compared.outcome, outcomes, schema, reference.policy)
    began = _since(rows) if state == "drift" else None
    return Verdict(
        state=state,
        subject=batch.name,
        manifest_sha256=reference.manifest_sha256,
        against=f"{len(reference.sample):,} held-out documents of the release",
        documents=len(batch.texts),
        since=began,
        findings=compared.findings,
        columns=tuple(
            comparison.compare_columns(reference.sample, sample, reference.settings, seed=reference.params.seed)
        ),
        windows=tuple(rows) if len(rows) > 1 else (),
        schema=schema,
        changes=drift_changes.describe(
            reference.folder, reference.sample, sample, quote=True, seed=reference.params.seed
        ),
    )


def _sample(reference: Reference, texts: Sequence[str]) -> Sample:
    import numpy as np

    most, count = reference.drift.max_documents, len(texts)
    rng = np.random.default_rng(reference.params.seed)
    chosen = range(count) if count <= most else sorted(rng.choice(count, most, replace=False).tolist())
    read = reader.read(reference.folder, [texts[row] for row in chosen], threads=reference.params.threads)
    return references.with_texts(reference.folder, read)


def _bad_rows(batch: batches.Batch, settings: Ingestion) -> list[SchemaRow]:
    """One row of the schema about rows that are no record, where there are any."""
    if not batch.faults:
        return []
    limit = settings.max_bad_line_share
    return [
        SchemaRow(
            column="(rows)",
            expected=f"at most {100 * limit:g} % that are no record",
            observed=f"{100 * batch.bad_share:.1f} %: {', '.join(batches.names(batch.faults))}",
            met=batch.bad_share <= limit,
        )
    ]


def _row(reference: Reference, number: int, part: Sample) -> WindowRow:
    compared = reference.compare(part)
    return WindowRow(
        name=f"part {number}",
        documents=len(part),
        outcome=compared.outcome,
        began=None,
        ratios=comparison.ratios(compared.findings),
    )


def _state(whole: Outcome, parts: Sequence[Outcome], schema: Sequence[SchemaRow], rule: Policy) -> DriftState:
    if whole == "insufficient data":
        return "insufficient data"
    if whole == "differs" or policy.state(parts, rule) == "drift":
        return "drift"
    some = parts.count("differs") >= rule.needed or not all(row.met for row in schema)
    return "watch" if some else "ok"


def _since(rows: Sequence[WindowRow]) -> str | None:
    began = policy.since([row.outcome for row in rows])
    return rows[began].name if began else None

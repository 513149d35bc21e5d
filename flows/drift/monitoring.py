"""Is what comes in still what the model was made from? A batch, or the requests, beside the release's reference."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.drift import batch as batches
from flows.drift import schema as drift_schema
from flows.drift import traffic
from flows.drift.schema import SchemaRow
from flows.drift.traffic import History, Judged, Request
from pipelines import stage
from pipelines.adapters import files, reader, references, release
from pipelines.artifacts import Artifact, Display, State
from pipelines.core.drift import comparison, policy, watch, windows
from pipelines.core.drift.comparison import Comparison, Settings
from pipelines.core.drift.policy import Outcome, Policy
from pipelines.core.drift.policy import State as DriftState
from pipelines.core.drift.sample import Sample
from pipelines.errors import ArtifactError
from pipelines.params import Drift, Params

EXIT_CODES: dict[DriftState, int] = {"ok": 0, "watch": 10, "drift": 11, "insufficient data": 12}
JSON = Display.DRIFT_REPORT.path


@dataclass(frozen=True, kw_only=True)
class WindowRow:
    """One window on the time line."""

    name: str
    documents: int
    outcome: Outcome
    began: str | None
    """ISO 8601, UTC; None for a batch, which has no clock."""
    ratios: dict[str, float]
    """Test -> effect over the reference's own variation: above 1 it counts."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a look for drift came to."""

    state: DriftState
    words: str
    """The state and its reasons in a few sentences."""
    subject: str
    """What was looked at."""
    manifest_sha256: str
    """Of the release whose reference it was compared with."""
    against: str
    documents: int
    since: str | None
    """When the present run of differing windows began, or its window's name."""
    findings: tuple[comparison.Finding, ...]
    columns: tuple[comparison.ColumnFinding, ...]
    windows: tuple[WindowRow, ...]
    schema: tuple[SchemaRow, ...]
    changes: dict[str, Any] = field(default_factory=dict)
    """Words, tokens, map and, of a batch, examples, from `flows.drift.changes`; empty where texts are not kept."""

    @property
    def exit_code(self) -> int:
        """0 ok, 10 watch, 11 drift, 12 insufficient data."""
        return EXIT_CODES[self.state]


@dataclass(frozen=True, kw_only=True)
class _Bench:
    """What every comparison needs."""

    params: Params
    folder: Path
    reference: Sample
    manifest_sha256: str
    kind: str

    @property
    def drift(self) -> Drift:
        return self.params.drift

    @property
    def settings(self) -> Settings:
        names = [item.name for item in dataclasses.fields(Settings)]
        return Settings(**{name: getattr(self.drift, name) for name in names})

    @property
    def policy(self) -> Policy:
        return Policy(recent=self.drift.recent_windows, needed=self.drift.needed_windows)

    def compare(self, window: Sample) -> Comparison:
        return comparison.compare(self.reference, window, self.settings, seed=self.params.seed)


def check(
    *,
    data: str | None = None,
    kind: str = "corpus",
    requests: Path = State.REQUESTS.path,
    folder: Path = Artifact.RELEASE.path,
    accept: bool = False,
) -> Verdict:
    """Look for drift, in the workspace that is the current folder; write reports/drift.html and reports/drift.json.

    Args:
        data: A batch, in any form that ingestion reads. None: the requests.
        kind: Of the batch: corpus, or requests (instruction records, of which the prompts are taken).
        requests: Folder of the request log.
        folder: The release, whose reference is normal.
        accept: First declare the latest windows of requests to be normal, whatever was said of them.

    Raises:
        ArtifactError: the release is not as its manifest says, or carries no reference of this kind.
        DataError: the batch cannot be read.
    """
    from flows.drift import page

    bench = _bench(folder, kind if data is not None else "requests")
    verdict = _check_batch(bench, data) if data is not None else _check_requests(bench, requests, accept=accept)
    files.write_json(JSON, _plain(dataclasses.asdict(verdict)))
    page.write(verdict)
    return verdict


def _bench(folder: Path, kind: str) -> _Bench:
    if differences := release.verify(folder):
        raise ArtifactError(f"{folder} is not the release of its manifest: {'; '.join(differences)}.")
    return _Bench(
        params=stage.load_params(),
        folder=folder,
        reference=references.read(folder, kind),
        manifest_sha256=files.sha256(folder / release.MANIFEST),
        kind=kind,
    )


def _plain(value: Any) -> Any:
    """JSON with six significant digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


# A batch is one look: it is drift when it differs as a whole, or when its last parts do, as those of a stream would.


def _check_batch(bench: _Bench, uri: str) -> Verdict:
    from flows.drift import changes as drift_changes

    batch = batches.read(uri, bench.kind, bench.params.ingestion)
    sample = _read_batch(bench, batch.texts)
    compared = bench.compare(sample)
    parts = windows.even(len(sample), bench.drift.window_documents)
    rows = [
        _batch_row(bench, number, sample.take(range(part.start, part.stop))) for number, part in enumerate(parts, 1)
    ]
    outcomes = [row.outcome for row in rows]
    schema = _schema(bench, bench.reference, sample, batch)
    state = _batch_state(compared.outcome, outcomes, schema, bench.policy)
    began = _batch_since(rows) if state == "drift" else None
    verdict = Verdict(
        state=state,
        words="",
        subject=batch.name,
        manifest_sha256=bench.manifest_sha256,
        against=f"{len(bench.reference):,} held-out documents of the release",
        documents=len(batch.texts),
        since=began,
        findings=compared.findings,
        columns=tuple(comparison.compare_columns(bench.reference, sample, bench.settings, seed=bench.params.seed)),
        windows=tuple(rows) if len(rows) > 1 else (),
        schema=schema,
        changes=drift_changes.describe(bench.folder, bench.reference, sample, quote=True, seed=bench.params.seed),
    )
    return dataclasses.replace(verdict, words=words(verdict))


def _read_batch(bench: _Bench, texts: Sequence[str]) -> Sample:
    import numpy as np

    most, count = bench.drift.max_documents, len(texts)
    rng = np.random.default_rng(bench.params.seed)
    chosen = range(count) if count <= most else sorted(rng.choice(count, most, replace=False).tolist())
    read = reader.read(bench.folder, [texts[row] for row in chosen], threads=bench.params.threads)
    return references.with_texts(bench.folder, read)


def _batch_row(bench: _Bench, number: int, part: Sample) -> WindowRow:
    compared = bench.compare(part)
    return WindowRow(
        name=f"part {number}",
        documents=len(part),
        outcome=compared.outcome,
        began=None,
        ratios=comparison.ratios(compared.findings),
    )


def _batch_state(whole: Outcome, parts: Sequence[Outcome], schema: Sequence[SchemaRow], rule: Policy) -> DriftState:
    if whole == "insufficient data":
        return "insufficient data"
    if whole == "differs" or policy.state(parts, rule) == "drift":
        return "drift"
    some = parts.count("differs") >= rule.needed or not all(row.met for row in schema)
    return "watch" if some else "ok"


def _batch_since(rows: Sequence[WindowRow]) -> str | None:
    began = policy.since([row.outcome for row in rows])
    return rows[began].name if began else None


# Requests come in for ever: whole windows are judged once, and the policy looks at the latest.


def _check_requests(bench: _Bench, folder: Path, *, accept: bool) -> Verdict:
    history = History(State.DRIFT.path / bench.manifest_sha256[:12])
    if accept:
        _accept(history, bench.drift)
    known = [request for request in traffic.read(folder) if request.manifest_sha256 == bench.manifest_sha256]
    judged = history.windows()
    done = {name for window in judged for name in window.ids}
    fresh = [request for request in known if request.id not in done]
    size = bench.drift.window_documents
    latest = _Latest()
    for span in windows.whole(len(fresh), size):
        latest = _judge(bench, history, judged, known, fresh[span.start : span.stop])
        judged.append(latest.judged)
    if latest.compared is None and judged:
        latest = _again(bench, judged, known)
    return _requests_verdict(bench, judged, latest, waiting=len(fresh) % size, folder=folder)


@dataclass(frozen=True)
class _Latest:
    """The latest window, its sample and the comparison that decided."""

    judged: Any = None
    window: Sample | None = None
    reference: Sample | None = None
    compared: Comparison | None = None
    against: str = ""


def _accept(history: History, settings: Drift) -> None:
    for window in history.windows()[-settings.accepted_windows :]:
        history.write(dataclasses.replace(window, accepted=True, outcome="same"))


def _judge(
    bench: _Bench, history: History, judged: Sequence[Judged], known: Sequence[Request], asked: Sequence[Request]
) -> _Latest:
    """Judge one whole window and remember it."""
    window, found, against = _compared(bench, judged, known, asked)
    span = windows.times([request.time for request in asked], windows.Span(start=0, stop=len(asked)))
    record = Judged(
        number=judged[-1].number + 1 if judged else 1,
        ids=tuple(request.id for request in asked),
        began=span[0] if span else None,
        ended=span[1] if span else None,
        outcome=found.decided.outcome,
        against_release=found.by_release.outcome,
        accepted=found.decided.outcome == "same",
        effects=found.by_release.effects,
        ratios=comparison.ratios(found.decided.findings),
    )
    history.write(record)
    return _Latest(record, window, found.reference, found.decided, against)


def _again(bench: _Bench, judged: Sequence[Judged], known: Sequence[Request]) -> _Latest:
    """The latest window once more, for the report: nothing new has come that fills another."""
    ids = set(judged[-1].ids)
    asked = [request for request in known if request.id in ids]
    if not asked:
        return _Latest(judged=judged[-1])
    window, found, against = _compared(bench, judged[:-1], known, asked)
    return _Latest(judged[-1], window, found.reference, found.decided, against)


def _compared(
    bench: _Bench, before: Sequence[Judged], known: Sequence[Request], asked: Sequence[Request]
) -> tuple[Sample, watch.Judgement, str]:
    """The sample of a window, what it came to after the windows `before` it, and with what it was compared."""
    read = all(request.text is not None for request in asked)
    weeks = _accepted(bench, before, [request for request in known if request.text is not None or not read])
    *pasts, window = _read_requests(bench, [*weeks, asked])
    found = watch.judge(
        bench.reference,
        pasts,
        window,
        bench.settings,
        past_effects=[item.effects for item in before if item.accepted],
        most=bench.drift.max_documents,
        seed=bench.params.seed,
    )
    against = f"the last {len(pasts)} accepted windows of requests" if found.by_weeks else _release_prompts(bench)
    return window, found, against


def _release_prompts(bench: _Bench) -> str:
    return f"{len(bench.reference):,} held-out prompts of the release"


def _accepted(bench: _Bench, judged: Sequence[Judged], known: Sequence[Request]) -> list[list[Request]]:
    """The requests of the latest accepted windows that are still known; none while they are too few."""
    by_id = {request.id: request for request in known}
    weeks = [
        [by_id[name] for name in window.ids if name in by_id]
        for window in [item for item in judged if item.accepted][-bench.drift.accepted_windows :]
    ]
    weeks = [week for week in weeks if len(week) >= bench.drift.min_documents]
    return weeks if len(weeks) >= bench.drift.accepted_windows else []


def _read_requests(bench: _Bench, groups: Sequence[Sequence[Request]]) -> list[Sample]:
    """One sample a group, read together: the model is loaded once."""
    together = traffic.sample([request for group in groups for request in group], bench.folder, bench.params.threads)
    together = references.with_texts(bench.folder, together)
    found, start = [], 0
    for group in groups:
        found.append(together.take(range(start, start + len(group))))
        start += len(group)
    return found


def _requests_verdict(
    bench: _Bench, judged: Sequence[Judged], latest: _Latest, *, waiting: int, folder: Path
) -> Verdict:
    from flows.drift import changes as drift_changes

    outcomes = [window.outcome for window in judged]
    state = policy.state(outcomes, bench.policy)
    if state == "ok" and judged[-1].against_release == "differs":
        state = "watch"
    began = policy.since(outcomes)
    sample, reference = latest.window, latest.reference
    columns: list[comparison.ColumnFinding] = []
    schema: tuple[SchemaRow, ...] = ()
    changes: dict[str, Any] = {}
    if sample is not None and reference is not None:
        columns = comparison.compare_columns(reference, sample, bench.settings, seed=bench.params.seed)
        schema = _schema(bench, reference, sample, None)
        changes = drift_changes.describe(bench.folder, reference, sample, quote=False, seed=bench.params.seed)
    if state == "ok" and not all(row.met for row in schema):
        state = "watch"
    verdict = Verdict(
        state=state,
        words="",
        subject=f"requests in {folder}" + (f" ({waiting:,} wait for a whole window)" if waiting else ""),
        manifest_sha256=bench.manifest_sha256,
        against=latest.against or _release_prompts(bench),
        documents=len(judged[-1].ids) if judged else waiting,
        since=_shown(judged[began].began) or f"window {judged[began].number}" if began is not None else None,
        findings=latest.compared.findings if latest.compared else (),
        columns=tuple(columns),
        windows=tuple(map(_row, judged[-30:])),
        schema=schema,
        changes=changes,
    )
    return dataclasses.replace(verdict, words=words(verdict))


def _row(window: Judged) -> WindowRow:
    return WindowRow(
        name=f"window {window.number}",
        documents=len(window.ids),
        outcome=window.outcome,
        began=_shown(window.began),
        ratios=window.ratios,
    )


def _shown(seconds: float | None) -> str | None:
    return None if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def _schema(bench: _Bench, reference: Sample, sample: Sample, batch: batches.Batch | None) -> tuple[SchemaRow, ...]:
    rows = drift_schema.check(reference, sample, expected_share=bench.drift.expected_share)
    if batch is not None and batch.faults:
        limit = bench.params.ingestion.max_bad_line_share
        row = SchemaRow(
            column="(rows)",
            expected=f"at most {100 * limit:g} % that are no record",
            observed=f"{100 * batch.bad_share:.1f} %: {', '.join(batches.names(batch.faults))}",
            met=batch.bad_share <= limit,
        )
        rows = [row, *rows]
    return tuple(rows)


def words(verdict: Verdict) -> str:
    """The verdict in a few sentences."""
    differing = [finding for finding in verdict.findings if finding.outcome == "differs"]
    opening = {
        "ok": f"No drift in {verdict.documents:,} documents of {verdict.subject}.",
        "watch": f"Something in {verdict.subject} differs, but not yet often enough for an alarm.",
        "drift": f"Drift: {verdict.subject} is not what the model was made from.",
        "insufficient data": f"Too little is known of {verdict.subject}: neither an alarm nor an all-clear.",
    }[verdict.state]
    parts = [opening]
    if verdict.since:
        parts.append(f"Since {verdict.since}.")
    if differing:
        tests = ", ".join(
            f"{item.test} (p {item.p_value:.2g}{', ' + item.detail if item.detail else ''})" for item in differing
        )
        parts.append(f"Different: {tests}.")
    if more := [item["word"] for item in verdict.changes.get("words", []) if item["score"] > 0][:6]:
        parts.append(f"More of: {', '.join(more)}.")
    parts += [f"{item.test}: {item.detail}." for item in verdict.findings if item.outcome == "insufficient data"]
    if unmet := [row.column for row in verdict.schema if not row.met]:
        parts.append(f"Outside of the expected shape: {', '.join(unmet)}.")
    return " ".join(parts)

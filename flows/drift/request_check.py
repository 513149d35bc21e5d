"""Requests come in for ever: whole windows are judged once, and the policy looks at the latest."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.drift import traffic
from flows.drift.reference import Reference
from flows.drift.schema import SchemaRow
from flows.drift.traffic import History, Judged, Request
from flows.drift.verdict import Verdict, WindowRow
from pipelines.adapters import references
from pipelines.artifacts import State
from pipelines.core.drift import comparison, policy, watch, windows
from pipelines.core.drift.sample import Sample
from pipelines.params import Drift


def check(reference: Reference, folder: Path, *, accept: bool) -> Verdict:
    """Look for drift in the request log in `folder`, of which those that this release answered count.

    With `accept` the latest windows are first declared to be normal.
    """
    history = History(reference.root / State.DRIFT / reference.manifest_sha256[:12])
    if accept:
        _accept(history, reference.drift)
    answered = traffic.read(reference.root / folder)
    known = [request for request in answered if request.manifest_sha256 == reference.manifest_sha256]
    judged = history.windows()
    done = {name for window in judged for name in window.ids}
    fresh = [request for request in known if request.id not in done]
    size = reference.drift.window_documents
    latest: _Latest | None = None
    for span in windows.whole(len(fresh), size):
        record, latest = _judge(reference, judged, known, fresh[span.start : span.stop])
        history.write(record)
        judged.append(record)
    if latest is None and judged:
        latest = _again(reference, judged, known)
    return _verdict(reference, judged, latest, waiting=len(fresh) % size, folder=folder)


@dataclass(frozen=True, kw_only=True)
class _Latest:
    """The latest window and what it came to."""

    window: Sample
    found: watch.Judgement
    against: str
    """With what it was compared, in words."""


def _accept(history: History, settings: Drift) -> None:
    for window in history.windows()[-settings.accepted_windows :]:
        history.write(dataclasses.replace(window, accepted=True, outcome="same"))


def _judge(
    reference: Reference, judged: Sequence[Judged], known: Sequence[Request], asked: Sequence[Request]
) -> tuple[Judged, _Latest]:
    """Judge one whole window: what is remembered of it, and what is shown while it is the latest."""
    latest = _compared(reference, judged, known, asked)
    found = latest.found
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
    return record, latest


def _again(reference: Reference, judged: Sequence[Judged], known: Sequence[Request]) -> _Latest | None:
    """The latest window once more, for the report: nothing new has come that fills another."""
    ids = set(judged[-1].ids)
    asked = [request for request in known if request.id in ids]
    return _compared(reference, judged[:-1], known, asked) if asked else None


def _compared(
    reference: Reference, before: Sequence[Judged], known: Sequence[Request], asked: Sequence[Request]
) -> _Latest:
    """What a window came to after the windows `before` it."""
    read = all(request.text is not None for request in asked)
    weeks = _accepted(reference, before, [request for request in known if request.text is not None or not read])
    *pasts, window = _samples(reference, [*weeks, asked])
    found = watch.judge(
        reference.sample,
        pasts,
        window,
        reference.settings,
        past_effects=[item.effects for item in before if item.accepted],
        most=reference.drift.max_documents,
        seed=reference.params.seed,
    )
    against = f"the last {len(pasts)} accepted windows of requests" if found.by_weeks else _release_prompts(reference)
    return _Latest(window=window, found=found, against=against)


def _release_prompts(reference: Reference) -> str:
    return f"{len(reference.sample):,} held-out prompts of the release"


def _accepted(reference: Reference, judged: Sequence[Judged], known: Sequence[Request]) -> list[list[Request]]:
    """The requests of the latest accepted windows that are still known; none while they are too few."""
    by_id = {request.id: request for request in known}
    weeks = [
        [by_id[name] for name in window.ids if name in by_id]
        for window in [item for item in judged if item.accepted][-reference.drift.accepted_windows :]
    ]
    weeks = [week for week in weeks if len(week) >= reference.drift.min_documents]
    return weeks if len(weeks) >= reference.drift.accepted_windows else []


def _samples(reference: Reference, groups: Sequence[Sequence[Request]]) -> list[Sample]:
    """One sample a group, read together: the model is loaded once."""
    asked = [request for group in groups for request in group]
    together = traffic.sample(asked, reference.folder, reference.params.threads)
    together = references.with_texts(reference.folder, together)
    found, start = [], 0
    for group in groups:
        found.append(together.take(range(start, start + len(group))))
        start += len(group)
    return found


def _verdict(
    reference: Reference, judged: Sequence[Judged], latest: _Latest | None, *, waiting: int, folder: Path
) -> Verdict:
    from flows.drift import changes as drift_changes

    outcomes = [window.outcome for window in judged]
    state = policy.state(outcomes, reference.policy)
    if state == "ok" and judged[-1].against_release == "differs":
        state = "watch"
    began = policy.since(outcomes)
    columns: list[comparison.ColumnFinding] = []
    schema: tuple[SchemaRow, ...] = ()
    changes: dict[str, Any] = {}
    if latest is not None:
        normal, window, seed = latest.found.reference, latest.window, reference.params.seed
        columns = comparison.compare_columns(normal, window, reference.settings, seed=seed)
        schema = reference.shape(normal, window)
        changes = drift_changes.describe(reference.folder, normal, window, quote=False, seed=seed)
    if state == "ok" and not all(row.met for row in schema):
        state = "watch"
    return Verdict(
        state=state,
        subject=f"requests in {folder}" + (f" ({waiting:,} wait for a whole window)" if waiting else ""),
        manifest_sha256=reference.manifest_sha256,
        against=latest.against if latest else _release_prompts(reference),
        documents=len(judged[-1].ids) if judged else waiting,
        since=_shown(judged[began].began) or f"window {judged[began].number}" if began is not None else None,
        findings=latest.found.decided.findings if latest else (),
        columns=tuple(columns),
        windows=tuple(map(_row, judged[-30:])),
        schema=schema,
        changes=changes,
    )


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

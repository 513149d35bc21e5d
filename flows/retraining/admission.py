"""Which retraining an order means: a new one, one that was killed and goes on, or none, and why not."""

import time
from collections.abc import Callable
from pathlib import Path

from flows.champions import history
from flows.retraining import accepted, records, telling
from flows.retraining.records import UNFINISHED, Order, Record, Skipped, Status
from flows.workspaces import clones
from pipelines import params as schema
from pipelines.adapters import tracking
from pipelines.adapters.alerts import Alerting
from pipelines.artifacts import State


def admit(
    checkout: Path, order: Order, params: schema.Params, outbox: Alerting, attempt: Callable[[Record], None]
) -> Record | Skipped:
    """The record to work on: a new one, or one that was killed; or why there is none.

    What an earlier one has trained is published by `attempt` before a new one is begun.
    """
    before = records.read(checkout)
    unfinished = [record for record in before if record.status in UNFINISHED]
    for record in unfinished[:-1]:
        _end(checkout, record, "replaced", "a later one took its place")
    last = unfinished[-1] if unfinished else None
    if last and last.attempts >= params.retraining.attempts:
        _end(checkout, last, "given up", f"it ended {last.attempts} times without a result: {last.note or 'killed'}")
        telling.tell(last, outbox)
        last = None
    went_back = max((one.moment.timestamp() for one in history.read(checkout) if one.action == "rollback"), default=0.0)
    cooldown = params.schedule.cooldown_minutes * 60
    if why := why_not(order, before, last, cooldown, time.time(), went_back=went_back):
        return Skipped(why=why)
    profile = order.profile if order.profile is not None else params.retraining.profile
    if last and (order.reason == "resume" or _is_the_same(checkout, order, profile, last, params.retraining)):
        last.keys += [order.key] if order.key else []
        return last
    if last and "lifecycle" in last.done:
        attempt(last)
    elif last:
        _end(checkout, last, "replaced", "a later one took its place")
    return _new(checkout, order, profile)


def _is_the_same(checkout: Path, order: Order, profile: str | None, last: Record, settings: schema.Retraining) -> bool:
    """Whether `last`, gone on with, is what `order` asks for: this commit, these data."""
    if (order.start, profile, clones.head(checkout)) != (last.start, last.profile, last.commit):
        return False
    source = checkout / settings.accepted
    return "workspace" not in last.done or accepted.fingerprint(accepted.files(source), source) == last.accepted


def why_not(
    order: Order, before: list[Record], last: Record | None, cooldown: float, now: float, *, went_back: float = 0.0
) -> str:
    """Why `order` starts nothing; empty when it may.

    `last` is the one that was killed, `went_back` when a champion was last rolled back; times are in seconds.
    """
    if order.key and any(order.key in record.keys for record in before):
        return f"{order.key} has had its retraining"
    if order.reason == "resume" and last is None:
        return "no retraining was interrupted"
    if order.reason == "drift" and last is None:
        ours = [record for record in before if record.reason == "drift" and 0 <= now - record.started < cooldown]
        if ours:
            ago = (now - ours[-1].started) / 60
            return (
                f"drift started {ours[-1].id} {ago:.0f} minutes ago, and schedule.cooldown_minutes is {cooldown / 60:g}"
            )
        if 0 <= now - went_back < cooldown:
            ago = (now - went_back) / 60
            return (
                f"a champion was rolled back {ago:.0f} minutes ago, and schedule.cooldown_minutes is {cooldown / 60:g}"
            )
    return ""


def _new(checkout: Path, order: Order, profile: str | None) -> Record:
    now = time.time()
    name = tracking.new_run_name("retrain", now)
    taken = [name, *(f"{name}-{number}" for number in range(2, 1000))]
    free = next(item for item in taken if not (checkout / State.RETRAININGS / item).exists())
    record = Record(
        id=free,
        commit=clones.head(checkout),
        reason=order.reason,
        keys=[order.key] if order.key else [],
        start=order.start,
        profile=profile,
        started=now,
    )
    records.save(checkout, record)
    return record


def _end(checkout: Path, record: Record, status: Status, note: str) -> None:
    clones.evict(records.folder(checkout, record))
    record.status, record.note, record.ended = status, note, time.time()
    records.save(checkout, record)

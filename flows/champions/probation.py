"""A champion on probation: for some time after its promotion, one that answers worse than the one before goes back.

It is judged by the request log of this machine: errors, slowness, empty and looping answers; and at once when the
server here refuses to swap it in. What goes back is alerted, sent to Prefect as an event that starts nothing, and keeps
drift from retraining for `schedule.cooldown_minutes`: it was not the requests that changed.
"""

import signal
import sys
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flows.champions import history, promotion
from pipelines import params as schema
from pipelines.adapters import requests, serving_status
from pipelines.adapters.alerts import Alerting, Outbox
from pipelines.adapters.orchestrator import ROLLBACK, Server, url
from pipelines.adapters.requests import Logged
from pipelines.artifacts import State
from pipelines.core.judging.conduct import TESTS, Answered, Limits, complaint
from pipelines.errors import ArtifactError, MoteurError

WHO = "probation"
BEFORE = 10
"""The champion before is remembered by this many times as many requests, where there are as many."""
FALSE_ALARM = 0.01
"""Probability that one of all looks finds a champion worse that answers as the one before did (Bonferroni)."""
LOOK_BACK = timedelta(days=7)
"""How old the requests may be that the champion before is remembered by."""
LEFT = 499
"""Status of a request whose client did not wait: what it had been told by then says nothing of the version."""


@dataclass(frozen=True, kw_only=True)
class Probationer:
    """The champion on probation."""

    version: int
    since: datetime
    predecessor: int
    """The champion that it took the place of."""


def look(root: Path, settings: schema.Probation, outbox: Alerting, now: datetime | None = None) -> str:
    """Judge the champion once, and roll it back when it is worse; return why, or nothing.

    Raises:
        ResourceError: when MLflow does not answer: the next look tries again; or when Prefect does not take the event:
            the alert is kept all the same.
    """
    champion = on_probation(history.read(root), timedelta(minutes=settings.minutes), now or datetime.now(UTC))
    if champion is None:
        return ""
    why = refused(root, champion) or worse(root, champion, settings)
    if not why:
        return ""
    try:
        outcome = promotion.rollback(root, of=champion.version, who=WHO, why=why)
    except ArtifactError as error:
        body = f"{why}. It could not be rolled back: {error}"
        outbox.put(f"probation/{champion.version}", f"Version {champion.version} answers worse", body, "failure")
        return ""
    if outcome.moved and (api := url()):
        Server(api).emit(ROLLBACK, f"rollback/{champion.version}/{champion.since.isoformat()}", {"words": why})
    return why if outcome.moved else ""


def on_probation(entries: list[history.Entry], lasts: timedelta, now: datetime) -> Probationer | None:
    """The champion, when it was promoted over another one a short time ago."""
    live = [entry for entry in entries if entry.action in history.LIVE]
    if not live or live[-1].action != "promote" or live[-1].from_version is None:
        return None
    last = live[-1]
    if not timedelta(0) <= now - last.moment <= lasts:
        return None
    return Probationer(version=last.to_version, since=last.moment, predecessor=live[-1].from_version)


def refused(root: Path, champion: Probationer) -> str:
    """Why the server on this machine does not swap it in; empty when it does, or there is none."""
    for refusal in serving_status.read(root)["refused"]:
        its_own = refusal["version"] == str(champion.version)
        if its_own and datetime.fromisoformat(refusal["time"]) >= _second(champion.since):
            return f"the server refused it: {refusal['reason']}"
    return ""


def _second(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


def worse(root: Path, champion: Probationer, settings: schema.Probation) -> str:
    """Why its last requests went worse than the last ones of the champion before; empty while there are too few."""
    now: list[Answered] = []
    before: list[Answered] = []
    for record in requests.latest(root / State.REQUESTS):
        if record["status"] == LEFT:
            continue
        moment = datetime.fromisoformat(record["time"])
        if record.get("version") == str(champion.version) and moment >= champion.since and len(now) < settings.requests:
            now.append(_answered(record))
        elif record.get("version") == str(champion.predecessor) and len(before) < BEFORE * settings.requests:
            before.append(_answered(record))
        enough = len(now) == settings.requests and len(before) == BEFORE * settings.requests
        if enough or moment < champion.since - LOOK_BACK:
            break
    if len(now) < settings.requests:
        return ""
    looks = max(1.0, settings.minutes * 60 / settings.poll_seconds)
    limits = Limits(
        error_share=settings.max_error_share,
        poor_share=settings.max_poor_share,
        slowdown=settings.max_slowdown,
        slow_seconds=settings.slow_seconds,
        chance=FALSE_ALARM / (TESTS * looks),
    )
    return complaint(now, before if len(before) >= settings.requests else [], limits)


def _answered(record: Logged) -> Answered:
    said = record["response_descriptors"]
    return Answered(
        failed=record["status"] >= 500,
        seconds=record["seconds"],
        words=said["words"],
        repeated_trigram_share=said["repeated_trigram_share"],
    )


def main() -> None:
    """Look again and again until told to stop; params.yaml is read once."""
    from pipelines import stage

    settings, root, outbox = stage.load_params().probation, Path.cwd(), Outbox()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    while not stop.wait(settings.poll_seconds):
        try:
            if why := look(root, settings, outbox):
                print(f"rolled back: {why}", flush=True)  # noqa: T201  a service's log
        except MoteurError as error:
            print(error, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    try:
        main()
    except MoteurError as error:
        print(f"probation: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)

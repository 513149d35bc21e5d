"""Alerts on their way from the outbox to the sinks.

A sink that is down, slow or refuses gets the alert later, with a growing wait, and the other sinks do not wait for it.
Delivery is a process of its own (`python -m flows.supervision.alerts`), which `moteur up` keeps running.

A sink has an alert exactly once, unless delivery is killed, or the sink stays silent beyond `alerts.timeout_seconds`,
after it took the alert and before that was written down: then it comes again, with the same key at its end.
"""

import threading
import time
from collections.abc import Callable, Iterable

from pipelines import params as schema
from pipelines.adapters.alert_sinks import Sink
from pipelines.adapters.alerts import Alert, Outbox
from pipelines.adapters.secrets import environment_secrets
from pipelines.core.text.secrets import redact


def due(alert: Alert, sink: str, settings: schema.Alerts, now: float) -> bool:
    """Whether `sink` is to be tried with this alert at `now`: the wait doubles with each failure.

    A clock that was set back does not hold an alert for longer than the wait.
    """
    if alert.closed or sink in alert.delivered or now - alert.time > settings.give_up_hours * 3600:
        return False
    if sink not in alert.failures:
        return True
    times, last, _ = alert.failures[sink]
    wait = min(settings.first_retry_seconds * 2.0 ** min(times - 1, 32), settings.longest_retry_seconds)
    return now >= last + wait or now < last


def deliver(outbox: Outbox, to: Iterable[Sink], settings: schema.Alerts, now: Callable[[], float] = time.time) -> int:
    """Try every sink with what is due, all sinks at once; return how many alerts were taken.

    A sink that does not answer in `alerts.timeout_seconds` counts as failed and holds nobody up.

    Raises:
        ResourceError: when another process delivers.
    """
    with outbox.delivering():
        alerts = outbox.alerts()
        counts: dict[str, int] = {}
        workers = [
            threading.Thread(target=_serve, args=(outbox, sink, alerts, settings, now, counts), daemon=True)
            for sink in to
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return sum(counts.values())


def _serve(
    outbox: Outbox,
    sink: Sink,
    alerts: list[Alert],
    settings: schema.Alerts,
    now: Callable[[], float],
    counts: dict[str, int],
) -> None:
    """Hand one sink what is due, until it fails: what is behind it waits for the next time."""
    for alert in alerts:
        if not due(alert, sink.name, settings, now()):
            continue
        if why := _send(sink, alert, settings.timeout_seconds):
            outbox.note("failed", alert.key, sink=sink.name, why=redact(why, environment_secrets()))
            return
        outbox.note("delivered", alert.key, sink=sink.name)
        counts[sink.name] = counts.get(sink.name, 0) + 1


def _send(sink: Sink, alert: Alert, timeout: float) -> str:
    """Send with a limit in time that a sink cannot stretch by answering a byte at a time."""
    answer: list[str] = []

    def work() -> None:
        try:
            answer.append(sink.send(alert))
        except Exception as error:  # a plugin's own fault must not end delivery
            answer.append(f"{type(error).__name__}: {error}")

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    worker.join(timeout)
    return answer[0] if answer else f"no answer in {timeout:g} s"

"""`moteur alerts`: what somebody should know, whether they were told; and the process that tells them."""

import contextlib
import signal
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from rich.markup import escape
from rich.table import Table

from flows import terminal
from flows.supervision import supervisor
from pipelines import params as schema
from pipelines.adapters.alert_delivery import deliver
from pipelines.adapters.alert_sinks import AppriseSink, sinks
from pipelines.adapters.alerts import Alert, Outbox
from pipelines.errors import MoteurError, ResourceError

COLOURS = {"info": "blue", "warning": "yellow", "failure": "red"}
SHOWN = 20


class NotDelivered(MoteurError):  # noqa: N818  it is an outcome, and reads as one
    """A test alert did not reach every sink."""


def show(*, everything: bool) -> None:
    """Print the open alerts, or all of them, and how far their delivery is."""
    settings, console = _settings(), terminal.console()
    outbox = Outbox()
    found = outbox.alerts() if everything else outbox.open()
    if found:
        console.print(table(found[-SHOWN:], [sink.name for sink in settings.sinks], settings))
        if len(found) > SHOWN:
            console.print(f"... and {len(found) - SHOWN} older ones in .moteur/alerts/outbox.jsonl", style="dim")
        console.print("`moteur alerts --close KEY` takes one off the list.", style="dim")
    else:
        console.print("No alerts." if everything else "No open alerts.")
    for line in where(settings):
        console.print(line, markup=False, soft_wrap=True)
    if settings.sinks and not supervisor.held(Path.cwd()):
        console.print("They are sent while `moteur up` runs, which it does not.")


def table(found: list[Alert], names: list[str], settings: schema.Alerts) -> Table:
    """When, what, its key, and who was told."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("when", "alert", "told", "key"):
        shown.add_column(name, overflow="fold")
    for alert in found:
        when = datetime.fromtimestamp(alert.time).astimezone().strftime("%Y-%m-%d %H:%M")
        colour = "dim" if alert.closed else COLOURS[alert.severity]
        told = "\n".join(_told(alert, name, settings) for name in names) or "nobody"
        shown.add_row(when, f"[{colour}]{escape(alert.title)}[/{colour}]", told, escape(alert.key))
    return shown


def _told(alert: Alert, name: str, settings: schema.Alerts) -> str:
    if name in alert.delivered:
        return f"{name} yes"
    times, _, why = alert.failures.get(name, (0, 0.0, ""))
    if time.time() - alert.time > settings.give_up_hours * 3600:
        return f"{name} given up after {times} tries"
    return f"{name} failed {times}x ({escape(why[:60])})" if times else f"{name} not yet"


def where(settings: schema.Alerts) -> list[str]:
    """Where alerts go, in a sentence; how to set that up when they go nowhere."""
    if settings.sinks:
        return [f"Alerts go to {', '.join(sink.name for sink in settings.sinks)}. `moteur alerts --test` tries it."]
    return [
        "Alerts go to nobody yet. In params.yaml:",
        "  alerts:",
        "    sinks: [{name: team, environment: MOTEUR_ALERTS_URL}]",
        "and set that variable to an Apprise URL: mailtos://..., slack://..., json://... (a webhook), and 130 more.",
    ]


def test() -> None:
    """Put a test alert and hand it over at once; say how each sink took it.

    Raises:
        NotDelivered: when a sink did not take it.
        ParamsError: when a sink has no address.
    """
    settings, console = _settings(), terminal.console()
    outbox, to = Outbox(), sinks(settings)
    if not to:
        for line in where(settings):
            console.print(line, markup=False, soft_wrap=True)
        return
    key = f"test/{uuid4().hex[:12]}"
    outbox.put(key, "Test of the alerts", "Somebody ran `moteur alerts --test`. Nothing is wrong.", "info")
    alert = _outcome(outbox, key, to, settings)
    for sink in to:
        console.print(f"  {_told(alert, sink.name, settings)}")
    outbox.close(key)
    if failed := [sink.name for sink in to if sink.name not in alert.delivered]:
        raise NotDelivered(
            f"{', '.join(failed)} did not take the test alert: correct the URL or the service, then try again"
        )


def _outcome(outbox: Outbox, key: str, to: list[AppriseSink], settings: schema.Alerts) -> Alert:
    """Deliver ourselves, or let the service of `moteur up` do it and wait for what it writes down."""
    deadline = time.monotonic() + settings.timeout_seconds + 10
    while True:
        try:
            deliver(outbox, to, settings)
        except ResourceError:
            time.sleep(0.2)
        alert = next(alert for alert in outbox.alerts() if alert.key == key)
        tried = {*alert.delivered, *alert.failures}
        if tried >= {sink.name for sink in to} or time.monotonic() > deadline:
            return alert


def close(key: str) -> None:
    """Take an alert off the list.

    Raises:
        ParamsError: when there is no such alert.
    """
    Outbox().close(key)
    terminal.console().print(f"Closed {key}.", markup=False)


def _settings() -> schema.Alerts:
    from pipelines import stage

    return stage.load_params().alerts


def main(every: float = 2.0) -> None:
    """Deliver what is due, again and again, until told to stop; params.yaml is read once."""
    settings = _settings()
    outbox, to = Outbox(), sinks(settings)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    print(f"alerts go to {', '.join(sink.name for sink in to) or 'nobody'}", flush=True)  # noqa: T201  a service's log
    while not stop.wait(every):
        with contextlib.suppress(ResourceError):  # `moteur alerts --test` delivers just now
            if taken := deliver(outbox, to, settings):
                print(f"delivered {taken}", flush=True)  # noqa: T201


if __name__ == "__main__":
    try:
        main()
    except MoteurError as error:
        print(f"alerts: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)

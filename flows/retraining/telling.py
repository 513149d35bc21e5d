"""What somebody is told about a retraining: that it could not start, that it goes on, what came of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from flows.retraining import publication, records
from flows.retraining.records import Order, Record
from pipelines.adapters.alerts import Alerting
from pipelines.errors import MoteurError


@contextmanager
def if_it_cannot_start(order: Order, outbox: Alerting) -> Iterator[None]:
    """What fails before there is a record is alerted too, once a day: what fails each hour is one thing to mend.

    Whoever gave the order by hand is told by the error.
    """
    try:
        yield
    except Exception as error:
        if order.reason != "by hand":
            words = _words(error)
            key = f"retraining/not started/{datetime.now(UTC):%Y-%m-%d}/{sha256(words.encode()).hexdigest()[:8]}"
            outbox.put(key, "A retraining could not start", words, "failure")
        raise


def give_account(checkout: Path, record: Record, error: Exception, outbox: Alerting) -> None:
    """Write down how it failed and tell somebody."""
    record.status = "not published" if isinstance(error, publication.NotPublished) else "failed"
    record.note = _words(error)
    record.ended = time.time()
    records.save(checkout, record)
    tell(record, outbox)


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, MoteurError) else f"{type(error).__name__}: {error}"


def tell(record: Record, outbox: Alerting) -> None:
    """Alert when a person should look; a promotion is worth a word too."""
    if record.status in ("finished", "unchanged"):
        return
    severity: Any = "info" if record.status == "promoted" else "warning" if record.status == "refused" else "failure"
    title = f"Retraining {record.id}: {record.status}"
    when = datetime.fromtimestamp(record.started, UTC).isoformat(timespec="seconds")
    body = f"{record.note}\nStarted {when}, {record.because}, at commit {record.commit[:12]}."
    outbox.put(f"retraining/{record.id}/{record.status}", title, body, severity)


def tell_again(record: Record, outbox: Alerting) -> None:
    """Alert that one which was interrupted goes on, with how it ended before."""
    how = record.note or "It was killed, or the machine went down."
    title = f"Retraining {record.id} was interrupted and goes on"
    outbox.put(f"retraining/{record.id}/attempt {record.attempts + 1}", title, how, "warning")

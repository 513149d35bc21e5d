"""One look for drift: what `flows.monitoring` says, an alert when it matters, and the event that retrains."""

import importlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.adapters.alerts import Alerting, Outbox
from pipelines.adapters.orchestrator import DRIFT, Server, url
from pipelines.artifacts import State


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What a look for drift came to."""

    state: str
    """ok, watch, drift, or insufficient data."""
    words: str


def look(checkout: Path) -> Sight:
    """Check the requests of the checkout, and act on what is found."""
    verdict = _verdict(checkout)
    sight = Sight(state=str(verdict.state), words=str(getattr(verdict, "words", verdict.state)))
    act(sight, Outbox(checkout / State.ALERTS), url(), f"drift {time.strftime('%Y-%m-%dT%H:%MZ', time.gmtime())}")
    return sight


def act(sight: Sight, outbox: Alerting, api_url: str | None, key: str) -> None:
    """Alert on drift and send its event; the same key does neither twice.

    Raises:
        ResourceError: when the server does not take the event; the alert is kept all the same.
    """
    if sight.state != "drift":
        return
    outbox.put(key, "Drift: what is asked is not what the model was made for", sight.words, "warning")
    if api_url is not None:
        Server(api_url).emit(DRIFT, key, {"words": sight.words})


def _verdict(checkout: Path) -> Any:
    before = Path.cwd()
    os.chdir(checkout)
    try:
        return importlib.import_module("flows.monitoring").check()
    finally:
        os.chdir(before)

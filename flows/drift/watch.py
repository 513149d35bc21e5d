"""One look for drift at what the champion is asked: an alert when it matters, and the event that retrains."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.adapters import locks
from pipelines.adapters.alerts import Alerting, Outbox
from pipelines.adapters.orchestrator import DRIFT, Server, url
from pipelines.artifacts import Artifact, Display, State


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What a look for drift came to."""

    state: str
    """ok, watch, drift, or insufficient data."""
    words: str
    key: str = ""
    """Of the episode: the champion, and when its traffic began to differ. One episode alerts and retrains once."""


def look(checkout: Path) -> Sight:
    """Check the requests of the checkout beside the champion's reference, and act on what is found.

    Raises:
        ResourceError: when the Prefect server does not take the event; the alert is kept all the same.
    """
    folder = champion(checkout)
    if folder is None:
        return Sight(state="insufficient data", words="There is no champion yet, and no release in models/release.")
    from flows.drift import monitoring

    sight = seen(monitoring.check(root=checkout, folder=folder))
    act(sight, Outbox(checkout / State.ALERTS), url())
    return sight


def seen(verdict: Any) -> Sight:
    """The verdict of `flows.drift.monitoring` with the key of its episode."""
    since = verdict.since or time.strftime("%Y-%m-%d", time.gmtime())
    return Sight(state=verdict.state, words=verdict.words, key=f"drift/{verdict.manifest_sha256[:12]}/{since}")


def act(sight: Sight, outbox: Alerting, api_url: str | None) -> None:
    """Alert on drift and send its event; the same episode does neither twice.

    Raises:
        ResourceError: when the server does not take the event; the alert is kept all the same.
    """
    if sight.state != "drift":
        return
    title = "Drift: what is asked is not what the model was made for"
    outbox.put(sight.key, title, f"{sight.words}\nThe report is {Display.DRIFT}.", "warning")
    if api_url is not None:
        Server(api_url).emit(DRIFT, sight.key, {"words": sight.words})


def champion(checkout: Path) -> Path | None:
    """The champion's bundle, verified, copied out of the registry once; without a champion models/release, or None."""
    from pipelines.adapters.registry import open_registry

    registry = open_registry(root=checkout)
    if (live := registry.alias("champion")) is not None:
        return _copy(registry, live, checkout / State.CHAMPION)
    release = checkout / Artifact.RELEASE
    return release if release.is_dir() else None


def _copy(registry: Any, live: Any, home: Path) -> Path:
    """One at a time; the champion before stays beside it, which another look may be reading still."""
    folder = home / f"{live.number}-{live.manifest_sha256[:12]}"
    with locks.holding(home / "lock"):
        if not folder.is_dir():
            for old in sorted(home.glob("[!.]*/"), key=lambda each: each.stat().st_mtime)[:-1]:
                shutil.rmtree(old, ignore_errors=True)
            registry.fetch(live.number, folder)
    return folder

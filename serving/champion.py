"""Serve what is champion: notice another version, verify, load, warm up beside the old one, and swap.

MLflow moves an alias at once and tells nobody, so the alias is looked at every `poll_seconds` and resolved to a version
with the sha256 that the gate accepted; only bytes with that sha256 are ever loaded.
"""

import contextlib
import logging
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from pipelines.adapters import files, release, serving_status
from pipelines.adapters.requests import now
from pipelines.adapters.serving_status import Refused, Serving, Status
from pipelines.errors import ArtifactError, MoteurError

log = logging.getLogger("moteur.serving")

FIRST_RETRY_SECONDS = 5.0
"""A version that was refused is tried again after this time, then twice as long, and so on."""
LONGEST_RETRY_SECONDS = 300.0

UNKNOWN = "unknown"
"""The version in a refusal when the source did not answer."""


@dataclass(frozen=True)
class Candidate:
    """What should be served."""

    version: str
    manifest_sha256: str


class Source(Protocol):
    """Knows what should be served and gives its bytes."""

    def latest(self) -> Candidate | None:
        """What should be served now; None when there is nothing yet."""

    def fetch(self, candidate: Candidate, folder: Path) -> Path:
        """Put the candidate's bundle, verified, below `folder`, which nobody else writes; return where it is."""


class FolderSource:
    """A bundle in a folder; a new manifest in it is a new version.

    Args:
        folder: The bundle.
        manifest_sha256: Accept only this manifest; None: whatever is there.
    """

    def __init__(self, folder: Path, manifest_sha256: str | None = None) -> None:
        self._folder, self._accepted = folder, manifest_sha256

    def latest(self) -> Candidate | None:
        """The folder by its manifest; while it is being replaced, None.

        Raises:
            ArtifactError: when another manifest than the accepted one is there.
        """
        manifest = self._folder / release.MANIFEST
        if not manifest.is_file():
            return None
        found = files.sha256(manifest)
        if self._accepted is not None and found != self._accepted:
            raise ArtifactError(
                f"{manifest} has the sha256 {found}, but --manifest-sha256 is {self._accepted}: it was changed after it"
                " was accepted"
            )
        return Candidate(found[:12], found)

    def fetch(self, candidate: Candidate, folder: Path) -> Path:
        """A verified copy."""
        from serving import loading

        return loading.private_copy(self._folder, folder / "bundle", candidate.manifest_sha256)


class RegistrySource:
    """The version that the registry's alias `champion` names.

    Args:
        root: The workspace whose registry it is; MLFLOW_TRACKING_URI goes before it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._opened: Any = None

    def latest(self) -> Candidate | None:
        """The alias, resolved."""
        version = self._registry().alias("champion")
        return None if version is None else Candidate(str(version.number), version.manifest_sha256)

    def fetch(self, candidate: Candidate, folder: Path) -> Path:
        """A copy out of the registry, verified there and here."""
        fetched = Path(self._registry().fetch(int(candidate.version), folder / "bundle"))
        release.require_sound(fetched, candidate.manifest_sha256)
        return fetched

    def _registry(self) -> Any:
        if self._opened is None:
            from pipelines.adapters.registry import open_registry

            self._opened = open_registry(root=self._root)
        return self._opened


def alert(refusal: "Refusal") -> None:
    """Tell people, through the outbox; once for each version, however often it is tried."""
    from pipelines.adapters.alerts import Outbox

    Outbox().put(
        f"serving refused {refusal.version} {refusal.manifest_sha256}",
        f"Version {refusal.version} is not served",
        f"{refusal.reason}\nThe version before it goes on answering. `moteur rollback` takes the alias back.",
        "failure",
    )


class Served(Protocol):
    """A version that answers."""

    def retire(self) -> None:
        """Take no more requests and finish the own ones; return when that is done."""


ServedT = TypeVar("ServedT", bound=Served)


@dataclass(frozen=True)
class Refusal:
    """A version that was not swapped in."""

    version: str
    manifest_sha256: str
    reason: str
    time: str


class Champion(Generic[ServedT]):
    """Holds what is served and keeps it up to date, in a thread.

    Args:
        source: Where versions come from.
        prepare: Loads a verified bundle and warms it up; whatever it raises is a refusal.
        poll_seconds: How often the source is asked.
        scratch: A folder for bundles while they are loaded.
        status: A file that always says what is served and what was refused.
        report: Called with each new refusal.
    """

    def __init__(
        self,
        source: Source,
        prepare: Callable[[Path, Candidate], ServedT],
        *,
        poll_seconds: float,
        scratch: Path,
        status: Path,
        report: Callable[[Refusal], None] = lambda _refusal: None,
    ) -> None:
        self._source, self._prepare, self._poll, self._scratch = source, prepare, poll_seconds, scratch
        self._status, self._report = status, report
        self.current: ServedT | None = None
        self.candidate: Candidate | None = None
        self.refusals: dict[str, Refusal] = {}
        self.swaps = 0
        self._retry: dict[str, tuple[float, float]] = {}
        self._stopping = threading.Event()
        self._retiring: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._follow, name="moteur-champion", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Stop following and let what is served finish."""
        self._stopping.set()
        self._thread.join()
        for thread in self._retiring:
            thread.join()
        if self.current is not None:
            self.current.retire()

    def _follow(self) -> None:
        while not self._stopping.is_set():
            self.look()
            self._stopping.wait(self._poll)

    def look(self) -> bool:
        """Ask the source once; True when another version serves now."""
        try:
            candidate = self._source.latest()
        except Exception as error:  # a registry that is down must not end the service of what runs
            self._refuse(Candidate(UNKNOWN, UNKNOWN), error)
            return False
        if self.refusals.pop(UNKNOWN, None):
            self._write_status()
        if candidate is not None and candidate == self.candidate and self.refusals:
            self.refusals.clear()  # the alias was taken back
            self._retry.clear()
            self._write_status()
        if candidate is None or candidate == self.candidate or not self._due(candidate):
            return False
        try:
            self._swap(candidate)
        except Exception as error:  # whatever a new version does, the old one goes on
            self._refuse(candidate, error)
            return False
        return True

    def _due(self, candidate: Candidate) -> bool:
        return time.monotonic() >= self._retry.get(_key(candidate), (0.0, 0.0))[0]

    def _swap(self, candidate: Candidate) -> None:
        folder = self._scratch / f"{candidate.version}-{candidate.manifest_sha256[:12]}"
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, mode=0o700)
            fresh = self._prepare(self._source.fetch(candidate, folder), candidate)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        old, self.current, self.candidate = self.current, fresh, candidate
        self.refusals.clear()
        self._retry.clear()
        self.swaps += 1
        log.info("version %s (manifest %s) serves now", candidate.version, candidate.manifest_sha256)
        self._write_status()
        if old is not None:
            self._retiring = [thread for thread in self._retiring if thread.is_alive()]
            self._retiring.append(threading.Thread(target=old.retire, name="moteur-retiring", daemon=True))
            self._retiring[-1].start()

    def _refuse(self, candidate: Candidate, error: Exception) -> None:
        reason = str(error) if isinstance(error, MoteurError) else f"{type(error).__name__}: {error}"
        waited = self._retry.get(_key(candidate), (0.0, FIRST_RETRY_SECONDS / 2))[1]
        wait = min(2 * waited, LONGEST_RETRY_SECONDS)
        self._retry[_key(candidate)] = (time.monotonic() + wait, wait)
        before = self.refusals.get(candidate.version)
        refusal = Refusal(candidate.version, candidate.manifest_sha256, reason, f"{now():%Y-%m-%dT%H:%M:%SZ}")
        self.refusals[candidate.version] = refusal
        if before is None or before.reason != reason:
            log.error("version %s is not served: %s", candidate.version, reason)
            self._write_status()
            with contextlib.suppress(Exception):  # the old version answers, whatever becomes of the message
                self._report(refusal)

    def _write_status(self) -> None:
        served = self.candidate
        status = Status(
            serving=Serving(version=served.version, manifest_sha256=served.manifest_sha256) if served else None,
            refused=[
                Refused(version=one.version, manifest_sha256=one.manifest_sha256, reason=one.reason, time=one.time)
                for one in self.refusals.values()
            ],
        )
        with contextlib.suppress(OSError, MoteurError):  # a full disk must not end the service
            serving_status.write(self._status, status)


def _key(candidate: Candidate) -> str:
    return f"{candidate.version} {candidate.manifest_sha256}"

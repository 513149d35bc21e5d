"""Real Prefect and MLflow servers, as a user runs them; each can be killed and started again on its port."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DEADLINE_SECONDS = 120


def until(found: Callable[[], Any], what: str, seconds: float = 120.0) -> Any:
    """Poll until `found` gives something."""
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline, f"{what}: it did not happen"
        time.sleep(0.1)
    return value


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A process that answers over HTTP."""

    command: list[str]
    uri: str
    health: str
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it; `wait` tells when it answers."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PREFECT_"))}
        silent = {"MLFLOW_DISABLE_TELEMETRY": "true", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=log,
                env={**kept, **silent, **self.environment},
                start_new_session=True,
            )

    def wait(self) -> None:
        """Return when it answers."""
        assert self.process is not None
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(OSError), urllib.request.urlopen(self.health, timeout=5) as answer:  # noqa: S310
                if answer.status == 200:
                    return
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def kill(self) -> None:
        """SIGKILL to it and its workers."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)


def mlflow(folder: Path, store: str) -> Server:
    """A server with one worker that keeps its artifacts itself, as a team would run it."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    words = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--serve-artifacts"]
    words += ["--backend-store-uri", store, "--artifacts-destination", str(folder / "artifacts")]
    uri = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", *words]
    return Server(command=command, uri=uri, health=f"{uri}/health", log=folder / "server.log")


def prefect(folder: Path, store: str | None = None) -> Server:
    """A server that keeps its database at `store`, or as a file in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    database = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": store} if store else {}
    uri = f"http://127.0.0.1:{port}/api"
    return Server(
        command=[sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        uri=uri,
        health=f"{uri}/health",
        log=folder / "server.log",
        environment={"PREFECT_HOME": str(folder), "PREFECT_LOGGING_SERVER_LEVEL": "WARNING", **database},
    )

"""The Prefect server by its HTTP API, for what needs no client: events, what runs, what runs next.

Prefect's own client takes a second to import; this does not, so that a status is quick, and an event has been taken by
the server, or has not, when `emit` returns.
"""

import os
import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from pipelines.core.text.secrets import redact
from pipelines.errors import ResourceError

DRIFT = "moteur.drift"
"""Name of the event that starts a retraining."""
ROLLBACK = "moteur.rollback"
"""Name of the event that a champion was rolled back without a person; it starts nothing."""
RESOURCE = "moteur.champion"
"""The resource of our events."""
NAMES = {"retrain": "retrain/retrain", "monitor": "monitor/monitor"}
"""Our deployments, as Prefect has them: flow/deployment."""

PATIENCE = {"PREFECT_CLIENT_MAX_RETRIES": "7", "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500"}
"""For Prefect's client: it tries again for four minutes, also where the server, its database gone, answers 500."""
BUSY = (429, 503)
"""What the server answers when it asks to be asked again: on SQLite, whenever two write at the same time."""
BUSY_WAITS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
"""Seconds between two attempts, about, so that those who collided do not collide again."""


def url() -> str | None:
    """The server that PREFECT_API_URL names; None when it is not set."""
    return (os.environ.get("PREFECT_API_URL") or "").rstrip("/") or None


class Server:
    """A Prefect server."""

    def __init__(self, api_url: str, timeout: float = 10.0) -> None:
        self._url, self._timeout = api_url.rstrip("/"), timeout

    def ready(self) -> bool:
        """True when it answers."""
        try:
            return bool(self.call("GET", "/health"))
        except ResourceError:
            return False

    def emit(self, event: str, key: str, payload: Mapping[str, Any]) -> None:
        """Send an event. What it starts is told the key, and does nothing for a key that it has seen.

        Raises:
            ResourceError: when the server does not take it.
        """
        body = {
            "id": str(uuid4()),
            "occurred": datetime.now(UTC).isoformat(),
            "event": event,
            "resource": {"prefect.resource.id": RESOURCE, "prefect.resource.name": "champion"},
            "related": [],
            "payload": {**payload, "key": key},
        }
        self.call("POST", "/events", [body])

    def runs(self, deployment: str, *, states: list[str] | None = None, limit: int = 5) -> list[dict[str, Any]]:
        """Flow runs of a deployment (`flow/deployment`), the latest first; those of `states` (types) only.

        Raises:
            ResourceError: when the server does not answer.
        """
        flow, _, name = deployment.partition("/")
        query: dict[str, Any] = {
            "deployments": {"name": {"any_": [name]}},
            "flows": {"name": {"any_": [flow]}},
            "limit": limit,
            "sort": "EXPECTED_START_TIME_DESC",
        }
        if states:
            query["flow_runs"] = {"state": {"type": {"any_": states}}}
        found: list[dict[str, Any]] = self.call("POST", "/flow_runs/filter", query)
        return found

    def next_run(self, deployment: str) -> datetime | None:
        """When the deployment runs next; None when nothing is planned.

        Raises:
            ResourceError: when the server does not answer.
        """
        planned = self.runs(deployment, states=["SCHEDULED"], limit=200)
        times = [datetime.fromisoformat(run["next_scheduled_start_time"]) for run in planned if _is_planned(run)]
        return min(times, default=None)

    def start(self, deployment: str, parameters: Mapping[str, Any], key: str) -> str:
        """Let a deployment run now; the same key gives the run that it gave before. Return the run's id.

        Raises:
            ResourceError: when the server does not know the deployment, or does not answer.
        """
        flow, name = deployment.split("/")
        found = self.call("GET", f"/deployments/name/{flow}/{name}")
        body = {"parameters": dict(parameters), "idempotency_key": key, "state": {"type": "SCHEDULED"}}
        return str(self.call("POST", f"/deployments/{found['id']}/create_flow_run", body)["id"])

    def give_up(self, run: str, why: str) -> None:
        """Declare a flow run crashed.

        Raises:
            ResourceError: when the server does not answer.
        """
        self.call("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "CRASHED", "message": why}, "force": True})

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Call the API; return what it answers.

        Raises:
            ResourceError: when it does not answer, or refuses.
        """
        import httpx

        try:
            for wait in (*BUSY_WAITS, None):
                answer = httpx.request(
                    method, self._url + path, json=body, headers=_credentials(), timeout=self._timeout, trust_env=False
                )
                if answer.status_code not in BUSY or wait is None:
                    break
                time.sleep(wait * random.uniform(0.5, 1.5))
            answer.raise_for_status()
        except httpx.HTTPStatusError as error:
            said = error.response.text[:300]
            raise ResourceError(
                f"The Prefect server at {redact(self._url)} answers {error.response.status_code} to {method} {path}:"
                f" {said}"
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ResourceError(
                f"The Prefect server at {redact(self._url)} does not answer ({type(error).__name__}): `moteur up`"
                " starts one, or set PREFECT_API_URL to yours."
            ) from None
        return answer.json() if answer.content else None


def _is_planned(run: Mapping[str, Any]) -> bool:
    return bool(run.get("next_scheduled_start_time"))


def _credentials() -> dict[str, str]:
    """For a server of the user's own: Prefect's variables, as its own client reads them."""
    from base64 import b64encode

    if pair := os.environ.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}
    if key := os.environ.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    return {}

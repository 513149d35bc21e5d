"""What /metrics shows, in a registry of this server's own."""

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counters, histograms and gauges of one server.

    Args:
        load: Rows that run or wait.
        running: Rows that run.
        swaps: Versions that were swapped in.
        refused: Versions that are refused now.
    """

    def __init__(
        self,
        *,
        load: Callable[[], float],
        running: Callable[[], float],
        swaps: Callable[[], float],
        refused: Callable[[], float],
    ) -> None:
        self._registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self._registry}
        self.responses = Counter("moteur_http_responses", "Responses by path and status.", ["path", "status"], **own)
        self.seconds = Histogram("moteur_request_seconds", "Time of a whole answer.", buckets=_SECONDS, **own)
        self.first_token = Histogram("moteur_first_token_seconds", "Time to the first token.", buckets=_SECONDS, **own)
        self.prompt_tokens = Counter("moteur_prompt_tokens", "Tokens read.", **own)
        self.completion_tokens = Counter("moteur_completion_tokens", "Tokens written.", **own)
        self.left = Counter("moteur_clients_left", "Requests whose client left before the end.", **own)
        self.log_failures = Counter("moteur_request_log_failures", "Requests the log could not take.", **own)
        for name, text, value in (
            ("moteur_sequences_waiting_or_running", "Sequences inside the engine.", load),
            ("moteur_sequences_running", "Sequences that are being answered.", running),
            ("moteur_version_swaps", "Versions swapped in since the start.", swaps),
            ("moteur_versions_refused", "Versions refused and not replaced since.", refused),
        ):
            Gauge(name, text, **own).set_function(value)

    def text(self) -> bytes:
        """In Prometheus' format."""
        return generate_latest(self._registry)

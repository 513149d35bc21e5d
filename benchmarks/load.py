"""Constant traffic for a server: its clients and requests a second stay the same, whatever the server does."""

import http.client
import itertools
import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

REQUEST_TIMEOUT = 120.0


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One request."""

    at: float
    """When it was sent, in seconds since the load began."""
    seconds: float
    """Until the whole answer was there."""
    fault: str
    """Empty for an answer with status 200."""


class Load:
    """Chat requests from threads, each with a connection of its own; stop() ends them.

    Args:
        port: Of the server on this machine.
        token: Its bearer token.
        prompts: What is asked, in turn, from the beginning again at the end.
        clients: How many ask at once.
        rate: Requests a second, all clients together. A client that waits for an answer sends nothing meanwhile.
        max_tokens: Longest answer.
    """

    def __init__(
        self, port: int, token: str, prompts: Sequence[str], *, clients: int, rate: float, max_tokens: int
    ) -> None:
        self._port, self._token, self._max_tokens = port, token, max_tokens
        self._gap = clients / rate
        self._asked: Iterator[str] = itertools.cycle(prompts)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._began = time.monotonic()
        self.answers: list[Answered] = []
        self._threads = [threading.Thread(target=self._client, args=(i / rate,), daemon=True) for i in range(clients)]
        for thread in self._threads:
            thread.start()

    def turn(self, prompts: Sequence[str]) -> None:
        """Ask these from now on."""
        with self._lock:
            self._asked = itertools.cycle(prompts)

    def stop(self) -> None:
        """End the load; requests under way are waited for."""
        self._ended.set()
        for thread in self._threads:
            thread.join(REQUEST_TIMEOUT)

    def _client(self, delay: float) -> None:
        connection: http.client.HTTPConnection | None = None
        due = time.monotonic() + delay
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            began = time.monotonic()
            due = max(due + self._gap, began)
            connection = connection or http.client.HTTPConnection("127.0.0.1", self._port, timeout=REQUEST_TIMEOUT)
            fault = self._ask(connection)
            if fault:
                connection.close()
                connection = None
            found = Answered(at=began - self._began, seconds=time.monotonic() - began, fault=fault)
            with self._lock:
                self.answers.append(found)

    def _ask(self, connection: http.client.HTTPConnection) -> str:
        """Ask the next prompt; what was wrong with the answer, or nothing."""
        with self._lock:
            prompt = next(self._asked)
        body = {
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": self._max_tokens,
            "temperature": 0,
        }
        try:
            connection.request(
                "POST", "/v1/chat/completions", json.dumps(body), {"Authorization": f"Bearer {self._token}"}
            )
            response = connection.getresponse()
            said = response.read()
        except (OSError, http.client.HTTPException) as error:
            return f"{type(error).__name__}: {error}"
        return "" if response.status == 200 else f"{response.status}: {said[:200].decode(errors='replace')}"

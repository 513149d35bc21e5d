"""Connections that cannot be held open for nothing: heads and what is sent have deadlines, idle ones make room."""

import asyncio
import socket
import struct
import time
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

from pipelines.params import ServingLimits

LARGEST_HEAD = 16_384
"""Bytes of a request's head."""

_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class PatientProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, against clients that send a head byte by byte or never, or take no answer."""

    header_seconds: ClassVar[float]
    send_seconds: ClassVar[float]
    most_connections: ClassVar[int]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deadline: asyncio.TimerHandle | None = None
        self._taking: asyncio.TimerHandle | None = None
        self._since = time.monotonic()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room when there are too many, and start the clock."""
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            idle = [
                one for one in self.connections if isinstance(one, PatientProtocol) and one is not self and one.idle
            ]
            if not idle:
                transport.write(_BUSY)
                transport.close()
                return
            min(idle, key=lambda one: one._since).drop()  # noqa: SLF001  of our own kind
        self._wait_for_head()

    @property
    def idle(self) -> bool:
        """No request is being answered."""
        return self.cycle is None or bool(self.cycle.response_complete)

    def data_received(self, data: bytes) -> None:
        """Take bytes; the clock runs until they make a whole head."""
        super().data_received(data)
        if not self.idle:
            self._stop_waiting()
        elif self._deadline is None and not self.transport.is_closing():
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to wait for any more."""
        self._stop_waiting()
        self._stop_sending()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Start a clock: what was written waits for the client."""
        super().pause_writing()
        self._wait_for_taking()

    def resume_writing(self) -> None:
        """The client has taken enough."""
        self._stop_sending()
        super().resume_writing()

    def on_response_complete(self) -> None:
        """A connection that is kept alive is idle from now on."""
        self._since = time.monotonic()
        super().on_response_complete()

    def drop(self) -> None:
        """Close at once."""
        self._stop_waiting()
        self.transport.abort()

    def _wait_for_taking(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._taking = self.loop.call_later(self.send_seconds, self._drop_unless_taken, left)

    def _drop_unless_taken(self, left: int) -> None:
        """End a connection that still has all of what was `left`; nothing is written while it is paused."""
        if self.transport.get_write_buffer_size() < left:
            self._wait_for_taking()
            return
        at_once = struct.pack("ii", 1, 0)  # else the system keeps what is not taken, for as long as the client lives
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        self.drop()

    def _stop_sending(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def _wait_for_head(self) -> None:
        self._deadline = self.loop.call_later(self.header_seconds, self.drop)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def protocol(limits: ServingLimits) -> type[PatientProtocol]:
    """The protocol with these limits, for uvicorn's `http`."""
    settings = {
        "header_seconds": limits.header_seconds,
        "send_seconds": limits.send_seconds,
        "most_connections": limits.connections,
    }
    return type("PatientProtocol", (PatientProtocol,), settings)

"""A connection is not held for a client that takes nothing, and not taken from one that is slow."""

import errno
import select
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn

from serving import connections
from tests import learning
from tests.serving.live import wait_for

ANSWER = 32 * 2**20
"""More bytes than the system takes for a client that does not read."""


@pytest.fixture
def ended() -> list[bool]:
    """Whether the application knew that the client was gone, for each answer."""
    return []


@pytest.fixture
def port(ended: list[bool]) -> Iterator[int]:
    """Of a server with a long answer, whose clients may take nothing for a fifth of a second."""

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        for _ in range(ANSWER // 2**16):
            await send({"type": "http.response.body", "body": bytes(2**16), "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        ended.append((await receive())["type"] == "http.disconnect")

    limits = learning.params().serving.limits.model_copy(update={"send_seconds": 0.2})
    config = uvicorn.Config(app, http=connections.protocol(limits), ws="none", lifespan="off", log_level="warning")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        wait_for(lambda: server.started)
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join(timeout=60)
    assert not thread.is_alive()


def ask(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    return connection


def test_row_43_a_client_that_takes_nothing_of_its_answer_is_reset(port: int, ended: list[bool]) -> None:
    with ask(port) as silent:
        waiting = select.poll()
        waiting.register(silent, select.POLLERR | select.POLLHUP)
        assert waiting.poll(60_000), "the connection is still open"
        assert silent.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET
    wait_for(lambda: bool(ended))
    assert ended == [True]


def test_row_43_a_client_that_takes_a_little_is_waited_for_again() -> None:
    waited: list[int] = []
    one: Any = object.__new__(connections.protocol(learning.params().serving.limits))
    one.transport = SimpleNamespace(get_write_buffer_size=lambda: 5)
    one.loop = SimpleNamespace(call_later=lambda _seconds, _call, left: waited.append(left))
    one._drop_unless_taken(9)
    assert waited == [5]


def test_row_43_a_client_that_reads_gets_all_of_a_long_answer(port: int) -> None:
    with ask(port) as reading:
        received = 0
        while piece := reading.recv(2**20):
            received += len(piece)
    assert received > ANSWER

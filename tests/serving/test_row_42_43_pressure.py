"""Rows 42 and 43: hostile bodies, floods, slow and vanishing clients, against a real server."""

import collections
import concurrent.futures
import json
import socket
import struct
import time
from typing import Any

import psutil
import pytest

from pipelines.adapters import requests
from tests.serving.live import PROMPT, TOKEN, Server, wait_for

HEAD = f"POST /v1/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n"


def status(connection: socket.socket) -> bytes:
    return connection.recv(65536).split(b" ", 2)[1]


def rest(connection: socket.socket) -> bytes:
    """What still comes until the server closes; a reset is an end too."""
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received


def resident(server: Server) -> int:
    size: int = psutil.Process(server.process.pid).memory_info().rss
    return size


def test_row_42_hostile_bodies_are_refused_before_the_engine_and_memory_stays_flat(server: Server) -> None:
    hostile: list[tuple[bytes, int]] = [
        (b'{"prompt": "' + b"a " * 1_000_000 + b'"}', 413),
        (json.dumps({"prompt": "boat " * 20_000}).encode(), 413),
        (json.dumps({"prompt": [5] * 60_000}).encode(), 413),
        (json.dumps({"prompt": ["a"] * 50_000}).encode(), 422),
        (json.dumps({"prompt": "a", "n": 100_000}).encode(), 422),
        (json.dumps({"prompt": "a", "max_tokens": 10**12}).encode(), 422),
        (b'{"prompt": "a", "temperature": NaN}', 422),
        (b"[" * 200_000, 422),
        (b'{"prompt": "a", "x": ' + b"{" * 100_000, 422),
        (json.dumps({"prompt": "a", "unknown": 1}).encode(), 422),
        (b"\x00" * 1000, 422),
    ]
    for body, expected in hostile:
        assert server.ask("POST", "/v1/completions", raw=body)[0] == expected, body[:60]
    before, answered = resident(server), server.metric("moteur_completion_tokens_total")
    for _ in range(5):
        for body, expected in hostile:
            assert server.ask("POST", "/v1/completions", raw=body)[0] == expected
    assert server.metric("moteur_completion_tokens_total") == answered
    assert resident(server) - before < 30 * 2**20
    assert server.complete()[0] == 200


def test_row_42_a_body_without_a_length_is_counted_as_it_comes(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall((HEAD + "Transfer-Encoding: chunked\r\n\r\n").encode())
        try:
            for _ in range(40):
                connection.sendall(b"4000\r\n" + b"a" * 0x4000 + b"\r\n")
        except (BrokenPipeError, ConnectionResetError):
            return
        assert status(connection) == b"413"


def test_row_42_a_head_without_end_is_refused(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX: " + b"a" * 60_000)
        assert rest(connection)[:12] in (b"HTTP/1.1 400", b"")


def test_row_43_a_flood_of_ten_times_the_capacity_is_told_when_to_come_again(server: Server) -> None:
    alone = server.complete(max_tokens=60)[2]["choices"][0]["text"]

    def ask(_number: int) -> tuple[int, str | None, float, Any]:
        started = time.monotonic()
        code, headers, body = server.complete(max_tokens=60)
        return code, headers.get("retry-after"), time.monotonic() - started, body

    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(ask, range(160)))
    codes = collections.Counter(code for code, *_ in answers)
    assert set(codes) == {200, 429}
    assert codes[200] >= 16
    assert all(body["choices"][0]["text"] == alone for code, _, _, body in answers if code == 200)
    assert all(after is not None and 1 <= int(after) <= 60 for code, after, _, _ in answers if code == 429)
    assert all("sequences run or wait" in body["error"]["message"] for code, _, _, body in answers if code == 429)
    wait_for(server.idle)


def test_row_43_connections_that_never_send_a_whole_head_are_closed(server: Server) -> None:
    slow = [server.connect() for _ in range(20)]
    for connection in slow:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nX-Slow: ")
    assert server.complete()[0] == 200
    for connection in slow:
        assert rest(connection) == b""
        connection.close()


def test_row_43_more_slow_connections_than_there_is_room_for_lock_nobody_out(server: Server) -> None:
    slow = [server.connect() for _ in range(70)]
    assert server.complete()[0] == 200
    for connection in slow:
        connection.close()


def test_row_43_a_head_that_comes_byte_by_byte_is_closed_in_time(server: Server) -> None:
    refused = pytest.raises((BrokenPipeError, ConnectionResetError))
    with server.connect() as connection, refused:
        for _ in range(2_000):
            connection.sendall(b"a")
            time.sleep(0.01)


def test_row_43_a_body_that_does_not_come_is_answered_with_408(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall((HEAD + 'Content-Length: 100\r\n\r\n{"prompt"').encode())
        assert status(connection) == b"408"


def stream(server: Server, *, max_tokens: int) -> socket.socket:
    body = json.dumps({"prompt": PROMPT, "max_tokens": max_tokens, "stream": True, "temperature": 0, "n": 4}).encode()
    connection = server.connect()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sendall((HEAD + f"Content-Length: {len(body)}\r\n\r\n").encode() + body)
    return connection


def test_row_43_a_client_that_leaves_frees_its_place(server: Server) -> None:
    left = server.metric("moteur_clients_left_total")
    for number in range(1, 6):
        connection = stream(server, max_tokens=200)
        assert connection.recv(100)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        wait_for(lambda now=left + number: server.metric("moteur_clients_left_total") == now)
        wait_for(server.idle)
    gone = [one for one in requests.read(server.root / ".moteur/requests") if one["finish"] == ["cancelled"]]
    assert len(gone) >= 5
    assert all(one["completion_tokens"] < 4 * 200 for one in gone)
    assert server.complete()[0] == 200


def test_row_43_a_client_that_does_not_read_holds_nobody_up(server: Server) -> None:
    silent = stream(server, max_tokens=200)
    assert server.complete(max_tokens=60)[0] == 200
    wait_for(server.idle)
    silent.close()

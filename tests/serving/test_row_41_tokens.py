"""Row 41: every route but health is behind a token, compared in constant time."""

from pathlib import Path

import pytest

from pipelines.errors import MoteurError
from serving import guard
from tests.serving.live import TOKEN, Server

PROBED = ["/", "/docs", "/redoc", "/docs/oauth2-redirect", "/openapi.json", "/metrics", "/v1/models", "/v1/files"]
EVASIONS = ["/health/../metrics", "/health/live/../../metrics", "/health%2Flive/../metrics", "//metrics", "/metrics/"]


def routes(server: Server) -> list[tuple[str, str]]:
    paths = server.ask("GET", "/openapi.json")[2]["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def test_row_41_every_route_but_health_asks_for_the_token(server: Server) -> None:
    listed = routes(server)
    assert len(listed) == 6
    every = [*listed, *(("GET", path) for path in (*PROBED, *EVASIONS)), ("POST", "/metrics"), ("DELETE", "/v1/models")]
    answers = {(method, path): server.ask(method, path, token=None)[0] for method, path in every}
    assert {call for call, status in answers.items() if status != 401} == {
        ("GET", "/health/live"),
        ("GET", "/health/ready"),
    }


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Bearer \xe9\xff"],
)
def test_row_41_anything_but_the_token_is_refused(server: Server, header: str) -> None:
    with server.connect() as connection:
        connection.sendall(f"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: {header}\r\n\r\n".encode("latin-1"))
        answer = connection.recv(65536)
    assert answer.split(b" ")[1] == b"401"
    assert b"www-authenticate: Bearer" in answer


def test_row_41_two_headers_are_refused(server: Server) -> None:
    twice = f"Authorization: Bearer {TOKEN}\r\nAuthorization: Bearer x\r\n"
    with server.connect() as connection:
        connection.sendall(f"GET /v1/models HTTP/1.1\r\nHost: a\r\n{twice}\r\n".encode())
        assert connection.recv(65536).split(b" ")[1] == b"401"


def test_row_41_every_token_is_compared_whole_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []
    real = guard.hmac.compare_digest

    def compare(shown: bytes, right: bytes) -> bool:
        compared.append((len(shown), len(right)))
        return bool(real(shown, right))

    monkeypatch.setattr(guard.hmac, "compare_digest", compare)
    tokens = guard.Tokens(["first-token-0123456789", "second-token-0123456789"])
    assert tokens.accepts(b"Bearer first-token-0123456789")
    assert tokens.accepts(b"bearer second-token-0123456789")
    for wrong in (None, b"", b"Bearer f", b"Bearer first-token-012345678", b"Bearer " + b"x" * 10_000):
        assert not tokens.accepts(wrong)
    assert compared == [(32, 32)] * 14


def test_a_token_file_is_made_for_the_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(guard.VARIABLE, raising=False)
    path = tmp_path / "state" / "token"
    tokens = guard.read_tokens(path)
    made = path.read_text().strip()
    assert len(made) >= 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert tokens.accepts(f"Bearer {made}".encode())
    path.write_text(f"{made}\nanother-token-0123456789\n")
    assert guard.read_tokens(path).accepts(b"Bearer another-token-0123456789")
    path.chmod(0o644)
    with pytest.raises(MoteurError, match="can be read by others: chmod 600"):
        guard.read_tokens(path)


@pytest.mark.parametrize(
    ("token", "sentence"), [("short", "a token of 5 characters"), ("with a space 0123456", "without spaces")]
)
def test_a_token_that_can_be_guessed_is_refused_without_being_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str, sentence: str
) -> None:
    monkeypatch.setenv(guard.VARIABLE, token)
    with pytest.raises(MoteurError, match=sentence) as caught:
        guard.read_tokens(tmp_path / "token")
    assert token not in str(caught.value)
    assert list(tmp_path.iterdir()) == []

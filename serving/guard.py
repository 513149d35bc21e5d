"""What stands before the application: tokens, sizes, deadlines. Nothing here knows what a model is."""

import asyncio
import contextlib
import hashlib
import hmac
import os
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from pathlib import Path
from typing import Any

from pipelines.errors import MoteurError
from pipelines.params import ServingLimits
from serving.wire import ApiError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = frozenset({"/health/live", "/health/ready"})
"""All that is answered without a token."""

VARIABLE = "MOTEUR_TOKEN"
_SHORTEST = 16
_DRAINED = 10
"""Times the longest body that is thrown away of one that is too long."""


class Tokens:
    """The accepted tokens, kept as digests.

    Args:
        tokens: Any number; each at least 16 characters.

    Raises:
        MoteurError: when there is none, or one that can be guessed.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        self._digests = [hashlib.sha256(token.encode()).digest() for token in tokens if _strong(token)]
        if not self._digests:
            raise MoteurError(f"there is no token: set {VARIABLE}, or write one into serving.token_file")

    def accepts(self, header: bytes | None) -> bool:
        """Whether an Authorization header carries an accepted token; takes as long for a wrong as for a right one."""
        scheme, _, token = (header or b"").partition(b" ")
        shown = hashlib.sha256(token.strip()).digest()
        right = [hmac.compare_digest(shown, digest) for digest in self._digests]
        return any(right) and scheme.lower() == b"bearer"


def _strong(token: str) -> bool:
    if len(token) < _SHORTEST or not token.isascii() or any(character.isspace() for character in token):
        raise MoteurError(
            f"a token of {len(token)} characters is not accepted: at least {_SHORTEST} ASCII characters without spaces;"
            f" correct {VARIABLE} or the file that serving.token_file names"
        )
    return True


def read_tokens(path: Path) -> Tokens:
    """Tokens from the environment, else from a file, which is made with a random token when it is missing.

    Raises:
        MoteurError: when others may read the file, or it holds no usable token.
    """
    return Tokens(_given(path))


def first_token(path: Path) -> str:
    """The first of the tokens of `read_tokens`, for a server that knows only one."""
    return _given(path)[0]


def _given(path: Path) -> list[str]:
    if given := os.environ.get(VARIABLE):
        return [given.strip()]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
    if path.stat().st_mode & 0o077:
        raise MoteurError(f"{path} can be read by others: chmod 600 {path}")
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


class Guard:
    """Middleware: token, then the whole body within size and time, then the application.

    Args:
        app: What is guarded.
        tokens: Who may pass.
        limits: Sizes and times.
        count: Called with path and status of every response.
    """

    def __init__(self, app: App, *, tokens: Tokens, limits: ServingLimits, count: Callable[[str, int], None]) -> None:
        self._app, self._tokens, self._limits, self._count = app, tokens, limits, count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        send = self._counting(scope["path"], send)
        try:
            self._authorise(scope)
            body = await self._body(scope, receive)
        except ApiError as error:
            await respond(send, error)
            return
        await self._app(scope, _replayed(body, receive), send)

    def _authorise(self, scope: Scope) -> None:
        if scope["path"] in OPEN_PATHS:
            return
        headers = [value for name, value in scope["headers"] if name == b"authorization"]
        if not self._tokens.accepts(headers[0] if len(headers) == 1 else None):
            why = "wrong" if headers else "missing"
            raise ApiError(401, f"the token is {why}: send `Authorization: Bearer TOKEN`", code="invalid_api_key")

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        most = self._limits.body_bytes
        too_large = ApiError(413, f"the body is longer than {most} bytes", code="body_too_large")
        for name, value in scope["headers"]:
            if name == b"content-length" and (not value.isdigit() or len(value) > 15 or int(value) > most):
                await self._drain(scope, receive)
                raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    message = await receive()
                    body += message.get("body", b"")
                    if len(body) > most:
                        raise too_large
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            seconds = self._limits.body_seconds
            raise ApiError(408, f"the body did not arrive within {seconds:g} s", code="body_too_slow") from None

    async def _drain(self, scope: Scope, receive: Receive) -> None:
        """Throw away what a client is sending, within reason: one that cannot finish does not read the answer."""
        if any(name == b"expect" for name, _ in scope["headers"]):
            return
        left = _DRAINED * self._limits.body_bytes
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.body_seconds):
                while left > 0:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return

    def _counting(self, path: str, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(path, message["status"])
            await send(message)

        return sending


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body in one message, then what really comes: that the client leaves."""
    sent = False

    async def receiving() -> Message:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}
        while (message := await receive())["type"] != "http.disconnect":
            continue
        return message

    return receiving


async def respond(send: Send, error: ApiError) -> None:
    """Send an error as a whole response; a request whose body was not read ends its connection."""
    body = error.body
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **error.headers}
    if error.status in (401, 408, 413):
        headers["Connection"] = "close"
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})

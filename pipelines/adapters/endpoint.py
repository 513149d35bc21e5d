"""Answers of a server that speaks OpenAI's HTTP API, each kept on disk by the hash of what was asked.

What is kept is never asked again, so a stage that was killed or is repeated gives the same and pays once.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipelines.adapters import files
from pipelines.core.text.prompts import Message
from pipelines.core.text.secrets import COVER, redact
from pipelines.errors import DataError, ParamsError
from pipelines.params import Endpoint

KEY = "feedback.constitution.endpoint"
WAITS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before each further try; a server that says Retry-After is waited for longer, up to `LONGEST_WAIT`."""
LONGEST_WAIT = 60.0
TRANSIENT = {408, 409, 425, 429, 500, 502, 503, 504}
REFUSED = {400, 413, 422}
"""Of a server that answers others: this conversation is too long for it, or its filter takes offence."""
LARGEST = 1 << 20
"""Bytes of one response; what is longer is no answer to us."""


class _Again(Exception):  # noqa: N818  it is a request, not a fault
    """It is worth asking again, after `wait` seconds at least."""

    def __init__(self, why: str, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait


class Client:
    """Asks one server.

    Args:
        settings: Which server, and how patiently.
        kept: Folder of the answers that were given before.
        sleep: Waits some seconds between two tries.

    Raises:
        ParamsError: the environment variable with the token is not set.
    """

    def __init__(self, settings: Endpoint, kept: Path, sleep: Callable[[float], object] = time.sleep) -> None:
        self._settings, self._kept, self._sleep = settings, kept, sleep
        self._token = _token(settings)
        self._url = settings.base_url.rstrip("/") + "/chat/completions"
        self._failure: BaseException | None = None
        self._serves = False
        """It has answered: what it refuses from then on, it refuses for what it says."""

    def answers(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        max_tokens: int,
        seed: int,
        advance: Callable[[int], None] = lambda _count: None,
    ) -> list[str | None]:
        """The next turn of each conversation, in the order given; None where it is empty, cut off or refused.

        Raises:
            DataError: the server refuses, or does not answer after all tries.
        """
        bodies = [self._body(conversation, max_tokens, seed) for conversation in conversations]
        import httpx

        with httpx.Client(timeout=self._settings.timeout_seconds, trust_env=False) as client:
            pool, self._failure = ThreadPoolExecutor(self._settings.concurrent), None
            try:
                ask = {json.dumps(body): pool.submit(self._answer, client, body) for body in bodies}
                found = []
                for body in bodies:
                    found.append(ask[json.dumps(body)].result())
                    advance(1)
                return found
            except BaseException as error:
                self._failure = self._failure or error  # those that are under way stop at their next try
                raise self._failure from None
            finally:
                pool.shutdown(cancel_futures=True)

    def _body(self, conversation: Sequence[Message], max_tokens: int, seed: int) -> dict[str, Any]:
        asked = {"messages": list(conversation), "max_tokens": max_tokens, "temperature": 0, "seed": seed}
        return {"model": self._settings.model, **asked}

    def _answer(self, client: Any, body: dict[str, Any]) -> str | None:
        path = self._path(body)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(path.read_text(encoding="utf-8"))["answer"]
            if kept is None or isinstance(kept, str):
                self._serves |= kept is not None
                return kept
        try:
            answer = self._asked(client, body)
        except BaseException as error:
            self._failure = self._failure or error
            raise
        files.write_json(path, {"answer": answer})
        return answer

    def _path(self, body: dict[str, Any]) -> Path:
        asked = json.dumps([self._url, body], sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(asked.encode(errors="surrogatepass")).hexdigest()
        return self._kept / digest[:2] / f"{digest}.json"

    def _asked(self, client: Any, body: dict[str, Any]) -> str | None:
        for wait in (*WAITS, None):
            if self._failure is not None:
                raise self._failure
            try:
                return self._once(client, body)
            except _Again as error:
                if wait is None:
                    raise DataError(
                        f"{self._where()} gave no answer in {len(WAITS) + 1} tries; at last: {error}. Answers so far"
                        " are kept: run again when it is well, or raise"
                        f" {KEY}.timeout_seconds or lower {KEY}.concurrent in params.yaml."
                    ) from None
                self._sleep(min(max(wait, error.wait), LONGEST_WAIT))
        raise AssertionError

    def _once(self, client: Any, body: dict[str, Any]) -> str | None:
        import httpx

        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        try:
            with client.stream("POST", self._url, json=body, headers=headers) as answer:
                content = self._content(answer)
        except httpx.HTTPError as error:
            raise _Again(self._covered(f"{type(error).__name__} {error}".strip())) from None
        except httpx.InvalidURL as error:
            raise ParamsError(f"{KEY}.base_url is no address: {error}; correct it in params.yaml") from None
        if answer.status_code in TRANSIENT:
            raise _Again(f"HTTP {answer.status_code}", _retry_after(answer.headers.get("Retry-After", "")))
        if self._serves and answer.status_code in REFUSED:
            return None
        if answer.status_code != httpx.codes.OK:
            told = self._covered(" ".join(content.decode(errors="replace").split()))[:300]
            raise DataError(
                f"{self._where()} refuses with HTTP {answer.status_code}: {told}\nCorrect {KEY} (base_url, model, the"
                " token in the variable that token_environment names) in params.yaml."
            )
        said = self._said(content)
        self._serves = True
        return said

    def _content(self, answer: Any) -> bytes:
        """The body, within the limits of time and size as a whole: a server may send a byte now and then for ever."""
        end, content = time.monotonic() + self._settings.timeout_seconds, b""
        for piece in answer.iter_bytes():
            content += piece
            if len(content) > LARGEST:
                raise DataError(f"{self._where()} sends more than {LARGEST:,} bytes at once: is it the right address?")
            if time.monotonic() > end:
                raise _Again(f"no whole answer in {self._settings.timeout_seconds:g} seconds")
        return content

    def _said(self, content: bytes) -> str | None:
        try:
            choice = json.loads(content)["choices"][0]
            text, ended = choice["message"]["content"], choice.get("finish_reason")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            raise DataError(
                f"{self._where()} does not answer as OpenAI's API does (choices[0].message.content): correct"
                f" {KEY}.base_url in params.yaml, which ends with /v1 for most servers."
            ) from None
        if not isinstance(text, str) or not text.strip() or ended == "length":
            return None
        text = text.encode(errors="replace").decode().strip()
        return text.replace(self._token, COVER) if self._token else text

    def _where(self) -> str:
        return f"The server at {redact(self._settings.base_url)} ({KEY})"

    def _covered(self, text: str) -> str:
        text = text.replace(self._token, COVER) if self._token else text  # also one that is too short for `redact`
        return redact(text, {self._token} if self._token else ())


def _token(settings: Endpoint) -> str | None:
    name = settings.token_environment
    if name is None:
        return None
    token = os.environ.get(name, "").strip()
    if not token:
        raise ParamsError(
            f"{KEY}.token_environment names {name}, but this variable is not set: set it, or null in params.yaml where"
            " the server wants no token"
        )
    if not (token.isascii() and token.isprintable()):
        raise ParamsError(f"the variable {name} ({KEY}.token_environment) holds what no HTTP header may: set it anew")
    return token


def _retry_after(value: str) -> float:
    return float(value) if value.isascii() and value.isdigit() else 0.0

"""The OpenAI HTTP API on the wire: bodies in, checked against every limit; answers out."""

import difflib
import json
import math
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.params import ServingLimits
from serving.engine import Generation, Piece
from serving.sampling import Scored


class ApiError(Exception):
    """A request that is answered with an error.

    Args:
        status: HTTP status.
        message: What, which value, and the remedy.
        code: Machine-readable reason.
        param: The field at fault.
        retry_after: Seconds after which it is worth trying again.
    """

    def __init__(
        self, status: int, message: str, *, code: str, param: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        if status == 401:
            self.headers["WWW-Authenticate"] = "Bearer"

    @property
    def body(self) -> bytes:
        """As OpenAI's clients read it."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return json.dumps({"error": error}, ensure_ascii=False).encode(errors="replace")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class StreamOptions(_Body):
    """What a stream carries beside text."""

    include_usage: bool = False


class _Common(_Body):
    """Fields of both routes; those that only have one allowed value are there so that clients may send them."""

    model: str | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    n: Annotated[int, Field(ge=1)] = 1
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] | None = None
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    user: str | None = None
    beams: Annotated[int, Field(ge=1)] = 1
    """Extension: width of a beam search."""
    length_penalty: Annotated[float, Field(ge=-5, le=5)] = 1.0
    """Extension: of the beam search."""
    presence_penalty: Annotated[float, Field(ge=0, le=0)] = 0.0
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] = 0.0
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None


class CompletionRequest(_Common):
    """POST /v1/completions."""

    prompt: str | list[str] | list[int] | list[list[int]]
    logprobs: Annotated[int, Field(ge=0)] | None = None
    echo: Literal[False] = False
    suffix: None = None
    best_of: Annotated[int, Field(ge=1)] | None = None


class TextPart(_Body):
    """A part of a message; only text is read."""

    type: Literal["text"]
    text: str


class ChatMessage(_Body):
    """One turn."""

    role: Literal["system", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None


class ResponseFormat(_Body):
    """Only text is written."""

    type: Literal["text"]


class ChatRequest(_Common):
    """POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0)] | None = None
    response_format: ResponseFormat | None = None
    store: Literal[False] | None = None


_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")


def depth(body: bytes, most: int) -> int:
    """How deeply JSON is nested, without parsing it; counting ends beyond `most`."""
    deepest = current = 0
    for bracket in _BRACKETS.finditer(_STRINGS.sub(b"", body)):
        current += 1 if bracket[0] in b"[{" else -1
        deepest = max(deepest, current)
        if deepest > most:
            break
    return deepest


def parsed(body: bytes, limits: ServingLimits) -> Any:
    """JSON, strictly: no NaN, no key twice, not deeper than the limit.

    Raises:
        ApiError: 422, with what is wrong.
    """
    if depth(body, limits.json_depth) > limits.json_depth:
        raise ApiError(422, f"the JSON is nested deeper than {limits.json_depth}", code="json_too_deep")
    try:
        return json.loads(body, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ApiError(422, f"the body is not JSON: {error}", code="invalid_json") from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number]))
        raise ValueError(f"the key {twice[:40]!r} appears twice")
    return values


RequestT = TypeVar("RequestT", bound=_Common)


def request(kind: type[RequestT], body: bytes, limits: ServingLimits) -> RequestT:
    """Check a body against schema and limits.

    Raises:
        ApiError: 422, with the first field that is wrong.
    """
    try:
        asked = kind.model_validate(parsed(body, limits))
    except ValidationError as error:
        first = error.errors()[0]
        raise ApiError(422, _sentence(kind, first), code="invalid_value", param=_path(first["loc"])) from None
    _within(asked, limits)
    return asked


def _path(location: Sequence[int | str]) -> str:
    return ".".join(str(part) for part in location[:4]) or "body"


def _sentence(kind: type[BaseModel], error: Any) -> str:
    where, value = _path(error["loc"]), repr(error.get("input"))
    shown = value if len(value) <= 60 else f"{value[:60]}..."
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(error["loc"][-1])[:60], kind.model_fields, n=1)
        meant = f"did you mean {close[0]}?" if close else "it is not supported here; leave it out"
        return f"{where[:80]}: no such field; {meant}"
    if error["type"] == "missing":
        return f"{where}: missing; add it"
    message = error["msg"]
    return f"{where} is {shown}: {message[0].lower()}{message[1:]}"


def _within(asked: _Common, limits: ServingLimits) -> None:
    stops = stop_strings(asked)
    longest = max(map(len, stops), default=0)
    tops = asked.top_logprobs if isinstance(asked, ChatRequest) else getattr(asked, "logprobs", None)
    limited = (
        ("n", asked.n, limits.choices),
        ("beams", asked.beams, limits.beams),
        ("stop", len(stops), limits.stops),
        ("stop (characters)", longest, limits.stop_characters),
        ("logprobs", tops or 0, limits.logprobs),
        ("max_tokens", answer_tokens(asked) or 1, limits.max_tokens),
    )
    for name, value, most in limited:
        if value > most:
            raise ApiError(422, f"{name} is {value}, but at most {most} is served", code="too_large", param=name)
    if asked.beams > 1 and asked.n > asked.beams:
        raise ApiError(422, f"n is {asked.n} but beams is {asked.beams}: lower n", code="invalid_value", param="n")
    if asked.beams > 1 and (other := _not_of_beams(asked)):
        raise ApiError(422, f"beams cannot be joined with {other}", code="invalid_value", param="beams")
    if isinstance(asked, CompletionRequest) and asked.best_of not in (None, asked.n):
        raise ApiError(422, "best_of is not supported; use beams", code="invalid_value", param="best_of")
    if isinstance(asked, ChatRequest) and asked.top_logprobs is not None and not asked.logprobs:
        raise ApiError(422, "top_logprobs needs logprobs: true", code="invalid_value", param="top_logprobs")
    if asked.stream_options is not None and not asked.stream:
        raise ApiError(422, "stream_options needs stream: true", code="invalid_value", param="stream_options")


def _not_of_beams(asked: _Common) -> str | None:
    """A field of sampling, or what only sampling answers. Temperature 1 is what clients send who say nothing."""
    given = {
        "seed": asked.seed is not None,
        "logprobs": _alternatives(asked) is not None,
        "a temperature": asked.temperature not in (0.0, 1.0),
        "top_p": asked.top_p != 1.0,
    }
    return next((name for name, is_given in given.items() if is_given), None)


def stop_strings(asked: _Common) -> tuple[str, ...]:
    """As a tuple; empty strings stop nothing."""
    given = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
    return tuple(stop for stop in given if stop)


def answer_tokens(asked: _Common) -> int | None:
    """What the request says of the answer's length."""
    other = asked.max_completion_tokens if isinstance(asked, ChatRequest) else None
    return asked.max_tokens if other is None else other


def messages(asked: ChatRequest) -> list[dict[str, str]]:
    """As chat templates read them."""
    return [
        {
            "role": message.role,
            "content": message.content
            if isinstance(message.content, str)
            else "\n".join(part.text for part in message.content),
        }
        for message in asked.messages
    ]


def generation(
    asked: _Common, prompts: list[list[int]], *, context: int, entries: int, lead: str, limits: ServingLimits
) -> Generation:
    """What the engine is asked, once the prompts are tokens.

    Args:
        asked: The request.
        prompts: Token ids.
        context: Tokens that the model can see.
        entries: Size of the model's vocabulary.
        lead: What the template puts before an answer.
        limits: Of the server.

    Raises:
        ApiError: 413 for a prompt that is too long, 422 for tokens that do not exist or an answer that does not fit.
    """
    if len(prompts) * asked.n > limits.choices:
        message = f"{len(prompts)} prompts times n = {asked.n} is more than the {limits.choices} answers served at once"
        raise ApiError(422, message, code="too_large", param="n")
    longest = max(map(len, prompts), default=0)
    if not prompts or not all(prompts):
        raise ApiError(422, "the prompt is empty: give at least one token", code="invalid_value", param="prompt")
    refuse_long(longest, context=context, limits=limits)
    if any(not 0 <= token < entries for prompt in prompts for token in prompt):
        raise ApiError(422, f"a token id is not within 0 to {entries - 1}", code="invalid_value", param="prompt")
    wanted = answer_tokens(asked)
    room = context - longest
    if wanted is not None and wanted > room:
        raise ApiError(
            422,
            f"max_tokens is {wanted}, but after a prompt of {longest} tokens only {room} fit the model's context of"
            f" {context}: lower max_tokens or shorten the prompt",
            code="context_length_exceeded",
            param="max_tokens",
        )
    return Generation(
        prompts=prompts,
        max_tokens=wanted if wanted is not None else min(room, limits.max_tokens),
        temperature=0.0 if asked.beams > 1 else asked.temperature,
        top_p=asked.top_p,
        choices=asked.n,
        seed=asked.seed,
        stops=stop_strings(asked),
        logprobs=_alternatives(asked),
        beams=asked.beams,
        length_penalty=asked.length_penalty,
        lead=lead,
        stream=asked.stream,
    )


def refuse_long(tokens: int, *, context: int, limits: ServingLimits) -> None:
    """Refuse a prompt of at least this many tokens when that is too many.

    Raises:
        ApiError: 413.
    """
    most = min(limits.prompt_tokens, context - 1)
    if tokens > most:
        raise ApiError(
            413,
            f"the prompt has {tokens} tokens or more, but at most {most} are read: shorten it",
            code="context_length_exceeded",
            param="prompt",
        )


def _alternatives(asked: _Common) -> int | None:
    if isinstance(asked, ChatRequest):
        return (asked.top_logprobs or 0) if asked.logprobs else None
    return asked.logprobs if isinstance(asked, CompletionRequest) else None


@dataclass
class Answer:
    """Puts pieces together the way one route words them."""

    chat: bool
    model: str
    prompt_tokens: int
    spell: Any
    """One token id to its text."""
    identity: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))
    completion_tokens: int = 0
    texts: dict[int, list[str]] = field(default_factory=dict)
    scores: dict[int, list[Scored]] = field(default_factory=dict)
    finishes: dict[int, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Names the request, in the answer and in the request log."""
        return f"{'chatcmpl' if self.chat else 'cmpl'}-{self.identity}"

    def take(self, piece: Piece) -> None:
        """Remember a piece."""
        self.completion_tokens += len(piece.tokens)
        self.texts.setdefault(piece.choice, []).append(piece.text)
        self.scores.setdefault(piece.choice, []).extend(piece.scored)
        if piece.finish is not None:
            self.finishes[piece.choice] = piece.finish

    @property
    def text(self) -> str:
        """All choices, for descriptors."""
        return "\n\n".join("".join(self.texts[choice]) for choice in sorted(self.texts))

    @property
    def usage(self) -> dict[str, int]:
        """Tokens read and written."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }

    def whole(self, *, logprobs: bool) -> bytes:
        """The answer of a request without streaming."""
        choices = [self._choice(number, logprobs) for number in sorted(self.texts)]
        kind = "chat.completion" if self.chat else "text_completion"
        return _encoded({**self._head(kind), "choices": choices, "usage": self.usage})

    def _choice(self, number: int, logprobs: bool) -> dict[str, Any]:
        text = "".join(self.texts[number])
        said: dict[str, Any] = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        scores = self._logprobs(self.scores[number], 0) if logprobs else None
        return {"index": number, **said, "logprobs": scores, "finish_reason": self.finishes[number]}

    def chunk(self, piece: Piece, *, logprobs: bool) -> bytes:
        """A piece as an event of a stream; take it before."""
        first = len(self.texts[piece.choice]) == 1
        delta = {**({"role": "assistant"} if first else {}), "content": piece.text}
        said: dict[str, Any] = {"delta": delta} if self.chat else {"text": piece.text}
        before = "".join(self.texts[piece.choice][:-1]) if logprobs else ""
        scores = self._logprobs(piece.scored, len(before)) if logprobs else None
        choice = {"index": piece.choice, **said, "logprobs": scores, "finish_reason": piece.finish}
        return self._event({"choices": [choice]})

    def usage_chunk(self) -> bytes:
        """The event that `stream_options.include_usage` asks for."""
        return self._event({"choices": [], "usage": self.usage})

    def _event(self, value: dict[str, Any]) -> bytes:
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return b"data: " + _encoded({**self._head(kind), **value}) + b"\n\n"

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _logprobs(self, scores: list[Scored], offset: int) -> dict[str, Any]:
        if self.chat:
            return {"content": [{**self._spelled(score.token, score.logprob), "top_logprobs": [
                self._spelled(token, value) for token, value in score.top
            ]} for score in scores], "refusal": None}  # fmt: skip
        tokens = [self.spell(score.token) for score in scores]
        offsets = [offset + sum(map(len, tokens[:place])) for place in range(len(tokens))]
        return {
            "tokens": tokens,
            "token_logprobs": [score.logprob for score in scores],
            "top_logprobs": [{self.spell(token): value for token, value in score.top} for score in scores],
            "text_offset": offsets,
        }

    def _spelled(self, token: int, logprob: float) -> dict[str, Any]:
        text = self.spell(token)
        return {"token": text, "logprob": logprob, "bytes": list(text.encode(errors="replace"))}


DONE = b"data: [DONE]\n\n"


def error_event(error: ApiError) -> bytes:
    """An error in the middle of a stream."""
    return b"data: " + error.body + b"\n\n"


def _encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(errors="replace")

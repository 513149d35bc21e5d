"""The HTTP application: OpenAI's routes, health, metrics."""

import asyncio
import contextlib
import datetime
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from pipelines.adapters.requests import Ended, RequestLog, now
from pipelines.core.text import chat
from pipelines.params import ServingLimits
from serving import loading, wire
from serving.champion import Candidate, Champion
from serving.engine import Engine, EngineClosedError, EngineFullError, Job, Piece, mean_nats
from serving.guard import Guard, Tokens
from serving.metrics import Metrics
from serving.wire import ApiError

log = logging.getLogger("moteur.serving")

RETRY_LOADING_SECONDS = 5
_LONG_TEXT = 4_000
"""Characters from which a prompt is made into tokens in a thread."""


class Runner:
    """One version that answers.

    Args:
        engine: Its engine, warmed up.
        loaded: What the engine runs.
        candidate: Which version that is.
    """

    def __init__(self, engine: Engine, loaded: loading.Loaded, candidate: Candidate) -> None:
        self.engine, self.name, self.tokenizer = engine, loaded.name, loaded.tokenizer
        self.candidate = candidate
        self.created = int(time.time())
        self.entries = int(loaded.model.get_input_embeddings().weight.shape[0])
        self._longest_entry = max(len(token.encode(errors="replace")) for token in self.tokenizer.get_vocab())

    def retire(self) -> None:
        """Finish what was taken."""
        self.engine.close()

    def least_tokens(self, text: str) -> int:
        """No tokenization of `text` has fewer tokens."""
        return len(text.encode(errors="replace")) // self._longest_entry

    def text_ids(self, text: str) -> list[int]:
        """A text as tokens."""
        ids: list[int] = self.tokenizer(text)["input_ids"]
        return ids

    def text(self, ids: list[int]) -> str:
        """Tokens as text; those that do not exist are left out."""
        text: str = self.tokenizer.decode([token for token in ids if 0 <= token < self.entries])
        return text

    def chat_ids(self, messages: list[dict[str, str]]) -> list[int]:
        """A conversation as tokens."""
        if not self.tokenizer.chat_template:
            raise ApiError(422, f"{self.name} has no chat template: use /v1/completions", code="no_chat_template")
        try:
            return loading.chat_ids(self.tokenizer, messages)
        except Exception as error:  # templates refuse conversations in words of their own
            raise ApiError(422, f"messages: {error}", code="invalid_value", param="messages") from None

    def spell(self, token: int) -> str:
        """One token as text."""
        text: str = self.tokenizer.decode([token], clean_up_tokenization_spaces=False)
        return text


class Mailroom:
    """Hands pieces from engine threads to the coroutines that wait for them."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._boxes: dict[Job, asyncio.Queue[Piece]] = {}

    def open(self) -> None:
        """Use the loop that runs now."""
        self._loop = asyncio.get_running_loop()

    def deliver(self, batch: list[tuple[Job, Piece]]) -> None:
        """Called by engine threads; never blocks."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(self._sort, batch)

    def _sort(self, batch: list[tuple[Job, Piece]]) -> None:
        for job, piece in batch:
            if (box := self._boxes.get(job)) is not None:
                box.put_nowait(piece)

    def box(self, job: Job) -> "asyncio.Queue[Piece]":
        """The queue of a job that was submitted just now, on the loop's thread."""
        return self._boxes.setdefault(job, asyncio.Queue())

    def clear(self, job: Job) -> None:
        """Nobody reads this job's pieces any more."""
        self._boxes.pop(job, None)


@dataclass(frozen=True)
class _Prepared:
    """Prompts as tokens of one version."""

    prompts: list[list[int]]
    said: str
    """What is described, and perhaps logged."""
    lead: str


@dataclass(eq=False)
class _Call:
    """One request on its way."""

    route: str
    prompt: str
    runner: Runner
    job: Job
    box: "asyncio.Queue[Piece]"
    answer: wire.Answer
    started: float
    logged: bool = False


class Api:
    """The application and what it needs.

    Args:
        champion: What is served.
        mailroom: Where the engines deliver.
        tokens: Who may ask.
        limits: How much.
        request_log: Where requests are remembered.
        text_hours: Age at which logged text is deleted.
    """

    def __init__(
        self,
        champion: Champion[Runner],
        mailroom: Mailroom,
        *,
        tokens: Tokens,
        limits: ServingLimits,
        request_log: RequestLog,
        text_hours: float,
    ) -> None:
        self._champion, self._mailroom, self._limits = champion, mailroom, limits
        self._log, self._text_age = request_log, datetime.timedelta(hours=text_hours)
        self._mean_seconds = 1.0
        self._log_is_broken = False
        self.metrics = Metrics(
            load=lambda: champion.current.engine.load if champion.current else 0,
            running=lambda: champion.current.engine.running if champion.current else 0,
            swaps=lambda: champion.swaps,
            refused=lambda: len(champion.refusals),
        )
        self.app = self._application(tokens)

    def _application(self, tokens: Tokens) -> FastAPI:
        app = FastAPI(title="Moteur", docs_url=None, redoc_url=None, lifespan=self._lifespan)
        known = set[str]()

        def count(path: str, status: int) -> None:
            self.metrics.responses.labels(path if path in known else "other", str(status)).inc()

        app.add_middleware(Guard, tokens=tokens, limits=self._limits, count=count)
        app.add_exception_handler(ApiError, _api_error)
        app.add_exception_handler(HTTPException, _http_error)
        routes: list[tuple[str, str, Callable[..., Any], Any]] = [
            ("GET", "/health/live", self._live, None),
            ("GET", "/health/ready", self._ready, None),
            ("GET", "/metrics", self._show_metrics, None),
            ("GET", "/v1/models", self._models, None),
            ("POST", "/v1/completions", self._complete, wire.CompletionRequest),
            ("POST", "/v1/chat/completions", self._chat, wire.ChatRequest),
        ]
        for method, path, endpoint, body in routes:
            known.add(path)
            extra = _described(body)
            name = path.strip("/").replace("/", "_")
            app.add_api_route(path, endpoint, methods=[method], name=name, response_model=None, openapi_extra=extra)
        app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
        return app

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        self._mailroom.open()
        self._champion.start()
        cleaning = asyncio.create_task(self._forget_old_text())
        yield
        cleaning.cancel()
        await asyncio.to_thread(self._champion.stop)
        self._log.close()

    async def _forget_old_text(self) -> None:
        pause = min(60.0, self._text_age.total_seconds() / 4)
        while True:
            try:
                await asyncio.to_thread(self._log.expire, now() - self._text_age)
            except Exception as error:  # whatever is wrong with a file, old text is looked for again
                log.error("old text of the request log could not be deleted: %s", error)
            await asyncio.sleep(pause)

    async def _live(self) -> JSONResponse:
        """The process answers."""
        return JSONResponse({"live": True})

    async def _ready(self) -> JSONResponse:
        """A version is served, and which; versions that were refused are named."""
        runner = self._champion.current
        served = runner.candidate if runner is not None else None
        return JSONResponse(
            {
                "ready": served is not None,
                "model": runner.name if runner is not None else None,
                "version": served.version if served is not None else None,
                "manifest_sha256": served.manifest_sha256 if served is not None else None,
                "swaps": self._champion.swaps,
                "refused": sorted(self._champion.refusals),
            },
            status_code=503 if served is None else 200,
            headers={"Retry-After": str(RETRY_LOADING_SECONDS)} if served is None else None,
        )

    async def _show_metrics(self) -> Response:
        """For Prometheus."""
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def _models(self) -> JSONResponse:
        """The one model that is served."""
        runner = self._runner()
        card = {"id": runner.name, "object": "model", "created": runner.created, "owned_by": "moteur"}
        return JSONResponse({"object": "list", "data": [{**card, "version": runner.candidate.version}]})

    async def _complete(self, request: Request) -> Response:
        """Continue a text."""
        asked = wire.request(wire.CompletionRequest, await request.body(), self._limits)
        given = asked.prompt
        many: list[Any] = [given] if isinstance(given, str) or all(isinstance(one, int) for one in given) else [*given]
        if len(many) > self._limits.choices:
            message = f"{len(many)} prompts at once, but at most {self._limits.choices} are served"
            raise ApiError(422, message, code="too_large", param="prompt")

        async def prepare(runner: Runner) -> _Prepared:
            prompts = [await self._text_ids(runner, one) if isinstance(one, str) else one for one in many]
            texts = [one if isinstance(one, str) else runner.text(one) for one in many]
            return _Prepared(prompts, "\n\n".join(texts), lead="")

        return await self._answer(request, "completions", asked, prepare)

    async def _chat(self, request: Request) -> Response:
        """Answer a conversation."""
        asked = wire.request(wire.ChatRequest, await request.body(), self._limits)
        messages = wire.messages(asked)
        size = sum(len(message["content"]) for message in messages)
        said = "\n\n".join(message["content"] for message in messages if message["role"] != "assistant")

        async def prepare(runner: Runner) -> _Prepared:
            self._refuse_long(runner, sum(runner.least_tokens(message["content"]) for message in messages))
            ids = await _threaded(size, runner.chat_ids, messages)
            return _Prepared([ids], said, lead=chat.LEAD)

        return await self._answer(request, "chat.completions", asked, prepare)

    async def _text_ids(self, runner: Runner, text: str) -> list[int]:
        self._refuse_long(runner, runner.least_tokens(text))
        return await _threaded(len(text), runner.text_ids, text)

    def _refuse_long(self, runner: Runner, tokens: int) -> None:
        wire.refuse_long(tokens, context=runner.engine.context, limits=self._limits)

    def _runner(self, model: str | None = None) -> Runner:
        runner = self._champion.current
        if runner is None:
            raise ApiError(
                503, "no version is served yet: come again", code="not_ready", retry_after=RETRY_LOADING_SECONDS
            )
        if model is not None and model != runner.name:
            message = f"there is no model {model[:80]!r} here; this is {runner.name!r}"
            raise ApiError(404, message, code="model_not_found", param="model")
        return runner

    async def _answer(
        self,
        request: Request,
        route: str,
        asked: wire.CompletionRequest | wire.ChatRequest,
        prepare: Callable[[Runner], Awaitable["_Prepared"]],
    ) -> Response:
        call = await self._submitted(route, asked, prepare)
        self.metrics.prompt_tokens.inc(call.answer.prompt_tokens)
        if asked.stream:
            usage = asked.stream_options is not None and asked.stream_options.include_usage
            return _Events(self._streamed(call, usage=usage), media_type="text/event-stream")
        return await self._whole(request, call)

    async def _submitted(
        self,
        route: str,
        asked: wire.CompletionRequest | wire.ChatRequest,
        prepare: Callable[[Runner], Awaitable["_Prepared"]],
    ) -> "_Call":
        """Hand over to the engine; when a swap comes between, all again with the new version and its tokenizer."""
        started = time.monotonic()
        while True:
            runner = self._runner(asked.model)
            prepared = await prepare(runner)
            generation = wire.generation(
                asked,
                prepared.prompts,
                context=runner.engine.context,
                entries=runner.entries,
                lead=prepared.lead,
                limits=self._limits,
            )
            try:
                job = runner.engine.submit(generation)
            except EngineFullError as full:
                seconds = math.ceil(self._mean_seconds * runner.engine.load / runner.engine.slots)
                wait = max(1, min(seconds, 60))
                raise ApiError(429, f"{full}: come again later", code="queue_full", retry_after=wait) from None
            except EngineClosedError:
                if self._champion.current is runner:
                    raise ApiError(503, "the server is stopping", code="stopping", retry_after=1) from None
                continue
            read = sum(map(len, prepared.prompts))
            answer = wire.Answer(route.startswith("chat"), runner.name, read, runner.spell)
            return _Call(route, prepared.said, runner, job, self._mailroom.box(job), answer, started)

    async def _whole(self, request: Request, call: _Call) -> Response:
        leaving = asyncio.create_task(_left(request))
        try:
            while not (call.logged and call.box.empty()):
                taking = asyncio.create_task(call.box.get())
                await asyncio.wait({taking, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if not taking.done():
                    taking.cancel()
                    return Response(status_code=499)
                piece = taking.result()
                if piece.error is not None:
                    await self._remember(call, "error", 500)
                    raise ApiError(500, f"the model failed: {piece.error}", code="engine_failed")
                call.answer.take(piece)
                if piece.last:
                    await self._remember(call, None, 200)
            return Response(
                call.answer.whole(logprobs=call.job.asked.logprobs is not None), media_type="application/json"
            )
        finally:
            leaving.cancel()
            self._end(call)

    async def _streamed(self, call: _Call, *, usage: bool) -> AsyncIterator[bytes]:
        logprobs = call.job.asked.logprobs is not None
        try:
            last = False
            while not last:
                piece = await call.box.get()
                if piece.error is not None:
                    await self._remember(call, "error", 500)
                    failed = ApiError(500, f"the model failed: {piece.error}", code="engine_failed")
                    yield wire.error_event(failed)
                    return
                call.answer.take(piece)
                last = piece.last
                if last:
                    await self._remember(call, None, 200)
                yield call.answer.chunk(piece, logprobs=logprobs)
            if usage:
                yield call.answer.usage_chunk()
            yield wire.DONE
        finally:
            self._end(call)

    def _end(self, call: _Call) -> None:
        """Whatever happened: the engine works for nobody, and the request is remembered."""
        self._mailroom.clear(call.job)
        if call.logged:
            return
        call.runner.engine.cancel(call.job)
        asyncio.get_running_loop().run_in_executor(None, self._write_left, call)

    def _write_left(self, call: _Call) -> None:
        self._write(call, "cancelled", 499)
        self.metrics.left.inc()

    async def _remember(self, call: _Call, finish: str | None, status: int) -> None:
        call.logged = True
        seconds = time.monotonic() - call.started
        self._mean_seconds += 0.1 * (seconds - self._mean_seconds)
        self.metrics.seconds.observe(seconds)
        self.metrics.completion_tokens.inc(call.answer.completion_tokens)
        if call.job.first_token is not None:
            self.metrics.first_token.observe(call.job.first_token)
        await asyncio.to_thread(self._write, call, finish, status)

    def _write(self, call: _Call, finish: str | None, status: int) -> None:
        asked, answer = call.job.asked, call.answer
        record: Ended = {
            "id": answer.id,
            "time": now().isoformat(timespec="milliseconds"),
            "route": call.route,
            "status": status,
            "version": call.runner.candidate.version,
            "manifest_sha256": call.runner.candidate.manifest_sha256,
            "stream": asked.stream,
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
            "finish": [finish] if finish else [answer.finishes[number] for number in sorted(answer.finishes)],
            "seconds": round(time.monotonic() - call.started, 6),
            "first_token_seconds": None if call.job.first_token is None else round(call.job.first_token, 6),
            "nats_per_token": mean_nats(call.job),
            "temperature": asked.temperature,
        }
        try:
            self._log.write(record, prompt=call.prompt, response=answer.text)
            self._log_is_broken = False
        except OSError as error:
            self.metrics.log_failures.inc()
            if not self._log_is_broken:
                log.error("the request log cannot be written: %s", error)
            self._log_is_broken = True


async def _threaded(size: int, call: Callable[[Any], list[int]], value: Any) -> list[int]:
    """Long texts must not stop the others' streams."""
    return await asyncio.to_thread(call, value) if size > _LONG_TEXT else call(value)


class _Events(StreamingResponse):
    """A stream whose generator ends with it, also when the client leaves in the middle of a send."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            iterator: Any = self.body_iterator
            await iterator.aclose()


async def _left(request: Request) -> None:
    """Returns when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        continue


def _described(body: Any) -> dict[str, Any] | None:
    if body is None:
        return None
    schema = {"$ref": f"#/components/schemas/{body.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The description of all routes, with the bodies that we read ourselves."""
    whole = get_openapi(title=app.title, version=app.version, routes=app.routes)
    schemas = whole.setdefault("components", {}).setdefault("schemas", {})
    for body in (wire.CompletionRequest, wire.ChatRequest):
        schema = body.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[body.__name__] = schema
    return whole


async def _api_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101  registered for it
    return Response(error.body, error.status, error.headers, "application/json")


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  registered for it
    plain = ApiError(error.status_code, str(error.detail), code="not_found" if error.status_code == 404 else "http")
    return Response(plain.body, plain.status, dict(error.headers or {}), "application/json")

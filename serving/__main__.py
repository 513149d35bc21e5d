"""The server: `python -m serving`, which `moteur serve` starts."""

import argparse
import functools
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import psutil

from pipelines import stage
from pipelines.adapters import device, quiet
from pipelines.adapters.requests import RequestLog
from pipelines.artifacts import Artifact, State
from pipelines.errors import ArtifactError, MoteurError, ResourceError
from pipelines.params import Params, Serving
from serving import champion, guard, vllm

if TYPE_CHECKING:
    from serving.api import Mailroom, Runner

log = logging.getLogger("moteur.serving")

SHUTDOWN_SECONDS = 60
"""Answers that are being written have this long after SIGTERM."""


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGTERM; an error is a sentence and its exit code."""
    options = _parsed(arguments)
    quiet.settle(quiet.VARIABLES | device.SHARED)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        params = stage.load_params()
        _serve(_settings(params.serving, options), params, options)
    except MoteurError as error:
        print(f"moteur serve: {error}", file=sys.stderr)  # noqa: T201  the user reads this
        sys.exit(error.exit_code)


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serving", description="Serve a release over HTTP.")
    parser.add_argument("--host", help="default: serving.host of params.yaml")
    parser.add_argument("--port", type=int, help="default: serving.port of params.yaml; 0: any free one")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--model", type=Path, metavar="FOLDER", help="a release; default: models/release")
    what.add_argument("--follow", action="store_true", help="serve what the registry calls champion, and follow it")
    parser.add_argument("--manifest-sha256", metavar="SHA", help="with --model: serve only this release")
    return parser.parse_args(arguments)


def _settings(settings: Serving, options: argparse.Namespace) -> Serving:
    given = {name: getattr(options, name) for name in ("host", "port") if getattr(options, name) is not None}
    return settings.model_copy(update=given)


def _serve(settings: Serving, params: Params, options: argparse.Namespace) -> None:
    tokens = guard.read_tokens(Path(settings.token_file))
    State.SERVING.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = options.model or Artifact.RELEASE.path
    source: champion.Source = champion.RegistrySource(Path.cwd())
    if not options.follow:
        source = champion.FolderSource(folder, options.manifest_sha256)
        _require(source, folder)
    _remove_left_behind(State.SERVING.path)
    if settings.engine == "vllm":
        bundle = _fetched(source, State.SERVING.path / "bundle-for-vllm")
        vllm.serve(bundle, settings, scratch=State.SERVING.path, token=guard.first_token(Path(settings.token_file)))
    signal.signal(signal.SIGTERM, _leave)
    with tempfile.TemporaryDirectory(prefix=f"load-{os.getpid()}-", dir=State.SERVING.path) as scratch:
        _listen(settings, params, tokens, source, Path(scratch), fixed=not options.follow)


def _leave(_number: int, _frame: object) -> NoReturn:
    """Whoever asked has what they asked for; uvicorn raises the signal again when all answers are finished."""
    raise SystemExit(0)


def _remove_left_behind(folder: Path) -> None:
    """Copies of bundles whose server was killed while it loaded them."""
    for path in folder.glob("load-*-*"):
        owner = path.name.split("-")[1]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(path, ignore_errors=True)


def _require(source: champion.Source, folder: Path) -> None:
    if source.latest() is None:
        raise MoteurError(
            f"{folder} is not a release: it has no manifest.json. Make one with `moteur run`, or name one with --model"
        )


def _fetched(source: champion.Source, folder: Path) -> Path:
    candidate = source.latest()
    if candidate is None:
        raise MoteurError("the registry has no champion yet: `moteur promote` makes one")
    return source.fetch(candidate, folder)


def _listen(
    settings: Serving, params: Params, tokens: guard.Tokens, source: champion.Source, scratch: Path, *, fixed: bool
) -> None:
    import uvicorn

    from serving import connections
    from serving.api import Api, Mailroom

    sys.setswitchinterval(0.001)  # the engine's thread gets its turn soon after each of its many small operations
    listening = _socket(settings)
    mailroom = Mailroom()
    prepare = functools.partial(prepared, settings=settings, params=params, mailroom=mailroom)
    refused: list[champion.Refusal] = []

    def report(refusal: champion.Refusal) -> None:
        refused.append(refusal)
        if fixed and following.current is None:
            server.should_exit = True
        elif refusal.version != champion.UNKNOWN:
            champion.alert(refusal)

    following: champion.Champion[Runner] = champion.Champion(
        source,
        prepare,
        poll_seconds=settings.poll_seconds,
        scratch=scratch,
        status=State.SERVING_STATUS.path,
        report=report,
    )
    api = Api(
        following,
        mailroom,
        tokens=tokens,
        limits=settings.limits,
        request_log=RequestLog(
            State.REQUESTS.path,
            text=settings.log.text,
            segment_bytes=settings.log.segment_mib * 2**20,
            segment_seconds=settings.log.segment_minutes * 60,
        ),
        text_hours=settings.log.text_hours,
    )
    config = uvicorn.Config(
        api.app,
        http=connections.protocol(settings.limits),
        h11_max_incomplete_event_size=connections.LARGEST_HEAD,
        ws="none",
        loop="asyncio",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        backlog=settings.limits.connections,
    )
    server = uvicorn.Server(config)
    host, port = listening.getsockname()[:2]
    log.info(
        "listening at http://%s:%d; the token is in %s", f"[{host}]" if ":" in host else host, port, _where(settings)
    )
    server.run(sockets=[listening])
    if fixed and following.swaps == 0 and refused:
        raise ArtifactError(refused[0].reason)


def _where(settings: Serving) -> str:
    return guard.VARIABLE if os.environ.get(guard.VARIABLE) else settings.token_file


def _socket(settings: Serving) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        return socket.create_server((settings.host, settings.port), family=family, backlog=settings.limits.connections)
    except OSError as error:
        raise ResourceError(
            f"cannot listen at {settings.host}:{settings.port} ({error.strerror}): give another --port, or change"
            " serving.port in params.yaml"
        ) from None


def prepared(
    bundle: Path, candidate: champion.Candidate, *, settings: Serving, params: Params, mailroom: "Mailroom"
) -> "Runner":
    """Load a verified bundle and let it answer; nothing of it stays when it cannot."""
    from serving import loading
    from serving.api import Runner
    from serving.engine import Engine

    device.prepare(params.seed, params.threads)
    loaded = loading.load(bundle, precision=settings.precision)
    answers = loading.Answers(mailroom.deliver)
    engine = Engine(
        loaded.model,
        loaded.tokenizer,
        answers.deliver,
        slots=settings.slots,
        queue=settings.limits.queue,
        prefill_tokens=settings.prefill_tokens,
    )
    try:
        loading.warm_up(
            engine,
            answers,
            params.deployment.prompts,
            max_tokens=min(settings.warm_up_tokens, engine.context // 2),
            seconds=settings.warm_up_seconds,
        )
    except MoteurError:
        engine.abandon()
        raise
    answers.open()
    return Runner(engine, loaded, candidate)


if __name__ == "__main__":
    main()

"""Ask a release in a process of its own: without network, other programs or the parent's environment, within limits.

The child hashes every file against the manifest and refuses unsafe files before it imports anything heavy, then loads
the release and answers. Request and reply are JSON on its standard input and output.
"""

import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pipelines
from pipelines.adapters import device, quiet
from pipelines.errors import ArtifactError, MoteurError, ResourceError

FORBIDDEN_EVENTS = ("socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec")
"""Audit events (PEP 578) that are an error in the child once the libraries are imported."""


OUT_OF_MEMORY = ("MemoryError", "bad_alloc", "failed to map segment", "annot allocate memory", "can't allocate memory")
"""How Python, C++, the loader of libraries and torch say that the limit on memory was met."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What came out of the sandbox."""

    answers: list[str]
    """In the order of the prompts."""
    finished: list[bool]
    """The end token was reached within the limit."""
    peak_memory_mib: float
    """Largest resident memory of the child."""


def ask(
    folder: Path,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    timeout_seconds: float,
    memory_mib: int,
    threads: int | None = None,
) -> Answers:
    """Verify, load and ask the release in `folder`, each prompt as a conversation of its own, greedily, on the CPU.

    Raises:
        ArtifactError: when the release differs from its manifest, is unsafe, cannot be loaded or does not answer.
        ResourceError: when the child needs more time or memory than it may have.
    """
    request = {"folder": str(folder.resolve()), "prompts": list(prompts), "max_new_tokens": max_new_tokens}
    room = Room(
        timeout_seconds=timeout_seconds,
        memory_mib=memory_mib,
        threads=threads,
        timeout_key="deployment.timeout_seconds",
        memory_key="deployment.memory_mib",
    )
    return Answers(**converse(__name__, folder, request, room))


@dataclass(frozen=True, kw_only=True)
class Room:
    """What a child may use, and the keys of params.yaml that say so."""

    timeout_seconds: float
    memory_mib: int
    """Address space."""
    threads: int | None
    timeout_key: str
    memory_key: str


def converse(module: str, folder: Path, request: dict[str, Any], room: Room) -> dict[str, Any]:
    """Start `python -m module` as a child, hand it `request`, and return its reply.

    Args:
        module: A module of ours whose `main` is `serve`.
        folder: The release that the child works on, for the errors.
        request: JSON-able.
        room: Its limits.

    Raises:
        ArtifactError: when the child says that something is wrong with the release, or ends without a word.
        ResourceError: when the child needs more time or memory than it may have.
    """
    with tempfile.TemporaryDirectory(prefix="moteur-sandbox-") as home:
        child = subprocess.Popen(  # noqa: S603  our own module, our own interpreter
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=home,
            env=_environment(home, room.threads or len(os.sched_getaffinity(0))),
            start_new_session=True,
            text=True,
            encoding="utf-8",
        )
        try:
            out, err = child.communicate(
                json.dumps({**request, "memory_mib": room.memory_mib}), timeout=room.timeout_seconds
            )
        except subprocess.TimeoutExpired:
            raise ResourceError(
                f"{folder} was not done within {room.timeout_seconds:g} s: raise {room.timeout_key} in params.yaml,"
                " or choose a smaller model."
            ) from None
        finally:
            if child.poll() is None:
                child.kill()
                child.communicate()
    return _read(folder, child.returncode, out, err, room)


def _environment(home: str, threads: int) -> dict[str, str]:
    """Nothing of the parent's but the way to the interpreter's libraries."""
    names = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", *device.EXCLUSIVE)
    return {
        **device.EXCLUSIVE,
        **{name: os.environ[name] for name in names if name in os.environ},
        "HOME": home,
        "TMPDIR": home,
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": str(Path(pipelines.__file__).resolve().parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        **quiet.ALONE,
    }


def _read(folder: Path, code: int, out: str, err: str, room: Room) -> dict[str, Any]:
    try:
        reply = json.loads(out.splitlines()[-1])
    except (IndexError, ValueError):
        reply = {}
    if reply and "error" not in reply:
        return dict(reply)
    if code in (-9, 137) or any(sign in f"{reply.get('error', '')}\n{err}" for sign in OUT_OF_MEMORY):
        raise ResourceError(
            f"{folder} needs more than {room.memory_mib:,} MiB to be loaded and asked: raise {room.memory_key} in"
            " params.yaml, or choose a smaller model."
        )
    if "error" in reply:
        raise ArtifactError(f"{folder} failed in the sandbox: {reply['error']}")
    last = err.strip().splitlines()[-1:] or ["it said nothing"]
    raise ArtifactError(f"{folder} failed in the sandbox: the process ended with code {code}: {last[0]}")


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """What the child does: verify, load, ask.

    Raises:
        ArtifactError: when the release is not sound or cannot be loaded.
    """
    folder = Path(request["folder"])
    enter(folder)
    from pipelines.adapters import device, release
    from pipelines.core.learning import decoding

    model, tokenizer = release.load(folder)
    asked = [decoding.chat_ids(tokenizer, [{"role": "user", "content": prompt}]) for prompt in request["prompts"]]
    responses = decoding.respond(model, tokenizer, asked, max_new_tokens=request["max_new_tokens"])
    return {
        "answers": [response.text for response in responses],
        "finished": [response.finished for response in responses],
        "peak_memory_mib": round(device.peak_memory_mib(), 1),
    }


def enter(folder: Path) -> str:
    """Check the release, import the libraries, then forbid network and other programs; return its manifest's sha256.

    Raises:
        ArtifactError: when the release is not sound (`release.require_sound`).
    """
    from pipelines.adapters import release

    digest = release.require_sound(folder)
    importlib.import_module("pipelines.core.learning.decoding")
    importlib.import_module("transformers")
    _forbid()
    return digest


def _forbid() -> None:
    def guard(event: str, _arguments: tuple[Any, ...]) -> None:
        if event in FORBIDDEN_EVENTS:
            raise RuntimeError(f"the sandbox does not allow {event}")

    sys.addaudithook(guard)


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> NoReturn:
    """The child: read a request, answer it within the limit on memory, exit."""
    request = json.load(sys.stdin)
    limit = request["memory_mib"] * 2**20
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_CORE):
        value = limit if kind == resource.RLIMIT_AS else 0
        try:
            resource.setrlimit(kind, (value, value))
        except (ValueError, OSError):
            continue
    try:
        reply = answer(request)
    except MoteurError as error:
        reply = {"error": str(error)}
    except Exception as error:
        reply = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(reply, ensure_ascii=False))  # noqa: T201  this is how the child answers
    sys.stdout.flush()
    sys.exit(1 if "error" in reply else 0)


if __name__ == "__main__":
    serve(answer)

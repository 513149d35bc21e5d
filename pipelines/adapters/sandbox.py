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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pipelines
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
    request = {
        "folder": str(folder.resolve()),
        "prompts": list(prompts),
        "max_new_tokens": max_new_tokens,
        "memory_mib": memory_mib,
    }
    with tempfile.TemporaryDirectory(prefix="moteur-sandbox-") as home:
        child = subprocess.Popen(  # noqa: S603  our own module, our own interpreter
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=home,
            env=_environment(home, threads or len(os.sched_getaffinity(0))),
            start_new_session=True,
            text=True,
            encoding="utf-8",
        )
        try:
            out, err = child.communicate(json.dumps(request), timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            raise ResourceError(
                f"{folder} did not answer {len(prompts)} prompts within {timeout_seconds:g} s: raise"
                " deployment.timeout_seconds in params.yaml, or choose a smaller model."
            ) from None
    return _read(folder, child.returncode, out, err, memory_mib)


def _environment(home: str, threads: int) -> dict[str, str]:
    """Nothing of the parent's but the way to the interpreter's libraries."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ}
    return {
        **kept,
        "HOME": home,
        "TMPDIR": home,
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONPATH": str(Path(pipelines.__file__).resolve().parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONWARNINGS": "ignore",
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _read(folder: Path, code: int, out: str, err: str, memory_mib: int) -> Answers:
    try:
        reply = json.loads(out.splitlines()[-1])
    except (IndexError, ValueError):
        reply = {}
    if "answers" in reply:
        return Answers(**reply)
    if code in (-9, 137) or any(sign in f"{reply.get('error', '')}\n{err}" for sign in OUT_OF_MEMORY):
        raise ResourceError(
            f"{folder} needs more than {memory_mib:,} MiB to be loaded and asked: raise deployment.memory_mib in"
            " params.yaml, or choose a smaller model."
        )
    if "error" in reply:
        raise ArtifactError(f"{folder} failed in the sandbox: {reply['error']}")
    last = err.strip().splitlines()[-1:] or ["it said nothing"]
    raise ArtifactError(f"{folder} failed in the sandbox: the process ended with code {code}: {last[0]}")


def answer(folder: Path, prompts: Sequence[str], max_new_tokens: int) -> dict[str, Any]:
    """What the child does: verify, load, ask.

    Raises:
        ArtifactError: when the release differs from its manifest, is unsafe or cannot be loaded.
    """
    from pipelines.adapters import models, release

    if differences := release.verify(folder):
        raise ArtifactError("; ".join(differences))
    models.refuse_unsafe(folder)
    from pipelines.adapters import device
    from pipelines.core.learning import decoding

    importlib.import_module("transformers")
    _forbid()
    model, tokenizer = release.load(folder)
    asked = [decoding.chat_ids(tokenizer, [{"role": "user", "content": prompt}]) for prompt in prompts]
    responses = decoding.respond(model, tokenizer, asked, max_new_tokens=max_new_tokens)
    return {
        "answers": [response.text for response in responses],
        "finished": [response.finished for response in responses],
        "peak_memory_mib": round(device.peak_memory_mib(), 1),
    }


def _forbid() -> None:
    def guard(event: str, _arguments: tuple[Any, ...]) -> None:
        if event in FORBIDDEN_EVENTS:
            raise RuntimeError(f"the sandbox does not allow {event}")

    sys.addaudithook(guard)


def main() -> NoReturn:
    """The child: read a request, answer it, exit."""
    request = json.load(sys.stdin)
    limit = request["memory_mib"] * 2**20
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_CORE):
        value = limit if kind == resource.RLIMIT_AS else 0
        try:
            resource.setrlimit(kind, (value, value))
        except (ValueError, OSError):
            continue
    try:
        reply = answer(Path(request["folder"]), request["prompts"], request["max_new_tokens"])
    except MoteurError as error:
        reply = {"error": str(error)}
    except Exception as error:
        reply = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(reply, ensure_ascii=False))  # noqa: T201  this is how the child answers
    sys.stdout.flush()
    sys.exit(0 if "answers" in reply else 1)


if __name__ == "__main__":
    main()

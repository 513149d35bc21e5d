"""Small releases, and a real server of one in a process of its own."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipelines.adapters import release
from pipelines.core.text import chat
from tests.fixtures import corpus_records, tiny_model, tiny_tokenizer

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-that-only-tests-know-0123456789"  # noqa: S105  of no real server
PROMPT = "Ann had a ball. Where did she go?"


def talkative(tokenizer: Any, *, seed: int = 0, context: int = 256) -> Any:
    """A Llama with random weights that says many different words, and none of the special tokens.

    With shared embeddings a random model repeats what it read last; with small weights rounding would decide.
    """
    import torch
    from transformers import LlamaForCausalLM

    config = tiny_model(tokenizer, context=context).config
    config.tie_word_embeddings = False
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3 if parameter.ndim == 2 else 1)
        model.lm_head.weight[: len(chat.SPECIAL_TOKENS)] = 0
    return model


def write_bundle(folder: Path, *, seed: int, name: str = "tiny") -> Path:
    """A release of such a model: eight bits and a manifest."""
    tokenizer = tiny_tokenizer([record["text"] for record in corpus_records(40)])
    release.save_quantised(talkative(tokenizer, seed=seed), tokenizer, folder)
    release.write_manifest(folder, format=1, name=name, weights="int8")
    return folder


def wait_for(look: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What `look` returns, once that is something."""
    deadline = time.monotonic() + seconds
    while (found := look()) is None or found is False:
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)
    return found


@dataclass
class Server:
    """A running server."""

    root: Path
    port: int
    process: "subprocess.Popen[bytes]"
    bundle: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, method: str, path: str, body: Any = None, *, token: str | None = TOKEN, raw: bytes | None = None
    ) -> tuple[int, dict[str, str], Any]:
        """One request on a connection of its own: status, headers, JSON (or text)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        is_json = response.headers.get_content_type() == "application/json"
        return response.status, dict(response.headers), json.loads(content) if is_json else content.decode()

    def complete(self, **fields: Any) -> tuple[int, dict[str, str], Any]:
        asked = {"prompt": PROMPT, "max_tokens": 8, "temperature": 0, **fields}
        return self.ask("POST", "/v1/completions", asked)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def metric(self, name: str) -> float:
        found = re.search(rf"^{name} (\S+)$", self.ask("GET", "/metrics")[2], re.MULTILINE)
        assert found is not None, name
        return float(found[1])

    def idle(self) -> bool:
        return self.metric("moteur_sequences_waiting_or_running") == 0

    @property
    def log(self) -> str:
        return (self.root / "server.log").read_text()


def write_params(root: Path, **serving: Any) -> None:
    """params.yaml with changes in the section serving; nested sections are merged."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["threads"] = 1
    values["deployment"]["prompts"] = [PROMPT]
    for key, value in serving.items():
        old = values["serving"][key]
        values["serving"][key] = {**old, **value} if isinstance(old, dict) else value
    (root / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in {"MOTEUR_TOKEN", "PYTHONPATH"}}
    return {**kept, "PYTHONPATH": str(ROOT), "MOTEUR_TOKEN": TOKEN}


@contextmanager
def serving(root: Path, bundle: Path, **settings: Any) -> Iterator[Server]:
    """A server of `bundle` in the workspace `root`, once it is ready; ended in the end."""
    write_params(root, **settings)
    command = [sys.executable, "-m", "serving", "--model", str(bundle), "--port", "0"]
    with (root / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=root, env=environment(), stdout=log, stderr=log)
    server = Server(root, 0, process, bundle)
    try:
        port = wait_for(lambda: re.search(r"listening at http://127\.0\.0\.1:(\d+)", server.log))
        server.port = int(port[1])
        wait_for(lambda: server.ask("GET", "/health/ready", token=None)[0] == 200 or process.poll() is not None)
        assert process.poll() is None, server.log
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        ended = process.wait(timeout=60)
    assert ended == 0
    assert [path.name for path in (root / ".moteur/serving").iterdir()] == ["status.json"]

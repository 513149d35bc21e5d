"""Tokens per second and latency of the server beside one request at a time through `generate`.

    python -m benchmarks.serving [--model FOLDER] [--requests N] [--max-tokens N] [--write]

The server runs in a process of its own, the clients in this one; both share the machine's cores, as they would on a
small one. Every greedy answer is compared with `generate`'s. With --write the figures go to
benchmarks/results/serving.json.
"""

import argparse
import contextlib
import http.client
import itertools
import json
import os
import re
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import runs

CLIENTS = (1, 4, 16)
FLOOD = 400
"""Five times what may run and wait."""
WORDS = ("boat", "kind", "rain", "kite", "hill", "brave", "cake", "friend", "garden", "bear", "forest", "drum", "happy")


@dataclass(frozen=True)
class Row:
    """One way to answer the same requests."""

    way: str
    tokens_per_second: float
    times_generate: float
    p50_seconds: float
    p99_seconds: float
    tokens: int


def prompts(count: int) -> list[str]:
    """Requests for stories, all different."""
    return [
        f"Write a story with the words: {', '.join(words)}."
        for words in itertools.islice(itertools.permutations(WORDS, 3), 0, 11 * count, 11)
    ]


def generate(folder: Path, asked: list[str], max_tokens: int, threads: int) -> tuple[list[str], list[int], list[float]]:
    """Answers, tokens and seconds, one request at a time; the first answers warm up and are not counted."""
    import torch

    from pipelines.adapters import release
    from serving import loading

    torch.set_num_threads(threads)
    model, tokenizer = release.load(folder)
    texts, counts, seconds = [], [], []
    with torch.inference_mode():
        for number, prompt in enumerate([*asked[:3], *asked]):
            started = time.monotonic()
            ids = torch.tensor([loading.chat_ids(tokenizer, [{"role": "user", "content": prompt}])])
            whole = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max_tokens,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )[0, ids.shape[1] :]
            text = tokenizer.decode(whole, skip_special_tokens=True).removeprefix(" ")
            if number >= 3:
                texts, counts = [*texts, text], [*counts, len(whole)]
                seconds.append(time.monotonic() - started)
    return texts, counts, seconds


@contextlib.contextmanager
def server(folder: Path, token: str) -> Iterator[int]:
    """The port of a server of `folder`, warmed up."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        shutil.copy(runs.ROOT / "params.yaml", root)
        command = [sys.executable, "-m", "serving", "--model", str(folder), "--port", "0"]
        environment = {**os.environ, "PYTHONPATH": str(runs.ROOT), "MOTEUR_TOKEN": token}
        with (root / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=root, env=environment, stderr=log)  # noqa: S603  our own
        try:
            yield _ready_port(root / "log", process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def _ready_port(log: Path, process: "subprocess.Popen[bytes]") -> int:
    for _ in range(600):
        if process.poll() is not None:
            break
        found = re.search(r"listening at http://127\.0\.0\.1:(\d+)", log.read_text())
        if found and "serves now" in log.read_text():
            return int(found[1])
        time.sleep(0.2)
    sys.exit(f"the server did not start:\n{log.read_text()}")


def over_http(
    port: int, token: str, asked: list[str], max_tokens: int, clients: int
) -> tuple[list[str], int, list[float], float]:
    """Answers, tokens, seconds of each request, and seconds of all, from this many clients at once."""
    texts = [""] * len(asked)
    tokens = [0] * len(asked)
    seconds = [0.0] * len(asked)
    waiting = iter(range(len(asked)))

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        for number in waiting:
            body = {
                "messages": [{"role": "user", "content": asked[number]}],
                "max_tokens": max_tokens,
                "temperature": 0,
            }
            started = time.monotonic()
            headers = {"Authorization": f"Bearer {token}"}
            connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
            answer = json.loads(connection.getresponse().read())
            seconds[number] = time.monotonic() - started
            texts[number] = answer["choices"][0]["message"]["content"]
            tokens[number] = answer["usage"]["completion_tokens"]

    threads = [threading.Thread(target=work) for _ in range(clients)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return texts, sum(tokens), seconds, time.monotonic() - started


def flood(port: int, token: str, asked: list[str], max_tokens: int, clients: int) -> dict[str, float]:
    """So many requests at once: how many were answered and in what time, and how many told to come again later."""
    answered: list[float] = []
    refused: list[int] = []

    def work(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        message = {"role": "user", "content": asked[number % len(asked)]}
        body = {"messages": [message], "max_tokens": max_tokens, "temperature": 0}
        started = time.monotonic()
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        response.read()
        if response.status == 200:
            answered.append(time.monotonic() - started)
        else:
            refused.append(response.status)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    slowest = statistics.quantiles(answered, n=100)[98]
    told = sum(status in (429, 503) for status in refused)
    return {"clients": clients, "answered": len(answered), "told_to_come_again": told, "p99_seconds": round(slowest, 4)}


def row(way: str, tokens: int, whole: float, seconds: list[float], baseline: float | None) -> Row:
    """The figures of one way."""
    rate = tokens / whole
    cuts = statistics.quantiles(seconds, n=100)
    return Row(way, round(rate, 1), round(rate / (baseline or rate), 2), round(cuts[49], 4), round(cuts[98], 4), tokens)


def table(rows: list[Row]) -> str:
    """As Markdown."""
    head = "| way | tokens/s | x generate | p50 | p99 |\n|---|---|---|---|---|"
    lines = [
        f"| {one.way} | {one.tokens_per_second:,.0f} | {one.times_generate:.1f} | {one.p50_seconds * 1000:,.0f} ms |"
        f" {one.p99_seconds * 1000:,.0f} ms |"
        for one in rows
    ]
    return "\n".join([head, *lines])


def _comparison(rows: list[Row]) -> runs.Comparison:
    figures = {
        one.way: [
            {
                "tokens_per_second": one.tokens_per_second,
                "times_generate": one.times_generate,
                "p50_ms": 1000 * one.p50_seconds,
                "p99_ms": 1000 * one.p99_seconds,
            }
        ]
        for one in rows
    }
    columns = {
        "tokens_per_second": "tokens/s",
        "times_generate": "x generate",
        "p50_ms": "p50, ms",
        "p99_ms": "p99, ms",
    }
    return runs.Comparison(title="By clients at once", runs=figures, figure="tokens_per_second", columns=columns)


def _note(flooded: dict[str, float], *, same: bool) -> str:
    return (
        f"Of {FLOOD} requests at once {flooded['answered']} were answered, the slowest in 100 within"
        f" {flooded['p99_seconds'] * 1000:,.0f} ms, and {flooded['told_to_come_again']} told to come again later."
        f" Greedy answers {'are' if same else 'ARE NOT'} those of generate."
    )


def main() -> None:
    """Measure, print, and perhaps keep."""
    parser = argparse.ArgumentParser(description="Tokens per second of the server beside one-at-a-time generate.")
    parser.add_argument("--model", type=Path, default=Path("models/release"))
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--max-tokens", type=int, default=80)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    asked = prompts(options.requests)
    cores, machine = runs.cores(), runs.machine()
    texts, counts, seconds = generate(options.model, asked, options.max_tokens, cores)
    rows = [row("generate, one at a time", sum(counts), sum(seconds), seconds, None)]
    token = secrets.token_urlsafe(32)
    same = True
    with server(options.model.resolve(), token) as port:
        over_http(port, token, asked[:16], options.max_tokens, 16)
        for clients in CLIENTS:
            found, tokens, each, whole = over_http(port, token, asked, options.max_tokens, clients)
            same = same and found == texts
            name = f"server, {clients} client{'s' if clients > 1 else ''}"
            rows.append(row(name, tokens, whole, each, rows[0].tokens_per_second))
        flooded = flood(port, token, asked, options.max_tokens, FLOOD)
    print(table(rows))
    print(
        f"{FLOOD} requests at once: {flooded['answered']} answered, the slowest in 100 within"
        f" {flooded['p99_seconds'] * 1000:,.0f} ms; {flooded['told_to_come_again']} told to come again later"
    )
    print(f"greedy answers are {'' if same else 'NOT '}those of generate")
    if options.write:
        runs.write(
            "serving",
            how=f"{options.requests} requests of at most {options.max_tokens} tokens to a release, in float32; clients"
            " and server share the cores. One run of each.",
            machine=machine,
            comparisons=[_comparison(rows)],
            notes=[_note(flooded, same=same)],
        )
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()

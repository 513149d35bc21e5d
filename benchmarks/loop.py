"""The whole loop on one machine, with nobody at the keyboard: `make loop`, or python -m benchmarks.loop.

In a clone below .moteur/loop, with a small model: the lifecycle, promotion, serving under constant load; the traffic
turns to another season, drift is found and alerted to a webhook, a retraining is started by its event, with what users
sent as new data, its result is gated, promoted, and swapped in. Then a delivery of rankings with shuffled labels makes
a candidate that is refused, and a rollback is done. What happened when is printed, and kept as JSON and as a page.
"""

import argparse
import json
import math
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import yaml

from benchmarks.load import Load
from benchmarks.timeline import Timeline, clock
from flows import terminal
from flows.drift import batch
from flows.retraining import records
from flows.workspaces import clones, profiles
from pipelines import stage
from pipelines.adapters import alerts, files, reader
from pipelines.adapters.registry import open_registry
from pipelines.artifacts import Artifact, State
from pipelines.core.drift.sample import PERPLEXITY
from pipelines.errors import MoteurError

ROOT = Path(__file__).resolve().parents[1]
HOME, SEA = "tales://?stories=4000&seed=900", "tales://?stories=4000&seed=901&season=sea"
UNSEEN = {"sea": "tales://?stories=150&seed=902&season=sea", "home": "tales://?stories=150&seed=903"}
"""Never sent to the server, so never trained on."""
DELIVERED = "profiles/delivered.yaml"
"""A profile that learns from the delivered rankings alone."""
CLIENTS, RATE, MAX_TOKENS = 4, 6.0, 16
HOME_WINDOWS = 2
"""So many windows of unchanged traffic are judged before it turns."""
MOST_SECONDS, MOST_TO_START, LEAST_GAIN, MOST_TO_ROLL_BACK = 20 * 60, 30.0, 0.1, 60.0
PATIENCE = 15 * 60.0
"""After which a thing that should happen by itself is given up."""


T = TypeVar("T")


class Missed(MoteurError):  # noqa: N818  it is an outcome, and reads as one
    """Something that should have happened by itself did not."""


@dataclass
class Webhook:
    """Receives alerts as a team's chat would."""

    began: float
    received: list[tuple[float, str]] = field(default_factory=list)
    """(seconds since the beginning, title)"""

    def first(self, words: str) -> float | None:
        """When the first alert with these words in its title came."""
        return next((at for at, title in self.received if words in title), None)


@contextmanager
def webhook(timeline: Timeline) -> Iterator[tuple[str, Webhook]]:
    """An HTTP server for Apprise's json://; its URL and what it received."""
    found = Webhook(timeline.began)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found.received.append((timeline.now, message["title"]))
            timeline.note("alert received", message["title"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"json://127.0.0.1:{server.server_address[1]}/", found
    finally:
        server.shutdown()


@dataclass
class Bench:
    """The clone in which everything happens."""

    root: Path
    timeline: Timeline
    environment: dict[str, str]
    port: int
    answers: list[tuple[float, float]] = field(default_factory=list)
    """(sent at, in seconds since the beginning; seconds it took) of every request."""

    def moteur(self, *words: str, allow: Sequence[int] = (0,)) -> str:
        """Run a command as a user would; what it printed.

        Raises:
            Missed: when it ends with another exit code.
        """
        command = [sys.executable, "-m", "flows.cli", *words]
        done = subprocess.run(  # noqa: S603  ourselves
            command, cwd=self.root, env=self.environment, capture_output=True, text=True, check=False
        )
        with (self.timeline.folder / "commands.log").open("a", encoding="utf-8") as log:
            log.write(f"$ moteur {' '.join(words)}\n{done.stdout}{done.stderr}[exit code {done.returncode}]\n\n")
        if done.returncode not in allow:
            said = (done.stderr or done.stdout)[-800:]
            raise Missed(f"moteur {' '.join(words)} ended with {done.returncode}: {said}")
        return done.stdout

    def live(self) -> str | None:
        """The version that answers just now."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health/ready", timeout=5) as answer:
                return str(json.load(answer)["version"])
        except (OSError, ValueError):
            return None

    def wait(self, what: str, look: Callable[[], T | None], patience: float = PATIENCE) -> T:
        """Wait until `look` finds something.

        Raises:
            Missed: when it does not in time.
        """
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if found := look():
                return found
            time.sleep(0.25)
        raise Missed(f"{what}: not within {patience:g} s; the logs are in {self.root / State.LOGS}")

    def asked(self, uri: str) -> list[str]:
        """What users of the built-in corpus ask: one prompt a text, those about one story far apart."""
        found = batch.read(uri, "requests", stage.load_params(self.root / "params.yaml").ingestion).texts
        random.Random(uri).shuffle(found)
        return found

    def windows(self) -> list[dict[str, Any]]:
        """The windows of traffic that monitoring has judged, of every champion."""
        return [files.read_json(path) for path in sorted((self.root / State.DRIFT).glob("*/window-*.json"))]

    def retrainings(self) -> list[records.Record]:
        """As they stand."""
        return records.read(self.root)


def prepare(folder: Path, ports: Sequence[int]) -> Path:
    """A clone of this checkout's last commit with the small model and the loop's settings, committed."""
    root = folder / "checkout"
    clones.make(ROOT, root, clones.head(ROOT))
    values = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    for profile in (ROOT / "profiles" / "smoke.yaml", Path(__file__).with_name("loop.yaml")):
        values = profiles.merge(values, profiles.read(profile, {}), str(profile))
    values["serving"]["port"], values["services"]["prefect_port"], values["services"]["mlflow_port"] = ports
    (root / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    shutil.rmtree(root / ".dvc" / "cache", ignore_errors=True)
    (root / ".dvc" / "config.local").unlink(missing_ok=True)
    clones.commit(root, ["params.yaml"], "A small model that lives by itself")
    (root / DELIVERED).write_text("feedback: {num_prompts: 1}\n", encoding="utf-8")
    return root


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def perplexities(folder: Path, groups: Sequence[Sequence[str]]) -> list[float]:
    """Perplexity of a word under a release, exp(nats / words), of each group of texts: one unit for every tokenizer."""
    together = [text for texts in groups for text in texts]
    nats = [
        float(one) * len(text.encode())
        for one, text in zip(reader.read(folder, together).columns[PERPLEXITY], together, strict=True)
    ]
    found, start = [], 0
    for texts in groups:
        found.append(math.exp(sum(nats[start : start + len(texts)]) / sum(len(text.split()) for text in texts)))
        start += len(texts)
    return found


def deliver_shuffled(root: Path) -> Path:
    """Put the rankings of the first lifecycle among the accepted data, each with its ranks dealt out anew."""
    rng = random.Random(0)
    made: list[dict[str, Any]] = []
    for ranking in files.read_jsonl(root / Artifact.PREFERENCES / "rankings.jsonl"):
        ranks = rng.sample(ranking["ranks"], len(ranking["ranks"]))
        made.append({**{name: ranking[name] for name in ("prompt", "responses", "annotator")}, "ranks": ranks})
    path = root / "data" / "accepted" / "feedback" / "delivery.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_jsonl(path, ({"id": f"delivered-{number}", "kind": "human", **one} for number, one in enumerate(made)))
    return path


# The story


def tell(bench: Bench, hook: Webhook) -> dict[str, Any]:
    """Everything from the first lifecycle to the rollback; the figures."""
    timeline = bench.timeline
    bench.moteur("up")
    timeline.note("up", "Prefect, MLflow, serving, alerts, runner")
    bench.moteur("run")
    timeline.note("lifecycle", "eleven stages")
    bench.moteur("promote")
    first = bench.wait("the first champion serves", bench.live)
    timeline.note("promoted, and live", f"version {first}")
    token = (bench.root / State.TOKEN).read_text(encoding="utf-8").split()[0]
    load = Load(bench.port, token, bench.asked(HOME), clients=CLIENTS, rate=RATE, max_tokens=MAX_TOKENS)
    load_began = timeline.now
    timeline.note("load", f"{RATE:g} requests a second from {CLIENTS} clients, as the model knows them")
    try:
        figures = _drift_and_retrain(bench, hook, load, first)
        figures |= _refuse_and_roll_back(bench, hook, first, str(figures["version"]))
    finally:
        load.stop()
        bench.answers += [(one.at + load_began, one.seconds) for one in load.answers]
        _judge_load(timeline, load)
    return figures


def _drift_and_retrain(bench: Bench, hook: Webhook, load: Load, first: str) -> dict[str, Any]:
    timeline = bench.timeline
    calm = bench.wait(
        "unchanged traffic is judged", lambda: bench.windows() if len(bench.windows()) >= HOME_WINDOWS else None
    )
    alarms = sum(one["outcome"] == "differs" for one in calm)
    timeline.goal("unchanged traffic", f"{alarms} of {len(calm)} windows differ", "none", not alarms)
    turned = timeline.note("traffic turns", "season=sea").at
    load.turn(bench.asked(SEA))
    bench.wait("the webhook hears of drift", lambda: hook.first("Drift"))
    sent = next(one for one in alerts.Outbox(bench.root / State.ALERTS).alerts() if one.key.startswith("drift/"))
    found = sent.time - timeline.began
    timeline.note("drift found", f"{found - turned:.0f} s after the turn", at=found)
    record = bench.wait("the event starts a retraining", lambda: next(iter(bench.retrainings()), None))
    started = record.started - timeline.began
    timeline.note("retraining started by the event", f"{started - found:.1f} s after drift was found", at=started)
    timeline.goal(
        "event to start of retraining",
        f"{started - found:.1f} s",
        f"at most {MOST_TO_START:g} s",
        started - found <= MOST_TO_START,
    )
    record = _follow(bench, record.id)
    timeline.goal("retraining", record.status, "promoted", record.status == "promoted")
    if record.status != "promoted":
        raise Missed(f"the retraining ended as {record.status}: {record.note}")
    bench.wait("the new champion is swapped in", lambda: bench.live() == str(record.version))
    swapped = timeline.note("hot swap", f"version {first} to {record.version}").at
    timeline.goal("from the turn to the new model", clock(swapped - turned).strip())
    return {"version": record.version, **_compare(bench, int(first), int(record.version or 0))}


def _follow(bench: Bench, name: str) -> records.Record:
    """Note each step of a retraining until it has ended."""
    said: list[str] = []

    def ended() -> records.Record | None:
        one = next(one for one in bench.retrainings() if one.id == name)
        for step in one.done[len(said) :]:
            said.append(step)
            if step in ("workspace", "lifecycle", "register"):
                detail = f"files of accepted data: {one.new_files}" if step == "workspace" else ""
                bench.timeline.note(f"retraining: {step}", detail)
        return one if one.ended else None

    return bench.wait("the retraining ends", ended)


def _compare(bench: Bench, old: int, new: int) -> dict[str, Any]:
    """Perplexity of both versions on traffic that neither has seen."""
    registry = open_registry(root=bench.root)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="moteur-loop-") as scratch:
        folders = [registry.fetch(number, Path(scratch) / str(number)) for number in (old, new)]
        texts = {name: bench.asked(uri) for name, uri in UNSEEN.items()}
        before, after = (perplexities(folder, list(texts.values())) for folder in folders)
        for name, was, now in zip(texts, before, after, strict=True):
            found[f"{name}_before"], found[f"{name}_after"] = was, now
    gain = 1 - found["sea_after"] / found["sea_before"]
    words = "word perplexity {:.1f} to {:.1f}"
    bench.timeline.note("measured", words.format(found["sea_before"], found["sea_after"]) + " on unseen sea traffic")
    bench.timeline.goal(
        "perplexity of a word, new traffic",
        f"{found['sea_before']:.1f} to {found['sea_after']:.1f} ({-gain:+.0%})",
        f"at least -{LEAST_GAIN:.0%}",
        gain >= LEAST_GAIN,
    )
    change = found["home_after"] / found["home_before"] - 1
    bench.timeline.goal(
        "the same, old traffic", f"{found['home_before']:.1f} to {found['home_after']:.1f} ({change:+.0%})"
    )
    return found


def _refuse_and_roll_back(bench: Bench, hook: Webhook, first: str, second: str) -> dict[str, Any]:
    timeline = bench.timeline
    delivered = deliver_shuffled(bench.root)
    timeline.note("rankings delivered", "their labels are shuffled")
    bench.moteur("retrain", "--profile", DELIVERED, "--wait", allow=range(256))
    delivered.unlink()
    bad = bench.retrainings()[-1]
    timeline.note(f"bad candidate {bad.status}", textwrap.shorten(bad.note, 200, placeholder=" ..."))
    kept = bench.live() == second
    timeline.goal(
        "bad candidate",
        f"{bad.status}; version {second} {'stays' if kept else 'does not stay'} live",
        "refused",
        bad.status == "refused" and kept and "reward model" in bad.note,
    )
    bench.wait("the webhook hears of the refusal", lambda: hook.first("refused"), patience=60)
    began = timeline.now
    bench.moteur("rollback", "--why", "shown in the loop")
    bench.wait("the old version answers again", lambda: bench.live() == first, patience=120)
    seconds = timeline.now - began
    timeline.note("rolled back", f"version {second} to {first}, answering {seconds:.1f} s after the command")
    timeline.goal(
        "rollback, until it answers",
        f"{seconds:.1f} s",
        f"at most {MOST_TO_ROLL_BACK:g} s",
        seconds <= MOST_TO_ROLL_BACK,
    )
    return {"rollback_seconds": round(seconds, 1)}


def _judge_load(timeline: Timeline, load: Load) -> None:
    faults = [one.fault for one in load.answers if one.fault]
    took = sorted(one.seconds for one in load.answers)
    timeline.goal(
        "requests",
        f"{len(load.answers):,}, {len(faults)} failed{f' ({faults[0]})' if faults else ''}",
        "none failed",
        not faults,
    )
    timeline.goal(
        "seconds to an answer",
        f"median {took[len(took) // 2]:.2f}, 99 in 100 within {took[int(0.99 * len(took))]:.2f}",
        "-",
        True,
    )


def main() -> int:
    """Run the loop; 0 when every goal is met."""
    parser = argparse.ArgumentParser(description="The whole loop on one machine, with nobody at the keyboard.")
    parser.add_argument("--folder", type=Path, default=ROOT / State.ROOT / "loop", help="Where it works; made anew.")
    parser.add_argument("--keep-up", action="store_true", help="Leave the services up, to look around afterwards.")
    options = parser.parse_args()
    folder: Path = options.folder.resolve()
    console = terminal.console()
    _clear(folder)
    timeline = Timeline(folder, console)
    ports = free_ports(3)
    root = prepare(folder, ports)
    with webhook(timeline) as (url, hook):
        for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
            os.environ.pop(name, None)
        environment = {**os.environ, "MOTEUR_LOOP_WEBHOOK": url, "PYTHONPATH": str(root)}
        bench = Bench(root, timeline, environment, ports[0])
        figures: dict[str, Any] = {}
        try:
            figures = tell(bench, hook)
        except MoteurError as error:
            timeline.note("ended early", str(error))
            timeline.goal("the loop", "ended early", "to the end", False)
        finally:
            if not options.keep_up:
                bench.moteur("down", allow=range(256))
    seconds = timeline.now
    timeline.goal(
        "all of it", clock(seconds).strip(), f"at most {clock(MOST_SECONDS).strip()}", seconds <= MOST_SECONDS
    )
    page = timeline.close({**figures, "seconds": round(seconds)}, bench.answers)
    console.print(f"\nTimeline: {page}\nCommands: {folder / 'commands.log'}", soft_wrap=True)
    return 0 if all(one.met is not False for one in timeline.goals) else 1


def _clear(folder: Path) -> None:
    """End what an earlier loop left up, and remove what it left behind."""
    if (folder / "checkout" / "params.yaml").exists():
        command = [sys.executable, "-m", "flows.cli", "down"]
        subprocess.run(command, cwd=folder / "checkout", capture_output=True, check=False)  # noqa: S603  ourselves
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


if __name__ == "__main__":
    sys.exit(main())

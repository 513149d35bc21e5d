"""The parts of `make loop` that could be wrong without anybody seeing it."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from benchmarks import loop
from benchmarks.load import Load
from benchmarks.timeline import Timeline, latencies
from flows.workspaces import profiles
from pipelines.adapters import files, rankings
from pipelines.artifacts import Artifact
from tests.contracts.source import ROOT


@pytest.fixture
def server():
    """Answers prompts, but for those that say "fail"; keeps what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompt = body["messages"][0]["content"]
            asked.append(prompt)
            self.send_response(503 if prompt == "fail" else 200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found.server_address[1], asked
    found.shutdown()


def run_until(load: Load, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(load.answers) < count and time.monotonic() < deadline:
        time.sleep(0.01)


def test_a_load_asks_each_prompt_in_turn_then_the_new_ones_and_counts_what_fails(server):
    port, asked = server
    load = Load(port, "token", ["one", "two"], clients=1, rate=200, max_tokens=1)
    run_until(load, 4)
    load.turn(["fail"])
    run_until(load, 12)
    load.stop()
    assert asked[:4] == ["one", "two", "one", "two"]
    assert set(asked[8:]) == {"fail"}
    faults = [one.fault for one in load.answers]
    assert faults[:4] == [""] * 4
    assert faults[-1] == "503: {}"
    assert len(load.answers) == len(asked)


def test_a_load_without_a_server_fails_every_request(server):
    load = Load(loop.free_ports(1)[0], "token", ["one"], clients=2, rate=100, max_tokens=1)
    run_until(load, 4)
    load.stop()
    assert all("ConnectionRefusedError" in one.fault for one in load.answers)


def test_the_settings_of_the_loop_fit_params_yaml():
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    for path in (ROOT / "profiles" / "smoke.yaml", ROOT / "benchmarks" / "loop.yaml"):
        values = profiles.merge(values, profiles.read(path, {}), str(path))
    assert values["retraining"]["accept_requests"]


def test_delivered_rankings_hold_the_same_ranks_in_another_order_and_can_be_used(tmp_path):
    responses = [f"response {number}" for number in range(4)]
    row = {"prompt": "Say it.", "responses": responses, "ranks": [1, 2, 3, None], "annotator": "ann"}
    files.write_jsonl(
        tmp_path / Artifact.PREFERENCES / "rankings.jsonl", [{**row, "prompt": f"{n}"} for n in range(30)]
    )
    path = loop.deliver_shuffled(tmp_path)
    found = rankings.load(path.parent, max_bad_line_share=0.0).rankings
    assert len(found) == 30
    assert all(sorted(one.ranks, key=str) == [1, 2, 3, None] for one in found)
    assert len({one.ranks for one in found}) > 5


def test_a_timeline_is_on_the_disk_after_every_event_and_draws_a_page(tmp_path: Path):
    timeline = Timeline(tmp_path, Console(quiet=True))
    timeline.note("second", at=2.0)
    timeline.note("first <b>", "detail", at=1.0)
    kept = files.read_json(tmp_path / "timeline.json")
    assert [event["what"] for event in kept["events"]] == ["first <b>", "second"]
    timeline.goal("a goal", "3", "at most 2", False)
    timeline.goal("a figure", "4")
    page = timeline.close({"seconds": 3}, [(0.0, 0.1), (11.0, 0.2)]).read_text()
    assert "first &lt;b&gt;" in page
    assert "0 of 1 goals" in page
    assert "not met" in page
    assert files.read_json(tmp_path / "timeline.json")["seconds"] == 3


def test_latencies_are_drawn_by_slots_of_time():
    drawn = latencies([(0.0, 0.1), (1.0, 0.3), (11.0, 0.2)])
    assert drawn.count("<polyline") == 2

"""The request log: nothing answered is lost, and text really goes when its time is over."""

import datetime
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from pipelines.adapters import files, requests
from pipelines.adapters.requests import RequestLog

PERSONAL = "Write to ann@example.org or call +49 221 1234567, says DE89 3704 0044 0532 0130 00."
ROOT = Path(__file__).parents[2]


def log(folder: Path, **settings: Any) -> RequestLog:
    return RequestLog(folder, **{"text": False, "segment_bytes": 1e6, "segment_seconds": 3600.0, **settings})


def record(number: int, *, hours: float = 0.0) -> dict[str, Any]:
    moment = requests.now() - datetime.timedelta(hours=hours)
    return {"id": f"r{number}", "time": moment.isoformat(timespec="milliseconds")}


def everything(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.iterdir())


def test_row_49_without_the_switch_only_descriptors_are_kept(tmp_path: Path) -> None:
    log(tmp_path).write(record(1), prompt="Ann has 2 secrets.", response="None of them.")
    (found,) = requests.read(tmp_path)
    assert found["prompt_descriptors"]["words"] == 4
    assert found["prompt_descriptors"]["digit_share"] == pytest.approx(1 / 18, abs=1e-6)
    assert found["response_descriptors"]["characters"] == 13
    assert "secrets" not in everything(tmp_path)


def test_row_49_text_is_kept_without_personal_data(tmp_path: Path) -> None:
    log(tmp_path, text=True).write(record(1), prompt=PERSONAL, response=f"I said: {PERSONAL}")
    (found,) = requests.read(tmp_path)
    assert found["prompt"] == "Write to [e-mail] or call [phone], says [IBAN]."
    assert found["response"] == "I said: Write to [e-mail] or call [phone], says [IBAN]."
    assert not any(secret in everything(tmp_path) for secret in ("ann@", "1234567", "DE89"))


def test_row_49_text_is_deleted_when_its_time_is_over_and_descriptors_stay(tmp_path: Path) -> None:
    one = log(tmp_path, text=True)
    for number, hours in enumerate([30, 25, 1, 0]):
        one.write(record(number, hours=hours), prompt=f"prompt {number}", response=f"response {number}")
    assert one.expire(requests.now() - datetime.timedelta(hours=24)) == 2
    one.write(record(4), prompt="prompt 4", response="response 4")
    found = list(requests.read(tmp_path))
    assert [entry["id"] for entry in found] == ["r0", "r1", "r2", "r3", "r4"]
    assert ["prompt" in entry and "response" in entry for entry in found] == [False, False, True, True, True]
    assert all(entry["prompt_descriptors"]["words"] == 2 for entry in found)
    assert "prompt 0" not in everything(tmp_path)
    assert "response 1" not in everything(tmp_path)


@pytest.mark.parametrize("time", ["123", '"soon"', '"2026-01-01T00:00:00"', "null"])
def test_row_49_a_line_without_a_time_is_dropped_and_does_not_end_the_cleaning(tmp_path: Path, time: str) -> None:
    one = log(tmp_path, text=True)
    one.write(record(1), prompt="young", response="young")
    one.close()
    with requests.segments(tmp_path)[0].open("a") as file:
        file.write(f'{{"id": "r2", "time": {time}, "prompt": "ageless"}}\n{{"id": "r3", "prompt": "torn')
    one.write(record(4, hours=30), prompt="old", response="old")
    one.expire(requests.now() - datetime.timedelta(hours=24))
    assert [(entry["id"], entry.get("prompt")) for entry in requests.read(tmp_path)] == [("r1", "young"), ("r4", None)]
    assert not any(word in everything(tmp_path) for word in ("ageless", "torn", "old"))


def test_row_49_a_segment_that_cannot_be_cleaned_is_told_and_the_others_are_cleaned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = log(tmp_path, text=True, segment_seconds=0.0)
    for number in range(3):
        one.write(record(number, hours=30), prompt=f"prompt {number}", response="")
    one.close()
    first, replace = requests.segments(tmp_path)[0], files.write_jsonl

    def write(path: Path, records: Any) -> int:
        if path == first:
            raise OSError(13, "Permission denied")
        return replace(path, records)

    monkeypatch.setattr(files, "write_jsonl", write)
    with pytest.raises(OSError, match="Permission denied"):
        one.expire(requests.now())
    assert ["prompt" in entry for entry in requests.read(tmp_path)] == [True, False, False]


def test_writers_do_not_wait_for_the_cleaning_and_closed_segments_without_old_text_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = log(tmp_path, text=True)
    for number in range(2):
        one.write(record(number), prompt="young", response="young")
        one.close()
    looked: list[Path] = []
    look = requests._oldest_text

    def counted(path: Path) -> datetime.datetime | None:
        writer = threading.Thread(target=one.write, args=(record(9),), kwargs={"prompt": "a", "response": "b"})
        writer.start()
        writer.join(timeout=60)
        assert not writer.is_alive()
        looked.append(path)
        return look(path)

    monkeypatch.setattr(requests, "_oldest_text", counted)
    closed = requests.segments(tmp_path)
    before = requests.now() - datetime.timedelta(hours=24)
    for _ in range(3):
        assert one.expire(before) == 0
    assert [path for path in looked if path in closed] == closed


def test_segments_that_another_process_writes_are_left_to_it(tmp_path: Path) -> None:
    writer, other = log(tmp_path, text=True), log(tmp_path, text=True)
    writer.write(record(1, hours=30), prompt="old", response="old")
    before = requests.now() - datetime.timedelta(hours=24)
    assert other.expire(before) == 0
    writer.close()
    assert other.expire(before) == 1


def test_a_segment_is_closed_at_its_size(tmp_path: Path) -> None:
    one = log(tmp_path, segment_bytes=2_000)
    for number in range(10):
        one.write(record(number), prompt="a", response="b")
    assert len(requests.segments(tmp_path)) > 2
    assert all(path.stat().st_size < 4_000 for path in requests.segments(tmp_path))
    assert [entry["id"] for entry in requests.read(tmp_path)] == [f"r{number}" for number in range(10)]


def test_a_segment_is_closed_at_its_age(tmp_path: Path) -> None:
    one = log(tmp_path, segment_seconds=0.0)
    one.write(record(1), prompt="a", response="b")
    one.write(record(2), prompt="a", response="b")
    assert len(requests.segments(tmp_path)) == 2


def test_only_the_owner_can_read_the_log(tmp_path: Path) -> None:
    log(tmp_path / "requests").write(record(1), prompt="a", response="b")
    (segment,) = requests.segments(tmp_path / "requests")
    assert segment.stat().st_mode & 0o077 == 0
    assert segment.parent.stat().st_mode & 0o077 == 0


def test_readers_skip_a_torn_line_and_what_is_older(tmp_path: Path) -> None:
    one = log(tmp_path)
    one.write(record(1, hours=5), prompt="a", response="b")
    one.write(record(2), prompt="a", response="b")
    one.close()
    with requests.segments(tmp_path)[0].open("ab") as file:
        file.write(b'{"id": "r3", "time": "2026-01')
    since = requests.now() - datetime.timedelta(hours=1)
    assert [entry["id"] for entry in requests.read(tmp_path)] == ["r1", "r2"]
    assert [entry["id"] for entry in requests.read(tmp_path, since=since)] == ["r2"]


def test_threads_do_not_tear_each_others_lines(tmp_path: Path) -> None:
    one = log(tmp_path, text=True, segment_bytes=20_000)

    def write(first: int) -> None:
        for number in range(first, first + 50):
            one.write(record(number), prompt="p" * 300, response="q" * 300)

    threads = [threading.Thread(target=write, args=(1000 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = [line for path in requests.segments(tmp_path) for line in path.read_text().splitlines()]
    assert len({json.loads(line)["id"] for line in lines}) == 200


WRITER = """
import sys
from pathlib import Path
from pipelines.adapters import files, requests
log = requests.RequestLog(Path(sys.argv[1]), text=True, segment_bytes=3000, segment_seconds=3600)
for number in range(10**9):
    log.write({"id": f"r{number}", "time": requests.now().isoformat()}, prompt="Where is the boat?", response="Here.")
    print(number, flush=True)
"""


def test_kill_9_loses_no_record_that_was_written(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(57):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        told = [int(line) for line in process.stdout if line.endswith("\n")]
    kept = [entry["id"] for entry in requests.read(tmp_path)]
    assert kept[: told[-1] + 1 if told else 57] == [f"r{number}" for number in range((told[-1] + 1) if told else 57)]
    assert len(requests.segments(tmp_path)) > 3


def test_a_written_line_holds_the_fields_of_the_contract_and_no_others(tmp_path):
    ended = {
        "id": "r1", "time": requests.now().isoformat(), "route": "completions", "status": 200, "version": "1",
        "manifest_sha256": "a" * 64, "stream": False, "prompt_tokens": 3, "completion_tokens": 4, "finish": ["stop"],
        "seconds": 0.5, "first_token_seconds": 0.1, "nats_per_token": 1.5, "temperature": 0.0,
    }  # fmt: skip
    assert set(ended) == set(requests.Ended.__annotations__)
    log = requests.RequestLog(tmp_path, text=True, segment_bytes=1e6, segment_seconds=60)
    log.write(ended, prompt="Where is the boat?", response="Here.")
    log.close()
    (found,) = requests.read(tmp_path)
    assert set(found) == set(ended) | set(requests.Logged.__annotations__)

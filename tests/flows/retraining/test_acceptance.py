"""Requests become accepted data: once, without what the model wrote, and with every reason why not."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.retraining import acceptance, accepted
from pipelines import stage
from pipelines.adapters import requests, sources
from pipelines.adapters.requests import RequestLog
from pipelines.errors import ArtifactError, ParamsError
from pipelines.params import Params, Source
from tests.flows import toy
from tests.flows.examples import ROOT

BEAR, HEN = "Once a bear found a drum in the barn.", "Who ate the cake that the hen had made?"
PARAMS: Params = stage.load_params(ROOT / "params.yaml")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[RequestLog]:
    """The open log of a server that keeps text."""
    one = RequestLog(tmp_path / ".moteur/requests", text=True, segment_bytes=1e6, segment_seconds=3600.0)
    yield one
    one.close()


def ask(log: RequestLog, prompt: str, response: str = "The fox did.", *, hours: float = 0.0, **facts: Any) -> None:
    number = ask.count = getattr(ask, "count", 0) + 1  # type: ignore[attr-defined]
    moment = requests.now() - timedelta(hours=hours)
    record = {"id": f"r{number}", "time": moment.isoformat(timespec="milliseconds"), "route": "chat.completions"}
    log.write({**record, "status": 200, "finish": ["stop"], **facts}, prompt=prompt, response=response)


def take(root: Path, **wanted: Any) -> acceptance.Taking:
    return acceptance.take(root, PARAMS, **wanted)


def texts(root: Path, taking: acceptance.Taking) -> list[str]:
    assert taking.file is not None
    lines = (root / taking.file).read_text().splitlines()
    return [record.get("text", record.get("completion")) for record in map(json.loads, lines)]


def test_what_users_sent_is_taken_once_and_what_the_model_wrote_is_not(tmp_path: Path, log: RequestLog) -> None:
    ask(log, BEAR)
    first = take(tmp_path)
    assert texts(tmp_path, first) == [BEAR]
    assert first.words == f"1 new requests in the log: 1 taken as corpus into {first.file}"
    ask(log, HEN)
    second = take(tmp_path)
    assert texts(tmp_path, second) == [HEN]
    assert second.file != first.file
    assert take(tmp_path) == acceptance.Taking(kind="corpus", taken=0, file=None, left_out=Counter())
    assert "fox" not in "".join(path.read_text() for path in (tmp_path / "data/accepted").rglob("*.jsonl"))


def test_what_was_taken_is_a_file_for_its_owner_that_a_retraining_finds_and_ingestion_reads(
    tmp_path: Path, log: RequestLog
) -> None:
    ask(log, BEAR)
    taking = take(tmp_path)
    ((kind, split, path),) = accepted.files(tmp_path / "data/accepted")
    assert (kind, split, path) == ("corpus", "train", tmp_path / str(taking.file))
    assert path.stat().st_mode & 0o777 == 0o600
    (item,) = sources.resolve(Source(uri=path.name), "corpus", "train", path.parent, 10_000)
    (row,) = item.rows()
    assert (row.values["text"], row.values["source"]) == (BEAR, "requests")  # type: ignore[union-attr]
    assert row.values["request"] == next(requests.read(tmp_path / ".moteur/requests"))["id"]  # type: ignore[union-attr]


def test_what_is_left_out_is_counted_by_its_reason(tmp_path: Path, log: RequestLog) -> None:
    for prompt in (BEAR, BEAR.upper(), f"{HEN} {BEAR} It was loud.", f"{HEN} {BEAR} It was loud!", "Hi.", "  "):
        ask(log, prompt)
    ask(log, "My password: hunter2hunter2, do not tell anybody.")
    ask(log, "A text with \0 in its middle, which no file of text may hold.")
    silent = RequestLog(tmp_path / ".moteur/requests", text=False, segment_bytes=1e6, segment_seconds=3600.0)
    ask(silent, BEAR)
    taking = take(tmp_path)
    assert taking.taken == 2
    assert taking.left_out == {
        "exact duplicate": 1, "near duplicate": 1, "too short": 1, "empty": 1, "looks like a secret": 1,
        "NUL character": 1, acceptance.NO_TEXT: 1,
    }  # fmt: skip


def test_what_was_taken_before_is_a_duplicate_also_after_a_crash_before_the_note(
    tmp_path: Path, log: RequestLog
) -> None:
    ask(log, BEAR)
    take(tmp_path)
    (tmp_path / ".moteur/accepted/requests.json").unlink()
    ask(log, HEN)
    taking = take(tmp_path)
    assert (texts(tmp_path, taking), taking.left_out) == ([HEN], {"exact duplicate": 1})


def test_a_request_that_a_person_removed_is_not_taken_again(tmp_path: Path, log: RequestLog) -> None:
    ask(log, BEAR)
    (tmp_path / str(take(tmp_path).file)).unlink()
    assert take(tmp_path).taken == 0


def test_deleting_old_text_and_torn_lines_move_no_count(tmp_path: Path, log: RequestLog) -> None:
    ask(log, BEAR, hours=30)
    ask(log, "", hours=30)
    (segment,) = requests.segments(tmp_path / ".moteur/requests")
    assert take(tmp_path).taken == 1
    ask(log, HEN)
    log.close()
    with segment.open("a") as file:
        file.write('{"id": "torn')
    log.expire(requests.now() - timedelta(hours=24))
    ask(log, "Tom lost his hat in the wind. He was sad.")
    assert texts(tmp_path, take(tmp_path)) == [HEN, "Tom lost his hat in the wind. He was sad."]


def test_answers_are_taken_only_when_somebody_wants_them(tmp_path: Path, log: RequestLog) -> None:
    with pytest.raises(ParamsError, match="add --answers"):
        take(tmp_path, kind="instructions")
    ask(log, BEAR, " It was loud.", route="completions")
    ask(log, BEAR, " It was", route="completions", finish=["length"])
    ask(log, BEAR, " It was", route="completions", status=499, finish=["cancelled"])
    ask(log, HEN, "The fox did.")
    ask(log, HEN, "The fox. The dog.", finish=["stop", "stop"])
    corpus = take(tmp_path, answers=True)
    assert texts(tmp_path, corpus) == [f"{BEAR} It was loud.", HEN]
    assert corpus.left_out == {"not one whole answer": 2, "exact duplicate": 1}
    pairs = take(tmp_path, kind="instructions", answers=True)
    assert texts(tmp_path, pairs) == ["The fox did."]
    assert pairs.left_out == {"not a conversation": 3, "not one whole answer": 1}
    assert {kind for kind, *_ in accepted.files(tmp_path / "data/accepted")} == {"corpus", "instructions"}


def test_what_is_older_than_since_is_left_out_for_good(tmp_path: Path, log: RequestLog) -> None:
    ask(log, BEAR, hours=30)
    ask(log, HEN)
    taking = take(tmp_path, since=datetime.now(UTC) - timedelta(hours=24))
    assert (texts(tmp_path, taking), taking.left_out) == ([HEN], {"before --since": 1})
    assert take(tmp_path).taken == 0


def test_a_note_that_is_torn_is_named_with_the_remedy(tmp_path: Path, log: RequestLog) -> None:
    ask(log, BEAR)
    take(tmp_path)
    (tmp_path / ".moteur/accepted/requests.json").write_text('{"corp')
    with pytest.raises(ArtifactError, match=r"is not JSON .*: remove it"):
        take(tmp_path)


def test_the_command_says_how_much_was_taken_and_why_the_rest_was_not(tmp_path: Path) -> None:
    root = toy.make(tmp_path / "checkout", git=False)
    for text in (True, False):
        one = RequestLog(root / ".moteur/requests", text=text, segment_bytes=1e6, segment_seconds=3600.0)
        ask(one, BEAR)
    done = toy.moteur(root, "accept", "--since", "2026-01-01")
    assert done.returncode == 0, done.stderr
    said = [line.strip() for line in done.stdout.splitlines()]
    assert said[0].startswith("2 new requests in the log: 1 taken as corpus into data/accepted/corpus/requests-")
    assert "1  left out: the log holds no text of it" in said
    assert any(line.startswith("serving.log.text in params.yaml is false") for line in said)
    assert "--since soon: give a day" in toy.moteur(root, "accept", "--since", "soon").stderr

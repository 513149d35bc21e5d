"""The log of requests as documents."""

import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from flows.drift import traffic
from tests.flows.drift.documents import log, texts


def test_a_torn_last_line_of_the_log_is_no_request(tmp_path):
    log(tmp_path, texts(3, 17), start=0)
    (path,) = tmp_path.glob("*.jsonl")
    path.write_bytes(path.read_bytes()[:-40])
    assert [request.id for request in traffic.read(tmp_path)] == ["1-0", "1-1"]
    assert traffic.read(tmp_path / "none") == []


RECORDS = st.fixed_dictionaries(
    {
        "id": st.text(min_size=1),
        "prompt_descriptors": st.dictionaries(st.text(), st.none() | st.floats() | st.integers()),
    },
    optional={
        name: st.none() | st.integers() | st.text() | st.lists(st.text()) | st.dictionaries(st.text(), st.floats())
        for name in ("time", "prompt", "response_descriptors", "finish", "status", "seconds")
    },
)


@settings(max_examples=60, deadline=None)
@given(st.lists(RECORDS.map(json.dumps).map(str.encode) | st.binary(max_size=40), max_size=6))
def test_any_line_of_the_log_is_a_request_or_is_left_out(lines):
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "requests-20260101T000000-7-1.jsonl").write_bytes(b"\n".join(lines))
        found = traffic.read(Path(name))
    assert len({request.id for request in found}) == len(found) <= len(lines) + sum(line.count(b"\r") for line in lines)
    assert all(isinstance(value, float) for request in found for value in request.columns.values())

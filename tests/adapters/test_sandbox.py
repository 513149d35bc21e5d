"""The process of its own in which a release is asked."""

import sys

import pytest

from pipelines.adapters import release, sandbox
from pipelines.errors import ArtifactError, ResourceError
from tests.fixtures import corpus_records, tiny_model, tiny_tokenizer

LIMITS = {"max_new_tokens": 4, "timeout_seconds": 120, "memory_mib": 12288, "threads": 1}

ROOM = sandbox.Room(timeout_seconds=1, memory_mib=9, threads=1, timeout_key="a.time", memory_key="a.memory")


@pytest.fixture
def folder(tmp_path):
    tokenizer = tiny_tokenizer([record["text"] for record in corpus_records(20)])
    release.save_quantised(tiny_model(tokenizer), tokenizer, tmp_path / "release")
    release.write_manifest(tmp_path / "release", name="x")
    return tmp_path / "release"


def test_the_release_answers_every_prompt_in_a_process_of_its_own(folder):
    reply = sandbox.ask(folder, ["Who is there?", "And who else?"], **LIMITS)
    assert len(reply.answers) == len(reply.finished) == 2
    assert all(isinstance(answer, str) for answer in reply.answers)
    assert reply.peak_memory_mib > 50


def test_a_flipped_byte_stops_the_release_before_it_is_loaded(folder):
    weights = bytearray((folder / release.WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (folder / release.WEIGHTS).write_bytes(weights)
    with pytest.raises(ArtifactError, match=r"failed in the sandbox: .*model\.safetensors has another sha256"):
        sandbox.ask(folder, ["Who?"], **LIMITS)


def test_a_pickle_is_refused_even_when_the_manifest_lists_it(folder):
    (folder / "weights.pkl").write_bytes(b"\x80\x04N.")
    release.write_manifest(folder, name="x")
    with pytest.raises(ArtifactError, match=r"weights\.pkl can run code"):
        sandbox.ask(folder, ["Who?"], **LIMITS)


def test_too_little_memory_is_said_with_the_key_that_raises_it(folder):
    with pytest.raises(ResourceError, match=r"more than 300 MiB .* deployment\.memory_mib"):
        sandbox.ask(folder, ["Who?"], **{**LIMITS, "memory_mib": 300})


def test_too_little_time_is_said_with_the_key_that_raises_it(folder):
    with pytest.raises(ResourceError, match=r"within 0\.05 s: raise deployment\.timeout_seconds"):
        sandbox.ask(folder, ["Who?"], **{**LIMITS, "timeout_seconds": 0.05})


@pytest.mark.parametrize(
    ("code", "out", "err", "kind", "message"),
    [
        (-11, "", "", ArtifactError, "ended with code -11: it said nothing"),
        (1, "", "Traceback\nValueError: no", ArtifactError, "ended with code 1: ValueError: no"),
        (-9, "", "", ResourceError, "needs more than 9 MiB"),
        (1, '{"error": "a.txt is missing"}', "", ArtifactError, "a.txt is missing"),
    ],
)
def test_however_the_child_ends_the_reason_is_told(tmp_path, code, out, err, kind, message):
    with pytest.raises(kind, match=message):
        sandbox._read(tmp_path, code, out, err, ROOM)


def test_the_child_inherits_no_secrets_and_may_not_go_online(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("HTTPS_PROXY", "http://x")
    environment = sandbox._environment("/nowhere", 3)
    assert "x" not in environment.values()
    assert "HTTPS_PROXY" not in environment
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert environment["OMP_NUM_THREADS"] == "3"


@pytest.mark.parametrize(
    "attempt",
    [
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import socket; socket.getaddrinfo('localhost', 80)",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.system('true')",
    ],
)
def test_in_the_sandbox_neither_network_nor_other_programs_can_be_reached(attempt):
    import subprocess

    code = f"from pipelines.adapters import sandbox; sandbox._forbid(); {attempt}"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert "the sandbox does not allow" in ended.stderr

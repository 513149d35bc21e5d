"""A server that speaks OpenAI's API is asked: patiently, once, and without a word about the token."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pipelines.adapters.endpoint import Client
from pipelines.errors import DataError, ParamsError
from pipelines.params import Endpoint
from tests.servers import free_port

SECRET = "s3cr3t-Qx7Lp9"  # noqa: S105  planted
VARIABLE = "JUDGE_TOKEN"


class Model:
    """A real server on loopback, which answers with the last turn in capitals unless it is told otherwise."""

    def __init__(self) -> None:
        model = self
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.planned: list[tuple[int, Any]] = []
        """Status and body of the next answers."""
        self.retry_after = "0"
        self.lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with model.lock:
                    model.asked.append(body)
                    model.headers.append(dict(self.headers))
                    status, answer = model.planned.pop(0) if model.planned else (200, None)
                if answer is None:
                    answer = said(body["messages"][-1]["content"].upper())
                content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Retry-After", model.retry_after)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/v1"


def said(text: str | None, finish_reason: str = "stop") -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}]}


@pytest.fixture
def model() -> Iterator[Model]:
    one = Model()
    yield one
    one.server.shutdown()
    one.server.server_close()


@pytest.fixture
def client(model, tmp_path):
    """Makes a client of the server that notes how long it would have waited."""

    def make(**changes: Any) -> tuple[Client, list[float]]:
        waits: list[float] = []
        settings = Endpoint.model_validate({"base_url": model.url, "model": "judge", **changes})
        return Client(settings, tmp_path / "answers", sleep=waits.append), waits

    return make


def turns(*texts):
    return [[{"role": "user", "content": text}] for text in texts]


def ask(client, *texts):
    return client.answers(turns(*texts), max_tokens=8, seed=7)


class TestAnswers:
    def test_come_in_the_order_of_the_questions_and_the_same_question_is_asked_once(self, client, model):
        one, _ = client(concurrent=3)
        texts = [f"question {number}" for number in range(20)]
        assert ask(one, *texts, "question 3") == [text.upper() for text in [*texts, "question 3"]]
        assert len(model.asked) == 20

    def test_are_asked_for_as_the_api_has_it(self, client, model):
        one, _ = client()
        ask(one, "hi")
        assert model.asked == [
            {
                "model": "judge",
                "messages": [{"role": "user", "content": "hi"}],
                "max_tokens": 8,
                "temperature": 0,
                "seed": 7,
            }
        ]
        assert "Authorization" not in model.headers[0]

    def test_that_were_given_before_are_not_asked_for_again(self, client, model):
        one, _ = client()
        before = ask(one, "hi", "ho")
        again, _ = client()
        assert ask(again, "ho", "hi") == before[::-1]
        assert len(model.asked) == 2

    def test_to_another_question_or_of_another_model_are_others(self, client, model):
        one, _ = client()
        ask(one, "hi")
        other, _ = client(model="other")
        ask(other, "hi")
        one.answers(turns("hi"), max_tokens=9, seed=7)
        one.answers(turns("hi"), max_tokens=8, seed=8)
        assert len(model.asked) == 4

    def test_that_are_empty_or_cut_off_are_none_and_kept_as_such(self, client, model):
        model.planned = [(200, said("  ")), (200, said(None)), (200, said("A because", "length"))]
        one, _ = client(concurrent=1)
        assert ask(one, "a", "b", "c", "d") == [None, None, None, "D"]
        assert ask(one, "a", "b", "c", "d") == [None, None, None, "D"]
        assert len(model.asked) == 4

    def test_that_are_torn_on_disk_are_asked_for_again(self, client, model, tmp_path):
        one, _ = client()
        ask(one, "hi")
        (kept,) = (tmp_path / "answers").rglob("*.json")
        kept.write_text('{"answ')
        assert ask(one, "hi") == ["HI"]
        assert len(model.asked) == 2


class TestPatience:
    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_a_busy_server_is_asked_again_after_growing_waits(self, client, model, status):
        model.planned = [(status, {})] * 3
        one, waits = client()
        assert ask(one, "hi") == ["HI"]
        assert waits == [0.5, 1.0, 2.0]

    def test_a_server_that_says_how_long_to_wait_is_believed_within_limits(self, client, model):
        model.planned, model.retry_after = [(429, {})], "7"
        one, waits = client()
        ask(one, "hi")
        model.planned, model.retry_after = [(429, {})], "99999"
        ask(one, "ho")
        assert waits == [7.0, 60.0]

    def test_a_server_that_stays_busy_ends_the_stage_and_what_came_before_is_kept(self, client, model):
        one, _ = client(concurrent=1)
        ask(one, "hi")
        model.planned = [(503, {})] * 6
        with pytest.raises(DataError, match=r"gave no answer in 6 tries; at last: HTTP 503"):
            ask(one, "hi", "ho")
        assert len(model.asked) == 7
        assert ask(one, "hi", "ho") == ["HI", "HO"]
        assert len(model.asked) == 8

    def test_a_server_that_is_not_there_is_named_with_the_key(self, client):
        one, waits = client(base_url=f"http://127.0.0.1:{free_port()}/v1")
        with pytest.raises(DataError, match=r"127\.0\.0\.1.*feedback\.constitution\.endpoint.*ConnectError"):
            ask(one, "hi")
        assert len(waits) == 5

    @pytest.mark.parametrize("status", [302, 400, 401, 404])
    def test_a_refusal_is_not_asked_again(self, client, model, status):
        model.planned = [(status, {"error": {"message": "no such model"}})]
        one, waits = client(concurrent=1)
        with pytest.raises(DataError, match=rf"refuses with HTTP {status}: .*no such model"):
            ask(one, "hi", "ho", "hu")
        assert waits == []
        assert len(model.asked) == 1

    @pytest.mark.parametrize("status", [400, 413, 422])
    def test_what_a_server_refuses_that_answers_others_is_no_answer_and_kept_as_such(self, client, model, status):
        model.planned = [(200, None), (status, {"error": {"message": "content filter"}})]
        one, _ = client(concurrent=1)
        assert ask(one, "hi", "ho", "hu") == ["HI", None, "HU"]
        again, _ = client()
        assert ask(again, "hi", "ho", "hu") == ["HI", None, "HU"]
        assert len(model.asked) == 3

    def test_the_refusal_is_told_though_other_requests_wait_for_a_busy_server(self, client, model):
        model.planned = [(503, {})] * 3 + [(401, {"error": "no"})] + [(503, {})] * 3
        one, _ = client(concurrent=4)
        with pytest.raises(DataError, match="refuses with HTTP 401"):
            ask(one, *map(str, range(4)))

    @pytest.mark.parametrize("body", [b"<html>", b"[]", {"choices": []}, {"choices": [{"text": "A"}]}, b"[" * 100_000])
    def test_an_answer_in_another_form_names_the_key_of_the_address(self, client, model, body):
        model.planned = [(200, body)]
        one, _ = client()
        with pytest.raises(DataError, match=r"does not answer as OpenAI's API does.*endpoint\.base_url"):
            ask(one, "hi")

    def test_an_answer_without_an_end_is_not_read_to_it(self, client, model):
        model.planned = [(200, b"x" * 3_000_000)]
        one, _ = client()
        with pytest.raises(DataError, match="more than 1,048,576 bytes"):
            ask(one, "hi")


class TestToken:
    @pytest.fixture(autouse=True)
    def _set(self, monkeypatch):
        monkeypatch.setenv(VARIABLE, SECRET)

    def test_is_sent_and_neither_kept_nor_in_errors_though_the_server_says_it(self, client, model, tmp_path):
        one, _ = client(token_environment=VARIABLE, concurrent=1)
        model.planned = [(200, said(f"you are {SECRET}")), (401, {"error": f"{SECRET} is no key"})]
        assert ask(one, "hi") == ["you are [secret]"]
        assert model.headers[0]["Authorization"] == f"Bearer {SECRET}"
        with pytest.raises(DataError) as caught:
            ask(one, "ho")
        assert "[secret] is no key" in str(caught.value)
        kept = [file.read_text() for file in (tmp_path / "answers").rglob("*") if file.is_file()]
        assert kept
        assert SECRET not in "".join([str(caught.value), *kept])

    def test_that_is_not_set_ends_the_stage_before_anything_is_asked(self, client, monkeypatch):
        monkeypatch.delenv(VARIABLE)
        with pytest.raises(ParamsError, match=rf"token_environment names {VARIABLE}.*not set"):
            client(token_environment=VARIABLE)

    def test_that_no_header_may_hold_is_refused_without_showing_it(self, client, monkeypatch):
        monkeypatch.setenv(VARIABLE, f"{SECRET}\nX-Other: 1")
        with pytest.raises(ParamsError, match="no HTTP header") as caught:
            client(token_environment=VARIABLE)
        assert SECRET not in str(caught.value)

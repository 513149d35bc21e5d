"""The feedback stage's client and our own server understand each other."""

import pytest

from pipelines.adapters.endpoint import Client
from pipelines.errors import DataError
from pipelines.params import Endpoint
from tests.serving import live

WRONG = "wrong-token-000111"
CONVERSATIONS = [[{"role": "user", "content": text}] for text in ("Ann had a ball.", "Say A or B.")]


@pytest.fixture
def ask(server, tmp_path, monkeypatch):
    def answers(token=live.TOKEN, **changes):
        monkeypatch.setenv("JUDGE_TOKEN", token)
        values = {"base_url": f"{server.url}/v1", "model": "tiny", "token_environment": "JUDGE_TOKEN", **changes}
        client = Client(Endpoint.model_validate(values), tmp_path / "answers")
        return client.answers(CONVERSATIONS, max_tokens=150, seed=7)

    return answers


def test_it_answers_as_anybody_else_is_answered(ask, server):
    for conversation, answer in zip(CONVERSATIONS, ask(), strict=True):
        body = {"model": "tiny", "messages": conversation, "temperature": 0, "max_tokens": 150}
        (choice,) = server.ask("POST", "/v1/chat/completions", body)[2]["choices"]
        assert answer == (choice["message"]["content"].strip() if choice["finish_reason"] == "stop" else None)


def test_what_it_said_is_known_when_it_is_gone(ask):
    before = ask()
    assert ask("another") == before


def test_a_wrong_token_or_model_is_told_and_the_token_is_not(ask):
    with pytest.raises(DataError, match="refuses with HTTP 401") as caught:
        ask(WRONG)
    assert WRONG not in str(caught.value)
    with pytest.raises(DataError, match=r"refuses with HTTP 404: .*there is no model 'other'"):
        ask(model="other")

"""The server as its clients see it: a process of its own, and OpenAI's public client."""

import concurrent.futures
import json
from pathlib import Path
from typing import Any

import openai
import pytest

from pipelines.adapters import release, requests
from tests.serving.live import PROMPT, TOKEN, Server
from tests.serving.test_engine import generated

MESSAGES: Any = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": PROMPT}]


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=TOKEN, max_retries=0)


@pytest.fixture(scope="module")
def loaded(bundles: tuple[Path, Path]) -> Any:
    return release.load(bundles[0])


def expected(loaded: Any, ids: list[int], max_tokens: int = 12) -> str:
    model, tokenizer = loaded
    text: str = tokenizer.decode(generated(model, ids, max_tokens), skip_special_tokens=True)
    return text


def test_the_public_client_finds_the_model(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]


def test_a_completion_is_what_generate_says(client: openai.OpenAI, loaded: Any) -> None:
    done = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=12, temperature=0)
    assert done.choices[0].text == expected(loaded, loaded[1](PROMPT)["input_ids"])
    assert done.choices[0].finish_reason == "length"
    assert done.usage is not None
    assert done.usage.completion_tokens == 12
    assert done.usage.prompt_tokens == len(loaded[1](PROMPT)["input_ids"])


def test_a_chat_is_what_generate_says_after_the_template(client: openai.OpenAI, loaded: Any) -> None:
    done = client.chat.completions.create(model="tiny", messages=MESSAGES, max_completion_tokens=12, temperature=0)
    ids = loaded[1].apply_chat_template(MESSAGES, add_generation_prompt=True, tokenize=True, return_dict=False)
    assert done.choices[0].message.content == expected(loaded, ids).removeprefix(" ")
    assert done.choices[0].message.role == "assistant"


def test_a_streamed_chat_says_the_same(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": "tiny", "messages": MESSAGES, "max_tokens": 24, "temperature": 0}
    whole = client.chat.completions.create(**options)
    chunks = list(client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    said = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(choice.delta.content or "" for choice in said) == whole.choices[0].message.content
    assert [choice.finish_reason for choice in said][-1] == "length"
    assert said[0].delta.role == "assistant"
    assert chunks[-1].usage == whole.usage
    assert len(said) > 5


def test_n_answers_with_a_seed_come_back_the_same(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, "max_tokens": 10, "n": 3, "seed": 3}
    first, second = (client.completions.create(**options, temperature=1.2) for _ in range(2))
    assert [choice.text for choice in first.choices] == [choice.text for choice in second.choices]
    assert len({choice.text for choice in first.choices}) == 3
    assert [choice.index for choice in first.choices] == [0, 1, 2]


def test_several_prompts_and_token_ids_are_taken(client: openai.OpenAI, loaded: Any) -> None:
    ids = loaded[1](PROMPT)["input_ids"]
    prompts: list[Any] = [[PROMPT, "Ben"], [ids, loaded[1]("Ben")["input_ids"]], ids]
    options: dict[str, Any] = {"model": "tiny", "max_tokens": 6, "temperature": 0}
    answers = [client.completions.create(prompt=prompt, **options).choices for prompt in prompts]
    texts = [[choice.text for choice in choices] for choices in answers]
    assert texts[0] == texts[1]
    assert texts[2] == texts[0][:1]


def test_a_stop_string_is_left_out(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, "max_tokens": 30, "temperature": 0}
    text = client.completions.create(**options).choices[0].text
    stop = text[10:13]
    stopped = client.completions.create(**options, stop=[stop, "never said"]).choices[0]
    assert stopped.text == text.split(stop)[0]
    assert stopped.finish_reason == "stop"


def test_log_probabilities_of_chat_and_completion_agree_with_their_own_text(client: openai.OpenAI) -> None:
    chat = client.chat.completions.create(
        model="tiny", messages=MESSAGES, max_tokens=8, temperature=0, logprobs=True, top_logprobs=2
    )
    scores = chat.choices[0].logprobs
    assert scores is not None
    assert scores.content is not None
    assert len(scores.content) == 8
    assert all(score.top_logprobs[0].token == score.token and score.logprob < 0 for score in scores.content)
    done = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=8, temperature=0, logprobs=3)
    listed = done.choices[0].logprobs
    assert listed is not None
    assert listed.tokens is not None
    assert listed.top_logprobs is not None
    assert len(listed.tokens) == 8
    assert all(len(top) <= 3 for top in listed.top_logprobs)


def test_beam_search_is_an_extension(client: openai.OpenAI, loaded: Any) -> None:
    done = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=8, n=2, extra_body={"beams": 4})
    assert len({choice.text for choice in done.choices}) == 2


def test_errors_are_those_the_client_knows(client: openai.OpenAI, server: Server) -> None:
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt' here; this is 'tiny'"):
        client.completions.create(model="gpt", prompt=PROMPT)
    with pytest.raises(openai.UnprocessableEntityError, match="temperature is 3"):
        client.completions.create(model="tiny", prompt=PROMPT, temperature=3)
    with pytest.raises(openai.AuthenticationError, match="the token is wrong"):
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="no", max_retries=0).models.list()


def test_a_role_that_the_template_does_not_know_is_named(server: Server) -> None:
    status, _, body = server.ask("POST", "/v1/chat/completions", {"messages": [{"role": "robot", "content": "a"}]})
    assert status == 422
    assert body["error"]["param"] == "messages.0.role"


def test_many_clients_at_once_get_the_same_as_one_alone(server: Server) -> None:
    def text(number: int) -> str:
        done: str = server.complete(prompt=f"{PROMPT} {number % 3}", max_tokens=20)[2]["choices"][0]["text"]
        return done

    alone = [text(number) for number in range(3)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        together = list(pool.map(text, range(24)))
    assert together == alone * 8


def test_every_answer_is_in_the_request_log_before_the_client_has_it(server: Server) -> None:
    answer = server.complete(temperature=0.5, max_tokens=5)[2]
    found = {record["id"]: record for record in requests.read(server.root / ".moteur/requests")}[answer["id"]]
    assert found["completion_tokens"] == 5
    assert found["finish"] == ["length"]
    assert found["status"] == 200
    assert found["route"] == "completions"
    assert found["prompt_descriptors"]["characters"] == len(PROMPT)
    assert found["response_descriptors"]["characters"] == len(answer["choices"][0]["text"])
    assert found["nats_per_token"] > 0
    assert 0 < found["first_token_seconds"] <= found["seconds"]


def test_metrics_count_what_was_said(server: Server) -> None:
    before = server.metric("moteur_completion_tokens_total")
    server.complete(max_tokens=7)
    assert server.metric("moteur_completion_tokens_total") == before + 7


def test_the_description_of_the_api_is_whole(server: Server) -> None:
    described = server.ask("GET", "/openapi.json")[2]
    assert set(described["paths"]) == {
        "/health/live",
        "/health/ready",
        "/metrics",
        "/v1/models",
        "/v1/completions",
        "/v1/chat/completions",
    }
    names = set(described["components"]["schemas"])
    text = json.dumps(described)
    assert {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]} <= names

"""Bodies: strict JSON, every limit, and only errors with a sentence."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipelines.params import ServingLimits
from serving import wire
from tests.serving.live import ROOT

VALUES = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["serving"]["limits"]
LIMITS = ServingLimits.model_validate(VALUES)


def refused(kind: Any, body: bytes | dict[str, Any]) -> wire.ApiError:
    with pytest.raises(wire.ApiError) as caught:
        wire.request(kind, body if isinstance(body, bytes) else json.dumps(body).encode(), LIMITS)
    return caught.value


def outcome(kind: Any, body: bytes) -> wire.ApiError | None:
    try:
        wire.request(kind, body, LIMITS)
    except wire.ApiError as error:
        return error
    return None


def completion(**fields: Any) -> dict[str, Any]:
    return {"prompt": "a", **fields}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b'{"prompt": "a", "temperature": NaN}', "NaN is not a number of JSON"),
        (b'{"prompt": "a", "temperature": -Infinity}', "-Infinity is not a number of JSON"),
        (b'{"prompt": "a", "temperature": 1e999}', "1e999 is too large"),
        (b'{"prompt": "a", "prompt": "b"}', "the key 'prompt' appears twice"),
        (b'{"prompt": ' + b"[" * 100_000, "nested deeper than 16"),
        (b'{"a":' * 17 + b"1" + b"}" * 17, "nested deeper than 16"),
        (b'{"prompt": "a", "seed": 1' + b"0" * 5000 + b"}", "is not JSON"),
        (b'{"prompt": "\xff"}', "is not JSON"),
        (b"", "is not JSON"),
        (b"[]", "body is []"),
    ],
)
def test_row_42_what_is_not_plain_json_is_422(body: bytes, sentence: str) -> None:
    error = refused(wire.CompletionRequest, body)
    assert error.status == 422
    assert sentence in error.message


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"n": 100_000}, "n is 100000, but at most 8 is served"),
        ({"max_tokens": 10**9}, "max_tokens is 1000000000, but at most 4096 is served"),
        ({"temperature": 2.5}, "temperature is 2.5: input should be less than or equal to 2"),
        ({"temperature": "hot"}, "temperature is 'hot'"),
        ({"n": True}, "n is True"),
        ({"top_p": 0}, "top_p is 0"),
        ({"stop": ["a"] * 5}, "stop is 5, but at most 4 is served"),
        ({"stop": "a" * 101}, "stop (characters) is 101, but at most 100"),
        ({"logprobs": 21}, "logprobs is 21, but at most 20"),
        ({"beams": 9}, "beams is 9, but at most 8"),
        ({"beams": 2, "n": 3}, "n is 3 but beams is 2"),
        ({"beams": 2, "seed": 7}, "beams cannot be joined with seed"),
        ({"beams": 2, "logprobs": 0}, "beams cannot be joined with logprobs"),
        ({"beams": 2, "temperature": 0.7}, "beams cannot be joined with a temperature"),
        ({"beams": 2, "top_p": 0.5}, "beams cannot be joined with top_p"),
        ({"temperatur": 1}, "temperatur: no such field; did you mean temperature?"),
        ({"presence_penalty": 0.5}, "presence_penalty is 0.5"),
        ({"prompt": {"a": 1}}, "prompt"),
        ({"prompt": None}, "prompt"),
    ],
)
def test_row_42_a_field_beyond_its_limit_is_named_with_its_value(fields: dict[str, Any], sentence: str) -> None:
    error = refused(wire.CompletionRequest, completion(**fields))
    assert error.status == 422
    assert sentence in error.message


def test_a_missing_field_is_named() -> None:
    assert refused(wire.ChatRequest, {}).message == "messages: missing; add it"


def test_brackets_within_strings_do_not_nest() -> None:
    body = json.dumps(completion(prompt='[[["{{{\\"' * 100)).encode()
    assert wire.request(wire.CompletionRequest, body, LIMITS).prompt == '[[["{{{\\"' * 100


@given(st.binary(max_size=200))
def test_row_42_any_bytes_give_a_request_or_a_422(body: bytes) -> None:
    for kind in (wire.CompletionRequest, wire.ChatRequest):
        error = outcome(kind, body)
        assert error is None or error.status == 422
        assert error is None or json.loads(error.body)["error"]["message"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*wire.ChatRequest.model_fields, "other"]), json_values, max_size=5))
def test_row_42_any_fields_give_a_request_or_a_422(fields: dict[str, Any]) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "a"}], **fields}).encode()
    error = outcome(wire.ChatRequest, body)
    assert error is None or error.status == 422
    assert error is None or len(error.message) < 400


@given(json_values)
def test_the_depth_of_json_is_counted_right(value: Any) -> None:
    def nested(value: Any) -> int:
        if isinstance(value, dict | list):
            inner = value.values() if isinstance(value, dict) else value
            return 1 + max(map(nested, inner), default=0)
        return 0

    assert wire.depth(json.dumps(value).encode(), 100) == nested(value)


def generation(prompts: list[list[int]], **fields: Any) -> Any:
    asked = wire.request(wire.CompletionRequest, json.dumps(completion(**fields)).encode(), LIMITS)
    return wire.generation(asked, prompts, context=50, entries=10, lead="", limits=LIMITS)


def test_the_answer_fills_the_context_when_nothing_is_asked_for() -> None:
    assert generation([[1, 2, 3]]).max_tokens == 47


@pytest.mark.parametrize(
    ("prompts", "fields", "status", "sentence"),
    [
        ([[1] * 50], {}, 413, "the prompt has 50 tokens or more, but at most 49 are read"),
        ([[1] * 40], {"max_tokens": 11}, 422, "after a prompt of 40 tokens only 10 fit"),
        ([[]], {}, 422, "the prompt is empty"),
        ([[10]], {}, 422, "a token id is not within 0 to 9"),
        ([[-1]], {}, 422, "a token id is not within 0 to 9"),
        ([[1], [2], [3]], {"n": 3}, 422, "3 prompts times n = 3 is more than the 8"),
    ],
)
def test_row_42_prompts_that_the_model_cannot_take_are_refused(
    prompts: list[list[int]], fields: dict[str, Any], status: int, sentence: str
) -> None:
    with pytest.raises(wire.ApiError) as caught:
        generation(prompts, **fields)
    assert caught.value.status == status
    assert sentence in caught.value.message

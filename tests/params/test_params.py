"""params.yaml: strict, all faults at once, each with the key and the remedy."""

from typing import Any

import pydantic
import pytest

from pipelines import params
from pipelines.errors import ParamsError
from tests.params.changes import VALUES, changed, fault


def test_the_params_of_the_checkout_are_valid() -> None:
    assert params.parse(VALUES).model.hidden_size == VALUES["model"]["hidden_size"]


def test_an_unknown_key_is_named_with_its_section() -> None:
    assert "model.hiden_size: no such key" in fault(model__hiden_size=3)


def test_an_unknown_key_comes_with_the_key_that_was_meant() -> None:
    assert "did you mean model.hidden_size?" in fault(model__hiden_size=3)


def test_a_missing_key_is_named() -> None:
    assert "pretraining.max_tokens: missing; add it" in fault(pretraining__max_tokens=...)


@pytest.mark.parametrize("value", ["wide", 12.5, True, None, [1]])
def test_a_wrong_type_is_named_with_its_value(value: object) -> None:
    assert f"model.hidden_size is {value!r}" in fault(model__hidden_size=value)


def test_a_value_out_of_range_is_named() -> None:
    assert "finetuning.replay_share is 1.5" in fault(finetuning__replay_share=1.5)


def test_all_faults_are_said_at_once() -> None:
    text = fault(model__hidden_size="wide", pretraining__max_tokens=..., ppo__clipp=1)
    assert all(key in text for key in ("model.hidden_size", "pretraining.max_tokens", "ppo.clipp"))


@pytest.mark.parametrize("key", ["pretraining__context", "finetuning__max_length", "reward_modeling__max_length"])
def test_a_length_beyond_the_model_names_both_keys(key: str) -> None:
    text = fault(**{key: 513}, model__context=512)
    assert f"{key.replace('__', '.')} is 513 but model.context is 512: lower the first or raise the second" in text


def test_lengths_beyond_the_model_are_said_together() -> None:
    text = fault(pretraining__context=600, finetuning__max_length=700)
    assert "pretraining.context is 600" in text
    assert "finetuning.max_length is 700" in text


@pytest.mark.parametrize("architecture", ["rnn", "lstm", "mlp"])
def test_an_objective_that_needs_attention_refuses_a_model_without(architecture: str) -> None:
    text = fault(pretraining__objective="masked", model__architecture=architecture)
    assert f"pretraining.objective is masked, which is for attention, but model.architecture is {architecture}" in text


@pytest.mark.parametrize("other", [{"pretraining__objective": "span_corruption"}, {"model__architecture": "lstm"}])
def test_a_given_model_is_causal_and_refused_with_another_objective_or_architecture(other: dict[str, Any]) -> None:
    key, value = next(iter(other.items()))
    text = fault(pretraining__init="given", **other)
    assert f"a causal language model, but {key.replace('__', '.')} is {value}: set pretraining.init to null" in text


def test_only_a_causal_llama_goes_beyond_the_base_model() -> None:
    assert params.parse(VALUES).ends_with_base is None
    ends = {
        "pretraining.objective is masked": {"pretraining__objective": "masked"},
        "model.architecture is mlp": {"model__architecture": "mlp"},
    }
    for words, changes in ends.items():
        assert params.parse(changed(**changes)).ends_with_base == words


@pytest.mark.parametrize("values", [None, [], "text"])
def test_a_file_that_holds_no_mapping_is_refused(values: object) -> None:
    with pytest.raises(ParamsError, match="is not valid"):
        params.parse(values)


def test_params_cannot_be_changed() -> None:
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        params.parse(VALUES).model.hidden_size = 3


def sections(model: type[pydantic.BaseModel]) -> list[type[pydantic.BaseModel]]:
    found = [model]
    for field in model.model_fields.values():
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
                found += sections(kind)
    return found


def test_every_key_says_what_it_means() -> None:
    silent = [
        f"{section.__name__}.{name}"
        for section in set(sections(params.Params)) - {params.Params, params.Splits}
        for name, field in section.model_fields.items()
        if not field.description
    ]
    assert not silent


def test_requests_cannot_be_accepted_when_the_log_keeps_no_text() -> None:
    said = fault(retraining__accept_requests=True)
    assert "retraining.accept_requests is true but serving.log.text is false" in said
    assert params.parse(changed(retraining__accept_requests=True, serving__log__text=True)).retraining.accept_requests

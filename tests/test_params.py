"""params.yaml: strict, all faults at once, each with the key and the remedy."""

import copy
from pathlib import Path
from typing import Any

import pydantic
import pytest
import yaml

from pipelines import params
from pipelines.errors import ParamsError

PATH = Path(__file__).resolve().parents[1] / "params.yaml"
VALUES: dict[str, Any] = yaml.safe_load(PATH.read_text(encoding="utf-8"))


def changed(**settings: Any) -> dict[str, Any]:
    """The values with `section__key=value` put in; `...` removes a key."""
    values = copy.deepcopy(VALUES)
    for where, value in settings.items():
        *sections, key = where.split("__")
        at = values
        for section in sections:
            at = at[section]
        if value is ...:
            del at[key]
        else:
            at[key] = value
    return values


def fault(**settings: Any) -> str:
    with pytest.raises(ParamsError) as caught:
        params.parse(changed(**settings))
    return str(caught.value)


def test_the_params_of_the_checkout_are_valid() -> None:
    assert params.parse(VALUES).model.hidden_size == VALUES["model"]["hidden_size"]


def test_somebody_has_to_be_left_to_learn_from() -> None:
    text = fault(feedback__annotators=2, feedback__held_out_annotators=["annotator-1", "annotator-2", "ann"])
    assert "feedback.held_out_annotators names all 2 simulated annotators" in text


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


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kl_coefficient": 0.0}, "ppo.kl_target is set but ppo.kl_coefficient is 0"),
        ({"kl_limit": 6.0}, "ppo.kl_target is 6.0 but training stops at ppo.kl_limit = 6.0: lower the first"),
        ({"kl_horizon": 63}, "ppo.kl_horizon is 63 but an iteration has ppo.prompts_per_iteration = 64"),
    ],
)
def test_a_divergence_that_cannot_be_steered_names_both_keys(changes: dict[str, Any], words: str) -> None:
    assert words in fault(ppo__kl_target=6.0, **{f"ppo__{key}": value for key, value in changes.items()})
    assert params.parse(changed(**{f"ppo__{key}": value for key, value in changes.items()})).ppo.kl_target is None


def test_a_reward_function_that_dvc_does_not_watch_is_refused() -> None:
    words = fault(ppo__reward_functions=[{"function": "mine:brief", "weight": 1.0}])
    assert "ppo.reward_functions names 'mine:brief', which is not below reward_functions" in words
    assert "ppo.reward_functions.0.function is 'os.system'" in fault(
        ppo__reward_functions=[{"function": "os.system", "weight": 1.0}]
    )


def test_something_must_be_rewarded() -> None:
    assert "so that nothing is rewarded" in fault(ppo__reward_model_weight=0.0)
    entry = {"function": "reward_functions.mine:brief", "weight": 1.0}
    assert params.parse(changed(ppo__reward_model_weight=0.0, ppo__reward_functions=[entry])).ppo.reward_functions


@pytest.mark.parametrize("key", ["pretraining__context", "finetuning__max_length", "reward_modeling__max_length"])
def test_a_length_beyond_the_model_names_both_keys(key: str) -> None:
    text = fault(**{key: 513}, model__context=512)
    assert f"{key.replace('__', '.')} is 513 but model.context is 512: lower the first or raise the second" in text


def test_lengths_beyond_the_model_are_said_together() -> None:
    text = fault(pretraining__context=600, finetuning__max_length=700)
    assert "pretraining.context is 600" in text
    assert "finetuning.max_length is 700" in text


def test_a_vocabulary_below_the_bytes_is_refused() -> None:
    assert "tokenization.vocab_size is 200" in fault(tokenization__vocab_size=200)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    assert "model.hidden_size is 130" in fault(model__hidden_size=130)


def test_heads_that_cannot_look_back_are_refused() -> None:
    assert "model.look_back asks 5 heads, but a layer has 4" in fault(model__look_back=[1, 1, 1, 1, 1])
    assert "set model.attention_bias to true" in fault(model__attention_bias=False, model__look_back=[1])
    assert "model.look_back" in fault(model__look_back=[0])


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


def test_a_floor_on_a_figure_that_does_not_exist_comes_with_the_one_that_was_meant() -> None:
    floors = [{"figure": "evaluation.exact_match", "at_least": 0.5}]
    words = fault(promotion__floors=floors)
    assert "there is no figure 'evaluation.exact_match'; did you mean evaluation.policy_exact_match?" in words


def test_a_floor_without_a_limit_is_refused() -> None:
    words = fault(promotion__floors=[{"figure": "ppo.kl"}])
    assert "promotion.floors: ppo.kl has no limit: give at_least or at_most" in words


def test_a_request_within_its_limits_that_never_finds_room_is_refused_with_all_keys() -> None:
    text = fault(serving__limits__queue=47)
    assert "serving.limits.choices x beams = 64 sequences but serving.slots + serving.limits.queue is 63" in text


def test_more_answers_of_one_request_than_slots_are_refused_with_both_keys() -> None:
    text = fault(serving__limits__choices=99)
    assert "serving.limits.choices is 99 but serving.slots is 16: lower the first or raise the second" in text


def test_a_schedule_with_seconds_is_refused_for_they_would_be_read_in_two_ways() -> None:
    assert "is no cron expression (it has not five fields)" in fault(schedule__retraining="0 0 3 * * 1")
    assert params.parse(changed(schedule__retraining="0 3 * * MON")).schedule.timezone == "UTC"


def test_requests_cannot_be_accepted_when_the_log_keeps_no_text() -> None:
    said = fault(retraining__accept_requests=True)
    assert "retraining.accept_requests is true but serving.log.text is false" in said
    assert params.parse(changed(retraining__accept_requests=True, serving__log__text=True)).retraining.accept_requests


@pytest.mark.parametrize("value", ["ten minutes", 600, 1e15, True, "20"])
def test_a_budget_that_cannot_be_read_is_named_with_the_forms_that_can(value: object) -> None:
    said = fault(pretraining__budget=value)
    assert f"pretraining.budget is {value!r}, which is no budget: write null, " in said
    assert '"10 minutes", "1e15 FLOPs" or "20 tokens/parameter"' in said


def test_a_budget_keeps_the_words_in_which_it_is_written() -> None:
    assert params.parse(changed(pretraining__budget="10 minutes")).pretraining.budget == "10 minutes"
    assert params.parse(VALUES).pretraining.budget is None


ENDPOINT = {"base_url": "http://127.0.0.1:8000/v1", "model": "judge"}


@pytest.mark.parametrize("who", ["judge", "writer"])
def test_a_judge_or_writer_who_lacks_what_it_asks_is_refused_with_both_keys(who: str) -> None:
    said = fault(**{f"feedback__constitution__{who}": "endpoint"})
    assert f"feedback.constitution.{who} is endpoint but feedback.constitution.endpoint is null" in said
    complete = {f"feedback__constitution__{who}": "endpoint", "feedback__constitution__endpoint": ENDPOINT}
    assert params.parse(changed(**complete)).feedback.constitution.endpoint.max_requests == 1000  # type: ignore[union-attr]
    said = fault(feedback__constitution__judge="reward_model")
    assert "judge is reward_model but feedback.constitution.reward_model is null" in said


@pytest.mark.parametrize("path", ["models/reward", "./models/reward/", "models/held_out_reward"])
def test_the_reward_model_that_learns_from_the_judge_is_not_the_judge(path: str) -> None:
    said = fault(feedback__constitution__reward_model=path)
    assert "a later stage makes of what this judge says" in said
    assert "copy the folder, to models/judge for instance" in said


@pytest.mark.parametrize(
    "changes",
    [
        {"base_url": "https://me:s3cr3t-Qx7@host/v1"},
        {"base_url": "https://host/v1?key=s3cr3t-Qx7"},
        {"base_url": "s3cr3t-Qx7"},
        {"token_environment": "s3cr3t-Qx7"},
        {"token_environment": "hf_s3cr3tQx7"},
    ],
)
def test_a_secret_where_an_address_or_a_name_belongs_is_refused_and_not_shown(changes: dict[str, str]) -> None:
    said = fault(feedback__constitution__endpoint=ENDPOINT | changes)
    assert f"feedback.constitution.endpoint.{next(iter(changes))} must be" in said
    assert "s3cr3t" not in said


@pytest.mark.parametrize("weight", [-0.5, float("inf"), float("nan")])
def test_a_task_has_a_weight_that_can_be_drawn_by(weight: float) -> None:
    assert "finetuning.task_weights.mood" in fault(finetuning__task_weights={"mood": weight})
    assert params.parse(changed(finetuning__task_weights={"mood": 0})).finetuning.task_weights == {"mood": 0}

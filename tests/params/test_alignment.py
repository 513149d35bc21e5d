"""Feedback, reward models and PPO, in params.yaml."""

from typing import Any

import pytest

from pipelines import params
from tests.params.changes import changed, fault

ENDPOINT = {"base_url": "http://127.0.0.1:8000/v1", "model": "judge"}


def test_somebody_has_to_be_left_to_learn_from() -> None:
    text = fault(feedback__annotators=2, feedback__held_out_annotators=["simulated-1", "simulated-2", "ann"])
    assert "feedback.held_out_annotators names all 2 simulated annotators" in text


def test_a_held_out_annotator_beyond_their_number_is_refused_at_once() -> None:
    text = fault(feedback__annotators=4, feedback__held_out_annotators=["simulated-5", "ann"])
    assert "feedback.held_out_annotators names simulated-5, but feedback.annotators is 4: name others" in text


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


@pytest.mark.parametrize("key", ["length_coefficient", "kl_coefficient", "ptx_coefficient", "unfinished_penalty"])
@pytest.mark.parametrize("weight", [-1.0, float("inf"), float("nan")])
def test_a_weight_of_ppo_is_a_finite_number_from_zero_on(key: str, weight: float) -> None:
    assert f"ppo.{key} is" in fault(**{f"ppo__{key}": weight})

"""Base and instruction model, in params.yaml."""

import pytest

from pipelines import params
from tests.params.changes import VALUES, changed, fault


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    assert "model.hidden_size is 130" in fault(model__hidden_size=130)


def test_heads_that_cannot_look_back_are_refused() -> None:
    assert "model.look_back asks 5 heads, but a layer has 4" in fault(model__look_back=[1, 1, 1, 1, 1])
    assert "set model.attention_bias to true" in fault(model__attention_bias=False, model__look_back=[1])
    assert "model.look_back" in fault(model__look_back=[0])


@pytest.mark.parametrize("objective", ["masked", "span_corruption"])
def test_a_context_of_which_nothing_can_be_hidden_and_shown_is_refused(objective: str) -> None:
    assert f"pretraining.context is 1, but pretraining.objective {objective} hides" in fault(
        pretraining__objective=objective, pretraining__context=1
    )
    for allowed in ({"context": 2, "objective": objective}, {"context": 1, "objective": "causal"}):
        values = changed(**{f"pretraining__{key}": value for key, value in allowed.items()})
        assert params.parse(values).pretraining.context == allowed["context"]


@pytest.mark.parametrize("value", ["ten minutes", 600, 1e15, True, "20"])
def test_a_budget_that_cannot_be_read_is_named_with_the_forms_that_can(value: object) -> None:
    said = fault(pretraining__budget=value)
    assert f"pretraining.budget is {value!r}, which is no budget: write null, " in said
    assert '"10 minutes", "1e15 FLOPs" or "20 tokens/parameter"' in said


def test_a_budget_keeps_the_words_in_which_it_is_written() -> None:
    assert params.parse(changed(pretraining__budget="10 minutes")).pretraining.budget == "10 minutes"
    assert params.parse(VALUES).pretraining.budget is None


@pytest.mark.parametrize("weight", [-0.5, float("inf"), float("nan")])
def test_a_task_has_a_weight_that_can_be_drawn_by(weight: float) -> None:
    assert "finetuning.task_weights.mood" in fault(finetuning__task_weights={"mood": weight})
    assert params.parse(changed(finetuning__task_weights={"mood": 0})).finetuning.task_weights == {"mood": 0}

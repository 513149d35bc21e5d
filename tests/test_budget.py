"""Budgets as they are written: what can be read is read as it was meant, and everything else is told what can."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import budget
from pipelines.budget import Budget
from pipelines.core.judging import budgets
from pipelines.errors import ParamsError

amounts = st.floats(min_value=1e-3, max_value=1e6)
units = st.sampled_from(["second", "seconds", "minute", "minutes", "hour", "hours", "day", "days"])


def written(amount: float) -> str:
    return f"{amount:.6g}"


@given(amounts, units)
def test_a_time_is_read_in_seconds_and_has_no_compute_without_a_speed(amount: float, unit: str) -> None:
    found = budget.parse(f"{written(amount)} {unit}")
    assert found.seconds == pytest.approx(float(written(amount)) * budget.SECONDS[unit.removesuffix("s")])
    assert found.compute is None
    assert not found.is_settled


@given(amounts, units, st.floats(min_value=1e3, max_value=1e18))
def test_a_time_with_a_speed_is_a_compute(amount: float, unit: str, speed: float) -> None:
    text = budget.at_speed(f"{written(amount)} {unit}", speed)
    found = budget.parse(text)
    assert found.is_settled
    assert found.compute == pytest.approx(found.seconds * speed, rel=0.006)  # type: ignore[operator]
    assert budget.at_speed(text, speed) == text


@given(amounts)
def test_operations_and_ratios_are_read_as_they_stand(amount: float) -> None:
    value = float(written(amount))
    assert budget.parse(f"{written(amount)} FLOPs") == Budget(flops=value)
    assert budget.parse(f"{written(amount)} tokens/parameter") == Budget(tokens_per_parameter=value)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("10 minutes", Budget(seconds=600)),
        ("1e15 FLOPs", Budget(flops=1e15)),
        ("20 tokens/parameter", Budget(tokens_per_parameter=20)),
        (" 1.5   hours at 2 TFLOP/s ", Budget(seconds=5400, flops_per_second=2e12)),
        ("1 minute at 128.5 GFLOP/s", Budget(seconds=60, flops_per_second=1.285e11)),
    ],
)
def test_the_forms_of_the_documentation(text: str, meant: Budget) -> None:
    assert budget.parse(text) == meant


@given(st.one_of(st.text(max_size=30), st.integers(), st.floats(), st.booleans(), st.lists(st.integers(), max_size=2)))
def test_anything_is_a_budget_or_is_told_the_forms(value: object) -> None:
    try:
        found = budget.parse(value)
    except ValueError as error:
        said = str(error)
    else:
        amount = found.seconds or found.flops or found.tokens_per_parameter
        said = f"pretraining.budget is fine: {budget.FORMS}" if amount and 0 < amount < math.inf else ""
    assert "pretraining.budget is" in said
    assert budget.FORMS in said or "give between 1e-06 and " in said


@pytest.mark.parametrize("text", ["10", "1e15", "10 min", "FLOPs", "-1 minutes", "10 minutes at 5 GFLOPs", "20 tokens"])
def test_what_is_nearly_a_budget_is_named_with_the_forms_that_are_right(text: str) -> None:
    with pytest.raises(ValueError, match=r'which is no budget: write null, "10 minutes", "1e15 FLOPs" or "20 tokens/'):
        budget.parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 minutes", "is 0 seconds: give between 1e-06 and 1e+12 in params.yaml"),
        ("1e999 FLOPs", "is inf FLOPs: give between 1e-06 and 1e+30"),
        ("1e308 FLOPs", "is 1e+308 FLOPs: give between"),
        ("1e-320 FLOPs", "FLOPs: give between"),
        ("0.0 tokens/parameter", "is 0 tokens/parameter: give between 1e-06 and 1e+09"),
        ("1e308 tokens/parameter", "is 1e+308 tokens/parameter: give between"),
        ("5 days at 0 GFLOP/s", "is 0 FLOP/s: give between 1e-06 and 1e+24"),
        ("1e12 seconds at 1e20 FLOP/s", "is 1e+32 FLOPs: give between"),
        ("1e-6 seconds at 0.1 FLOP/s", "is 1e-07 FLOPs: give between"),
    ],
)
def test_an_amount_beyond_any_reason_is_refused_with_the_bounds(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"pretraining.budget is {text!r}, which ")) as caught:
        budget.parse(text)
    assert words in str(caught.value)


@pytest.mark.parametrize("unit", budget.MOST)
def test_the_bounds_come_to_a_number_of_tokens_or_are_too_little_for_a_step(unit: str) -> None:
    forms = {"seconds": "{:g} seconds at 1 MFLOP/s", "FLOP/s": "1 second at {:g} FLOP/s"}

    def tokens(amount: float, parameters: int) -> int:
        text = forms.get(unit, f"{{:g}} {unit}").format(amount)
        return budgets.pretraining_tokens(text, max_tokens=1, parameters=parameters, step_tokens=2048)

    assert tokens(budget.MOST[unit], 10**13) >= 2048
    with pytest.raises(ParamsError, match="raise the budget at least"):
        tokens(budget.LEAST, 1)

"""Budgets that are settled on this machine: what is chosen, and how it is written."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flows.planning import budgeting, scaling
from flows.planning.budgeting import Choice
from flows.planning.speed import Speed
from flows.workspaces import folders
from pipelines import stage
from pipelines.core.judging import budgets, sizes
from pipelines.core.judging.scaling import CHINCHILLA
from pipelines.errors import ParamsError
from pipelines.params import Model, Params
from tests.flows.examples import ROOT

KNOWN = scaling.Known(law=CHINCHILLA, source="the law of this test")


def params(**pretraining: Any) -> Params:
    found = stage.load_params(ROOT / "params.yaml")
    return found.model_copy(update={"pretraining": found.pretraining.model_copy(update=pretraining)})


class Machine:
    """One that trains large models in proportion faster, as small ones are all overhead."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, asked: Params, shape: Model) -> Speed:
        size = sizes.parameters(shape, asked.tokenization.vocab_size)
        self.asked.append(size)
        flops = 2e11 * size / (size + 1e6)
        return Speed(parameters=size, tokens_per_second=flops / 6 / size, flops_per_second=flops)


def shape_of(choice: Choice, before: Params) -> Model:
    return before.model.model_copy(update=dict(choice.changes["model"]))


def test_a_time_gets_the_speed_of_the_model_as_it_is() -> None:
    before = params(budget="10 minutes")
    choice = budgeting.chosen(before, "tokens", KNOWN, machine := Machine())
    assert choice.changes == {"pretraining": {"budget": "10 minutes at 89 GFLOP/s"}}
    assert machine.asked == [sizes.parameters(before.model, 1536)]


def test_a_size_for_a_time_is_the_laws_at_the_speed_of_that_size() -> None:
    before = params(budget="10 minutes")
    choice = budgeting.chosen(before, "size", KNOWN, machine := Machine())
    size = sizes.parameters(shape_of(choice, before), 1536)
    assert machine.asked[-1] == size
    after = before.pretraining.model_copy(update=choice.changes["pretraining"])
    tokens = budgets.pretraining_tokens(after.budget, max_tokens=1, parameters=size, step_tokens=2048)
    assert tokens / size == pytest.approx(20, rel=0.25)
    speed = Machine()(before, shape_of(choice, before))
    assert tokens / speed.tokens_per_second == pytest.approx(600, rel=0.01)
    assert "the law of this test" in choice.reason


def test_a_size_for_operations_measures_nothing() -> None:
    before = params(budget="1e15 FLOPs")
    choice = budgeting.chosen(before, "size", KNOWN, machine := Machine())
    assert sizes.parameters(shape_of(choice, before), 1536) == pytest.approx(math.sqrt(1e15 / 120), rel=0.2)
    assert choice.changes["pretraining"] == {"budget": "1e15 FLOPs"}
    assert not machine.asked


def test_without_a_budget_the_size_is_for_the_operations_that_are_planned() -> None:
    before = params()
    choice = budgeting.chosen(before, "size", KNOWN, Machine())
    size = sizes.parameters(shape_of(choice, before), 1536)
    assert 6 * size * choice.changes["pretraining"]["max_tokens"] == pytest.approx(scaling.planned_flops(before))


@pytest.mark.parametrize(
    ("what", "changes", "words"),
    [
        ("tokens", {}, "pretraining.budget is null, which needs none"),
        ("tokens", {"budget": "1e15 FLOPs"}, "pretraining.budget is '1e15 FLOPs', which needs none"),
        ("size", {"budget": "20 tokens/parameter"}, "but pretraining.budget is '20 tokens/parameter'"),
        ("size", {"init": "models/mine"}, "but pretraining.init is 'models/mine'"),
    ],
)
def test_where_nothing_can_be_chosen_that_is_said(what: budgeting.What, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ParamsError, match=r"^--apply") as caught:
        budgeting.chosen(params(**changes), what, KNOWN, Machine())
    assert words in str(caught.value)


CHANGES = {"model": {"hidden_size": 64, "look_back": [1]}, "pretraining": {"budget": "10 minutes at 5 GFLOP/s"}}
CHOICE = Choice(changes=CHANGES, reason="for a reason")


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_only_the_lines_of_the_choice_change_and_the_reason_stands_beside(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    before = lines(path)
    fresh = budgeting.write(path, CHOICE, params())
    changed = [new for old, new in zip(before, lines(path), strict=True) if old != new]
    assert changed == [
        "  hidden_size: 64",
        '  budget: "10 minutes at 5 GFLOP/s"  # moteur plan: for a reason',
    ]
    assert stage.load_params(path) == fresh
    budgeting.write(path, CHOICE, fresh)
    assert lines(path).count('  budget: "10 minutes at 5 GFLOP/s"  # moteur plan: for a reason') == 1


def test_a_profile_gets_the_keys_and_sections_that_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("# mine\npretraining:\n  # tokens\n  max_tokens: 5\n# end\nseed: 3\n", encoding="utf-8")
    budgeting.write(path, CHOICE, params())
    assert yaml.safe_load(path.read_text(encoding="utf-8")) == {
        **CHANGES,
        "pretraining": {"max_tokens": 5, **CHANGES["pretraining"]},
        "seed": 3,
    }
    assert "# tokens" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["pretraining: {budget: 10 minutes}\n", "pretraining:\n    budget: 10 minutes\n"])
def test_a_file_that_is_written_in_another_way_is_left_and_the_lines_are_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ParamsError, match="nothing was written: put in by hand") as caught:
        budgeting.write(path, CHOICE, params())
    assert "pretraining.budget: 10 minutes at 5 GFLOP/s" in str(caught.value)
    assert path.read_text(encoding="utf-8") == text


def test_the_params_of_a_workspace_that_a_profile_makes_are_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    folders._write_params(path, params().model_dump())
    with pytest.raises(ParamsError, match="give --profile FILE too"):
        budgeting.write(path, CHOICE, params())


@given(st.dictionaries(st.sampled_from(["budget", "max_tokens", "other"]), st.text("ab: #'\"", max_size=6), max_size=3))
def test_any_text_written_as_a_value_is_read_back(values: dict[str, str]) -> None:
    text = "pretraining:\n  kept: 1\nlast: 2\n"
    for key, value in values.items():
        text = budgeting.with_value(text, "pretraining", key, value, "  # said")
    assert yaml.safe_load(text) == {"pretraining": {"kept": 1, **values}, "last": 2}

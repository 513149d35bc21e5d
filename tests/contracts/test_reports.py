"""What a stage reports can be written, and holds the keys that others rely on."""

import ast
import dataclasses
import importlib
import typing

import pytest

from flows.reporting import shapes
from flows.stages import figures
from pipelines import params
from tests.contracts import source
from tests.contracts.test_graph import STAGES, module

PLAIN = {int, float, str, bool, type(None), dict, list, tuple}

PROMISED = {
    "data_validation": "num_documents num_rejected rejected_by_reason expectations_met expectations_total",
    "tokenization": "vocab_size bytes_per_token round_trip_errors mask_audit_errors",
    "pretraining": "val_bits_per_byte num_parameters num_tokens training_flops petaflop_s_days tokens_per_parameter",
    "finetuning": "exact_match exact_match_story_removed rouge_l forgetting trainable_parameters",
    "feedback": "num_rankings num_pairs num_ties num_failed annotator_agreement best_reachable_accuracy",
    "reward_modeling": (
        "held_out_accuracy held_out_accuracy_low held_out_accuracy_high expected_calibration_error"
        " similar_length_accuracy"
    ),
    "ppo": "reward_before reward_after gold_before gold_after kl mean_length_before mean_length_after",
    "compression": "candidates chosen",
}


def report_class(stage: str) -> str:
    """The class that the stage's `main` returns, by its annotation."""
    for node in source.tree(module(stage)).body:
        if isinstance(node, ast.FunctionDef) and node.name == "main":
            assert node.returns is not None
            return ast.unparse(node.returns)
    raise AssertionError(f"{module(stage)} has no main")


def fields(stage: str) -> dict[str, object]:
    found = getattr(importlib.import_module(f"pipelines.{stage}"), report_class(stage))
    assert dataclasses.is_dataclass(found)
    assert found.__dataclass_params__.frozen  # type: ignore[attr-defined]
    return typing.get_type_hints(found)


def serialisable(hint: object) -> bool:
    if hint in PLAIN or hint is typing.Any:
        return True
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return all(serialisable(inner) for inner in typing.get_type_hints(hint).values())
    if typing.get_origin(hint) is typing.Literal:
        return True
    inner = [item for item in typing.get_args(hint) if item is not Ellipsis]
    return bool(inner) and all(serialisable(item) for item in inner)


@pytest.mark.parametrize("stage", STAGES)
def test_every_field_of_a_report_can_be_written_as_json(stage: str) -> None:
    assert not {name: hint for name, hint in fields(stage).items() if not serialisable(hint)}


@pytest.mark.parametrize("stage", sorted(PROMISED))
def test_a_report_holds_the_promised_keys(stage: str) -> None:
    assert set(PROMISED[stage].split()) <= set(fields(stage))


@pytest.mark.parametrize("stage", STAGES)
def test_the_figures_of_the_closing_table_are_fields_of_the_report(stage: str) -> None:
    found = getattr(importlib.import_module(f"pipelines.{stage}"), report_class(stage))
    kinds = [found, *found.__subclasses__()]
    assert {field for field, _, _ in figures.FIGURES[stage]} <= {
        name for kind in kinds for name in vars(kind)["__dataclass_fields__"]
    }


def test_what_a_floor_of_the_gate_may_name_is_a_number_in_a_report() -> None:
    numbers = (float, int, float | None, int | None)
    named = [figure.split(".") for figure in typing.get_args(params.Figure)]
    assert {stage for stage, _ in named} <= {*STAGES, "exam"}
    assert not [f"{stage}.{field}" for stage, field in named if stage != "exam" and fields(stage)[field] not in numbers]


@pytest.mark.parametrize("stage", sorted(shapes.SHAPES))
def test_what_the_page_reads_is_in_the_report_and_of_that_kind(stage: str) -> None:
    found = getattr(importlib.import_module(f"pipelines.{stage}"), report_class(stage))
    written: dict[str, object] = {}
    for kind in (found, *found.__subclasses__()):
        written |= typing.get_type_hints(kind)
    assert not list(unlike(shapes.SHAPES[stage], written))


def unlike(shape: typing.Any, written: dict[str, object]) -> typing.Iterator[str]:
    """The fields that a shape reads and a report does not write, those of its parts too."""
    for name, read in typing.get_type_hints(shape).items():
        if name not in written:
            yield name
            continue
        parts = {part.__name__: part for part in classes(written[name])}
        for inner in classes(read):
            if inner.__name__ in parts:
                yield from (f"{name}.{field}" for field in unlike(inner, typing.get_type_hints(parts[inner.__name__])))


def classes(hint: object) -> list[typing.Any]:
    """The dataclasses and typed dictionaries inside a type."""
    if isinstance(hint, type) and (dataclasses.is_dataclass(hint) or hasattr(hint, "__total__")):
        return [hint]
    return [found for item in typing.get_args(hint) for found in classes(item)]

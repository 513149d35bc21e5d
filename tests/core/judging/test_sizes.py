"""Shapes of another size."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import stage
from pipelines.core.judging import sizes
from pipelines.params import Model

SHAPE = stage.load_params(Path(__file__).parents[3] / "params.yaml").model
VOCABULARY = 1536


@given(st.floats(math.log(2e4), math.log(1e11)))
def test_the_size_is_near_what_was_wanted_and_the_shape_is_valid(log_wanted: float) -> None:
    wanted = math.exp(log_wanted)
    found = sizes.resized(SHAPE, wanted, VOCABULARY)
    assert 0.7 < sizes.parameters(found, VOCABULARY) / wanted < 1.4
    assert Model.model_validate(found.model_dump()) == found


def test_its_own_size_gives_the_shape_itself() -> None:
    assert sizes.resized(SHAPE, sizes.parameters(SHAPE, VOCABULARY), VOCABULARY) == SHAPE


def test_proportions_are_kept() -> None:
    large = sizes.resized(SHAPE, 1e9, VOCABULARY)
    assert large.hidden_size / large.num_layers == pytest.approx(SHAPE.hidden_size / SHAPE.num_layers, rel=0.02)
    assert large.intermediate_size / large.hidden_size == pytest.approx(2.75, rel=0.02)
    assert large.hidden_size / large.num_heads == pytest.approx(32, rel=0.02)


def test_no_model_is_smaller_than_its_embeddings() -> None:
    least = sizes.resized(SHAPE, 1.0, VOCABULARY)
    assert least.hidden_size == sizes.GRAIN
    assert sizes.parameters(least, VOCABULARY) > VOCABULARY * sizes.GRAIN


def test_a_shape_with_fewer_heads_looks_back_with_as_many() -> None:
    shape = SHAPE.model_copy(update={"look_back": [1, 2, 3]})
    small = sizes.resized(shape, 5e4, VOCABULARY)
    assert small.num_heads == 1
    assert small.look_back == [1]

"""YAML that people write."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipelines.adapters import yaml_text


@pytest.mark.parametrize(
    "written", ["1e-5", "1E5", "+3e-4", "-2e3", "1.5e3", ".5e3", "2.e4", "1.0e-5", "12", "0.5", "-.5"]
)
def test_a_number_is_a_number_however_it_is_written(written):
    assert yaml_text.load(f"rate: {written}") == {"rate": float(written)}


@pytest.mark.parametrize("written", ["e5", "1e", "1-e5", "v1e5", "1e5x", "0x1e5z", "'1e5'", "1e5.0"])
def test_what_is_no_number_stays_text(written):
    assert yaml_text.load(f"name: {written}") == {"name": written.strip("'")}


@given(st.recursive(st.floats(allow_nan=False) | st.text() | st.integers(), st.lists, max_leaves=5))
def test_what_the_library_writes_is_read_back(value):
    assert yaml_text.load(yaml.safe_dump({"value": value})) == {"value": value}


def test_a_key_twice_is_an_error_that_names_key_and_line():
    with pytest.raises(yaml.YAMLError, match=r"(?s)epochs is there twice.*line 3"):
        yaml_text.load("ppo:\n  epochs: 1\n  epochs: 2\n")


def test_the_same_key_in_two_sections_or_over_a_merged_one_is_none():
    text = "base: &base {epochs: 1}\nppo:\n  <<: *base\n  epochs: 2\nother: {epochs: 3}\n"
    assert yaml_text.load(text)["ppo"] == {"epochs": 2}

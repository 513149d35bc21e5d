"""Figures are written as people read them."""

import pytest

from flows.stages import figures


@pytest.mark.parametrize(
    ("value", "text"), [(9.95, "9.9 s"), (59.96, "1 min 00 s"), (75, "1 min 15 s"), (3725, "1 h 02 min")]
)
def test_durations_read_well(value: float, text: str) -> None:
    assert figures.duration(value) == text


def test_the_agreement_of_a_constitution_is_told_where_there_is_one() -> None:
    told = {"constitution": {"agreement": {"human": {"accuracy": 0.7126}, "simulated": {"accuracy": 0.5}}}}
    assert figures.sentence("feedback", told) == "constitution agrees 0.713 (human), 0.500 (simulated)"
    assert figures.sentence("feedback", {"constitution": None}) == ""

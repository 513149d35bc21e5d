import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.text.profile import WordCounts, distribution, profile
from pipelines.core.text.tally import Tally
from pipelines.core.text.words import split_words


def distribution_of(values: Sequence[float]) -> dict[str, Any]:
    tally = Tally()
    tally.add(np.array(values))
    return distribution(tally)


def test_words_of_unwanted_texts_are_not_counted() -> None:
    counts = WordCounts()
    counts.add(split_words(["a b a", "c c c", "A d"]), np.array([True, False, True]))
    counts.add(split_words(["b b b b"]), np.array([True]))
    assert counts.top() == pytest.approx({"b": 5 / 9, "a": 3 / 9, "d": 1 / 9}, rel=1e-5)
    assert list(counts.top(2)) == ["b", "a"]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_the_bins_hold_every_value_and_edges_ascend(values: list[float]) -> None:
    found = distribution_of(values)
    assert sum(found["shares"]) == pytest.approx(1, abs=1e-4)
    assert all(left < right for left, right in zip(found["edges"], found["edges"][1:], strict=False))
    assert len(found["edges"]) == len(found["shares"]) + 1
    json.dumps(found, allow_nan=False)


def test_quantiles_are_known() -> None:
    found = distribution_of(range(101))
    assert found["quantiles"]["0.5"] == 50
    assert found["quantiles"]["0.95"] == 95
    assert (found["min"], found["max"], found["mean"]) == (0, 100, 50)


def test_a_constant_descriptor_has_one_bin() -> None:
    assert distribution_of([0.0] * 5)["shares"] == [1]


def test_no_records_have_an_empty_profile() -> None:
    assert profile(0, {}, WordCounts()) == {"records": 0, "words": 0, "descriptors": {}, "top_words": {}}


def test_rare_words_are_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.core.text import profile as module

    monkeypatch.setattr(module, "MOST_TYPES", 10)
    counts = WordCounts()
    for start in range(0, 40, 4):
        text = " ".join(["often again", *(f"rare{number}" for number in range(start, start + 4))])
        counts.add(split_words([text]), np.array([True]))
    assert len(counts.top()) <= 10
    assert list(counts.top(2)) == ["again", "often"]
    assert counts.total == 60

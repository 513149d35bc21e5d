import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.text import tally as module
from pipelines.core.text.tally import Tally, quantiles

LEVELS = np.linspace(0, 1, 21)


@given(st.lists(st.lists(st.integers(-5, 5), max_size=8), min_size=1, max_size=8).filter(any))
def test_quantiles_of_a_tally_are_those_of_its_values_to_the_last_bit(parts: list[list[int]]) -> None:
    tally = Tally()
    for part in parts:
        tally.add(np.array(part, dtype=np.float32) / 7)
    every = np.concatenate([np.array(part, dtype=np.float32) / 7 for part in parts]).astype(np.float64)
    assert quantiles(*tally.counted(), LEVELS).tolist() == np.quantile(every, LEVELS).tolist()


def test_values_are_merged_when_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_PENDING", 10)
    rng = np.random.default_rng(1)
    parts = [rng.integers(0, 30, 7) for _ in range(40)]
    tally = Tally()
    for part in parts:
        tally.add(part)
    values, counts = tally.counted()
    expected = np.unique(np.concatenate(parts), return_counts=True)
    assert (values.tolist(), counts.tolist()) == (expected[0].tolist(), expected[1].tolist())

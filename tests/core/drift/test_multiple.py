"""Many tests at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.drift import multiple

p_values = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@settings(deadline=None)
@given(p_values)
def test_adjusting_never_lowers_a_p_value_and_the_alarm_is_never_softer_than_the_report(values):
    for raw, alarm, report in zip(
        values, multiple.bonferroni(values), multiple.benjamini_hochberg(values), strict=True
    ):
        assert raw <= report + 1e-12
        assert report <= alarm + 1e-12
        assert alarm <= 1


def test_known_answers():
    assert multiple.bonferroni([0.01, 0.4]) == [0.02, 0.8]
    assert multiple.benjamini_hochberg([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.04, 0.04])
    assert multiple.benjamini_hochberg([]) == []
    assert np.isfinite(multiple.bonferroni([0.0])).all()

"""Charts: what is drawn is what was measured."""

import re

import pytest

from flows.reporting import charts
from flows.reporting.charts import Series


def bars(drawn: str) -> list[tuple[float, float]]:
    """Upper edge and height of each bar; the marks of the legend have no title."""
    edges = re.findall(r'<rect [^>]*? y="([0-9.]+)" [^>]*?height="([0-9.]+)"[^>]*><title>', drawn)
    return [(float(y), float(height)) for y, height in edges]


def test_a_loss_hangs_from_zero_and_a_gain_stands_on_it() -> None:
    (top, up), (zero, down) = bars(charts.bar_chart({"a": {"gain": 2.0}, "b": {"gain": -1.0}}, "gain"))
    assert top + up == zero
    assert abs(up - 2 * down) < 0.2


def test_bars_of_gains_alone_begin_at_the_bottom() -> None:
    edges = {round(top + height, 1) for top, height in bars(charts.bar_chart({"a": {"x": 1.0, "y": 3.0}}, "score"))}
    assert edges == {charts.HEIGHT - charts.BOTTOM}


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0.21, 0.29, [0.2, 0.22, 0.24, 0.26, 0.28, 0.3]), (3, 3, None), (-5, 5, None)],
)
def test_ticks_are_round_and_reach_around(low: float, high: float, expected: list[float] | None) -> None:
    found = charts.ticks(low, high)
    assert found[0] <= low
    assert found[-1] >= high
    assert 2 <= len(found) <= 9
    assert expected is None or found == expected


def test_a_curve_of_one_point_and_a_flat_one_can_be_drawn() -> None:
    for points in ([(1.0, 2.0)], [(0.0, 0.0), (1.0, 0.0)]):
        assert "NaN" not in charts.line_chart([Series(name="x", points=points)], "step", "loss")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1e4, 1e6, [1e4, 3e4, 1e5, 3e5, 1e6]),
        (2.4e4, 1.9e5, [3e4, 5e4, 1e5]),
        (1e9, 1e20, [1e9, 1e11, 1e13, 1e15, 1e17, 1e19]),
    ],
)
def test_ticks_of_a_logarithmic_axis_are_round(low, high, expected):
    assert charts.log_ticks(low, high) == pytest.approx(expected)


def test_equal_ratios_are_equally_far_on_a_logarithmic_axis():
    points = [(1e3, 1.0), (1e4, 2.0), (1e5, 3.0)]
    drawn = charts.line_chart([Series(name="one", points=points, bare=True)], "x", "y", logarithmic="x")
    places = [float(part.split('"')[0]) for part in drawn.split('cx="')[1:]]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.11)
    assert "polyline" not in drawn

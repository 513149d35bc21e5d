"""Charts: what is drawn is what was measured."""

import re

from flows.reporting import charts


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

"""Charts of the page on drift, as inline SVG in the style of `flows.reporting.charts`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from flows.reporting.charts import Point

WIDTH, HEIGHT, MARGIN = 760, 460, 18
LABEL_HEIGHT = 15


def map_chart(reference: Sequence[Point], window: Sequence[Point], clusters: Sequence[Mapping[str, Any]]) -> str:
    """Old documents in grey, new ones in colour, the clusters named where they lie."""
    scale = _Scale([*reference, *window])
    dots = "".join(_dot(scale, point, "old") for point in reference) + "".join(
        _dot(scale, point, "new") for point in window
    )
    labels = _labels([(scale.x(c["place"][0]), scale.y(c["place"][1]), _label(c), _grew(c)) for c in clusters])
    legend = (
        f'<circle class="old" cx="{MARGIN + 6}" cy="{HEIGHT - 12}" r="4"/>'
        f'<text class="tick" x="{MARGIN + 16}" y="{HEIGHT - 8}">reference</text>'
        f'<circle class="new" cx="{MARGIN + 96}" cy="{HEIGHT - 12}" r="4"/>'
        f'<text class="tick" x="{MARGIN + 106}" y="{HEIGHT - 8}">what was looked at</text>'
    )
    return _svg(HEIGHT, dots + labels + legend, "old and new documents on their two main axes")


def _label(cluster: Mapping[str, Any]) -> str:
    return f"{cluster['name']}  {100 * cluster['reference_share']:.0f} → {100 * cluster['window_share']:.0f} %"


def _grew(cluster: Mapping[str, Any]) -> bool:
    return bool(cluster["window_share"] > 1.25 * cluster["reference_share"] + 0.01)


@dataclass(frozen=True)
class _Axis:
    """From a value to a share of the way."""

    low: float
    high: float

    def __call__(self, value: float) -> float:
        return min(max((value - self.low) / (self.high - self.low or 1.0), 0.0), 1.0)


class _Scale:
    """Places of points: what lies far outside is drawn at the border, so that a few do not squeeze all others."""

    def __init__(self, points: Sequence[Point]) -> None:
        self._across, self._up = (_axis([point[axis] for point in points]) for axis in (0, 1))

    def x(self, value: float) -> float:
        return MARGIN + self._across(value) * (WIDTH - 2 * MARGIN)

    def y(self, value: float) -> float:
        return HEIGHT - 2 * MARGIN - self._up(value) * (HEIGHT - 3 * MARGIN)


def _axis(values: Sequence[float]) -> _Axis:
    ordered = sorted(values)
    cut = len(ordered) // 100
    return _Axis(ordered[cut], ordered[-1 - cut])


def _dot(scale: _Scale, point: Point, kind: str) -> str:
    return f'<circle class="{kind}" cx="{scale.x(point[0]):.1f}" cy="{scale.y(point[1]):.1f}" r="3"/>'


def _labels(wanted: Sequence[tuple[float, float, str, bool]]) -> str:
    """Labels at their places, moved down where they would cover another."""
    placed: list[tuple[float, float, float]] = []
    body = ""
    for x, y, text, grew in sorted(wanted, key=lambda item: item[1]):
        wide = 6.6 * len(text) + 14
        left = min(max(x - wide / 2, 4.0), WIDTH - wide - 4)
        top = y - LABEL_HEIGHT
        while any(
            abs(top - other) < LABEL_HEIGHT + 6 and left < end and start < left + wide for other, start, end in placed
        ):
            top += LABEL_HEIGHT / 2
        placed.append((top, left, left + wide))
        body += (
            f'<rect class="{"tag grew" if grew else "tag"}" x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}"'
            f' height="{LABEL_HEIGHT + 4}" rx="8"/>'
            f'<text class="tagtext" x="{left + wide / 2:.1f}" y="{top + 13.5:.1f}" text-anchor="middle">'
            f"{escape(text)}</text>"
        )
    return body


ROW, NAME, BAR, WORDS_WIDTH = 20, 110, 330, 560


def words_chart(words: Sequence[Mapping[str, Any]]) -> str:
    """A pair of bars a word: the share of documents that hold it, before and now."""
    top = max((max(item["reference_share"], item["window_share"]) for item in words), default=0) or 1.0
    body = ""
    for number, item in enumerate(words):
        y = number * ROW + 4
        old, new = (BAR * item[key] / top for key in ("reference_share", "window_share"))
        colour = "up" if item["score"] > 0 else "down"
        body += (
            f'<text class="word" x="{NAME - 8}" y="{y + 12}" text-anchor="end">{escape(str(item["word"])[:18])}</text>'
            f'<rect class="before" x="{NAME}" y="{y + 9}" width="{max(old, 1):.1f}" height="5" rx="2"/>'
            f'<rect class="{colour}" x="{NAME}" y="{y + 2}" width="{max(new, 1):.1f}" height="7" rx="2"/>'
            f'<text class="tick" x="{NAME + max(old, new, 1) + 6:.1f}" y="{y + 12}">'
            f"{100 * item['reference_share']:.1f} → {100 * item['window_share']:.1f} %</text>"
        )
    return _svg(len(words) * ROW + 8, body, "share of documents that hold a word, before and now", WORDS_WIDTH)


CELL_HEIGHT, CELLS_LEFT = 26, 112


def timeline_chart(windows: Sequence[Mapping[str, Any]], tests: Sequence[str]) -> str:
    """A cell for each window and test: the effect over the reference's own variation, stronger the further above 1."""
    step = min(64.0, (WIDTH - CELLS_LEFT - 8) / max(len(windows), 1))
    body = ""
    for row, test in enumerate(tests):
        y = row * CELL_HEIGHT + 20
        body += f'<text class="tick" x="{CELLS_LEFT - 8}" y="{y + 16}" text-anchor="end">{escape(test)}</text>'
        for place, window in enumerate(windows):
            body += _cell(window, test, CELLS_LEFT + step * place, y, step)
    for place, window in enumerate(windows):
        x = CELLS_LEFT + step * (place + 0.5)
        mark = {"differs": "differs", "same": "same"}.get(window["outcome"], "silent")
        body += f'<circle class="{mark}" cx="{x:.1f}" cy="9" r="5"><title>{escape(_told(window))}</title></circle>'
        if step >= 30 or place in (0, len(windows) - 1):
            name = str(window["name"]).rpartition(" ")[2]
            body += (
                f'<text class="tick" x="{x:.1f}" y="{len(tests) * CELL_HEIGHT + 36}" text-anchor="middle">'
                f"{escape(name)}</text>"
            )
    return _svg(len(tests) * CELL_HEIGHT + 44, body, "effect over own variation by window and test")


def _cell(window: Mapping[str, Any], test: str, x: float, y: float, step: float) -> str:
    ratio = window["ratios"].get(test)
    strength = 0.0 if ratio is None else min(max(ratio - 0.6, 0.0) / 3, 1.0)
    text = "" if ratio is None or step < 30 else f"{ratio:.1f}"
    told = f"{window['name']}, {test}: " + ("not measured" if ratio is None else f"{ratio:.2f} times its own variation")
    return (
        f'<rect class="cell" x="{x + 1:.1f}" y="{y + 1}" width="{step - 2:.1f}" height="{CELL_HEIGHT - 2}" rx="4"/>'
        f'<rect class="heat" x="{x + 1:.1f}" y="{y + 1}" width="{step - 2:.1f}" height="{CELL_HEIGHT - 2}" rx="4"'
        f' style="opacity:{strength:.2f}"><title>{escape(told)}</title></rect>'
        f'<text class="tick" x="{x + step / 2:.1f}" y="{y + 17}" text-anchor="middle">{text}</text>'
    )


def _told(window: Mapping[str, Any]) -> str:
    began = f", from {window['began']}" if window.get("began") else ""
    return f"{window['name']}: {window['documents']:,} documents{began}: {window['outcome']}"


def _svg(height: float, body: str, label: str, width: float = WIDTH) -> str:
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">{body}</svg>'

"""Charts as inline SVG: no script, no request, colours from the page's CSS variables, so that they follow its theme."""

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from flows.stages import figures
from flows.stages.graph import Graph

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a chart."""

    name: str
    points: Sequence[Point]
    colour: int = 1
    """Number of the CSS variable --c1 to --c5."""
    marks: bool = False
    """Draw the points too."""
    dashed: bool = False
    """A fit or a reference beside the line of the same name: without an entry of its own in the legend."""
    bare: bool = False
    """Marks without the line between them."""


WIDTH, HEIGHT = 520, 260
LEFT, RIGHT, TOP, BOTTOM = 66, 14, 14, 40
LETTER = 6.4
"""Width of a letter, about."""


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """The plot area with its two scales."""

    low: Point
    high: Point
    logarithmic: str = ""
    """Which axes are: "", "x", "y" or "xy"."""

    def x(self, value: float) -> float:
        return LEFT + self._share(value, 0, "x") * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - self._share(value, 1, "y") * (HEIGHT - TOP - BOTTOM)

    def _share(self, value: float, axis: int, name: str) -> float:
        low, high = self.low[axis], self.high[axis]
        if name in self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return (value - low) / (high - low or 1)


def line_chart(
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    mark: tuple[float, str] | None = None,
    *,
    logarithmic: str = "",
) -> str:
    """Lines over two axes, with a legend when there is more than one line.

    `mark` is a place on the horizontal axis and what is there; `logarithmic` names the axes that are: "x" or "xy".
    """
    points = [point for line in series for point in line.points]
    low_x, high_x = _ends([x for x, _ in points], widened="x" in logarithmic)
    low_y, high_y = _ends([y for _, y in points], widened="y" in logarithmic)
    ticks_x = log_ticks(low_x, high_x) if "x" in logarithmic else ticks(low_x, high_x)
    ticks_y = log_ticks(low_y, high_y) if "y" in logarithmic else ticks(low_y, high_y)
    if "y" not in logarithmic:
        low_y, high_y = ticks_y[0], ticks_y[-1]
    frame = _Frame(low=(low_x, low_y), high=(high_x, high_y), logarithmic=logarithmic)
    inside = [tick for tick in ticks_x if frame.low[0] <= tick <= frame.high[0]]
    body = _axes(frame, inside, ticks_y, x_label, y_label)
    for line in series:
        path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in line.points)
        dash = ";stroke-dasharray:5 4;opacity:.6" if line.dashed else ""
        if not line.bare:
            body += f'<polyline class="line" points="{path}" style="stroke:var(--c{line.colour}){dash}"/>'
        if line.marks or line.bare or len(line.points) == 1:
            body += "".join(
                f'<circle cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="3" style="fill:var(--c{line.colour})">'
                f"<title>{escape(line.name)}: {x:.4g}, {y:.4g}</title></circle>"
                for x, y in line.points
            )
    if mark:
        body += _mark(frame, *mark)
    named = list(dict.fromkeys((line.name, line.colour) for line in series if not line.dashed))
    label = f"{y_label} over {x_label}"
    return _with_legend(WIDTH, body, named, label) if len(named) > 1 else _svg(WIDTH, HEIGHT, body, label)


def _mark(frame: _Frame, value: float, text: str) -> str:
    x = frame.x(value)
    side, anchor = (-5, "end") if x > WIDTH / 2 else (5, "start")
    return (
        f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP + 12}" y2="{HEIGHT - BOTTOM}"/>'
        f'<text class="tick" x="{x + side:.1f}" y="{HEIGHT - BOTTOM - 6}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def bar_chart(groups: Mapping[str, Mapping[str, float]], y_label: str) -> str:
    """Bars in groups (task) of names (model); the same name has the same colour in each group. From 0 up or down."""
    names = list(dict.fromkeys(name for bars in groups.values() for name in bars))
    values = [0.0, *(value for bars in groups.values() for value in bars.values())]
    scale = ticks(min(values), max(values))
    width = max(WIDTH, LEFT + RIGHT + len(groups) * (26 * len(names) + 34))
    step = (width - LEFT - RIGHT) / len(groups)
    bar = min(26.0, (step - 16) / len(names))
    frame = _Frame(low=(0, scale[0]), high=(1, scale[-1]))
    zero = frame.y(0)
    body = _grid(frame, scale, width) + _label_y(y_label)
    for place, (group, bars) in enumerate(groups.items()):
        start = LEFT + step * place + (step - bar * len(bars)) / 2
        for number, (name, value) in enumerate(bars.items()):
            x, y = start + bar * number, frame.y(value)
            above, below = min(y, zero), max(y, zero)
            body += (
                f'<rect x="{x + 1:.1f}" y="{above:.1f}" width="{bar - 2:.1f}" height="{below - above:.1f}" rx="2"'
                f' style="fill:var(--c{names.index(name) % 5 + 1})"><title>{escape(group)}, {escape(name)}:'
                f" {value:.3f}</title></rect>"
                f'<text class="tiny" x="{x + bar / 2:.1f}" y="{y - 4 if value >= 0 else y + 11:.1f}"'
                f' text-anchor="middle">{_bar_text(value)}</text>'
            )
        body += _wrapped(group, LEFT + step * (place + 0.5), HEIGHT - BOTTOM + 16, int(step / LETTER))
    return _with_legend(width, body, [(name, number % 5 + 1) for number, name in enumerate(names)], y_label)


def _bar_text(value: float) -> str:
    return f"{value:.2f}".replace("0.", ".", 1) if 0 <= value < 1 else f"{value:.2f}"


def _wrapped(text: str, x: float, y: float, letters: int) -> str:
    lines = textwrap.wrap(text.replace("_", " "), max(letters, 1), break_long_words=False)
    return "".join(
        f'<text class="tick" x="{x:.1f}" y="{y + 12 * row:.1f}" text-anchor="middle">{escape(line)}</text>'
        for row, line in enumerate(lines)
    )


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers that reach from at most `low` to at least `high`."""
    if high <= low:
        high = low + (abs(low) or 1)
    raw = (high - low) / (most - 1)
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(step * number, 10) for number in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers within `low` and `high`: powers of ten, with 2 and 5 times them where there is room."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        found = [factor * 10.0**decade for decade in decades for factor in factors]
        found = [tick for tick in found if low <= tick <= high]
        if len(found) <= most:
            return found
    return found[:: -(-len(found) // most)]


def _ends(values: Sequence[float], *, widened: bool) -> Point:
    """The least and the greatest value; with room on both sides on a logarithmic axis."""
    low, high = min(values), max(values)
    if not widened:
        return low, high
    room = max(high / low, 1.5) ** 0.06
    return low / room, high * room


def _tick_text(value: float) -> str:
    return figures.short(value) if abs(value) >= 1000 else f"{value:g}"


def _grid(frame: _Frame, ticks_y: Sequence[float], width: float) -> str:
    return "".join(
        f'<line class="grid" x1="{LEFT}" x2="{width - RIGHT}" y1="{frame.y(tick):.1f}" y2="{frame.y(tick):.1f}"/>'
        f'<text class="tick" x="{LEFT - 7}" y="{frame.y(tick) + 4:.1f}" text-anchor="end">{_tick_text(tick)}</text>'
        for tick in ticks_y
    )


def _axes(frame: _Frame, ticks_x: Sequence[float], ticks_y: Sequence[float], x_label: str, y_label: str) -> str:
    across = "".join(
        f'<text class="tick" x="{frame.x(tick):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">'
        f"{_tick_text(tick)}</text>"
        for tick in ticks_x
    )
    label = (
        f'<text class="axis" x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>'
    )
    return _grid(frame, ticks_y, WIDTH) + across + label + _label_y(y_label)


def _label_y(text: str) -> str:
    middle = (TOP + HEIGHT - BOTTOM) / 2
    return (
        f'<text class="axis" transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">{escape(text)}</text>'
    )


def _with_legend(width: float, body: str, entries: Sequence[tuple[str, int]], label: str) -> str:
    """The chart with its legend below, in as many rows as it takes."""
    x, y = float(LEFT), HEIGHT + 12.0
    for name, colour in entries:
        wide = 22 + LETTER * len(name)
        if x > LEFT and x + wide > width:
            x, y = float(LEFT), y + 16
        body += (
            f'<rect x="{x:.1f}" y="{y - 8:.1f}" width="10" height="10" rx="2" style="fill:var(--c{colour})"/>'
            f'<text class="tick" x="{x + 14:.1f}" y="{y + 1:.1f}">{escape(name)}</text>'
        )
        x += wide
    return _svg(width, y + 10, body, label)


def _svg(width: float, height: float, body: str, label: str) -> str:
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">{body}</svg>'


NODE_WIDTH, NODE_HEIGHT, GAP_X, GAP_Y, COLUMNS = 190, 66, 34, 34, 5


def graph_chart(graph: Graph, line_of: Callable[[str], tuple[str, str]]) -> str:
    """The stages as boxes in layers, wrapped like lines of text; edges that others imply are left out.

    Args:
        graph: The stages.
        line_of: Stage -> (time, main figure), the two small lines of its box.
    """
    layers = _layers(graph)
    places, height = _places(layers)
    edges = "".join(
        _edge(places[source], places[node.name], wrapped=layers[source] // COLUMNS != layers[node.name] // COLUMNS)
        for node in graph.nodes
        for source in direct(graph, node.name)
    )
    boxes = "".join(_box(node.name, places[node.name], *line_of(node.name)) for node in graph.nodes)
    width = COLUMNS * NODE_WIDTH + (COLUMNS - 1) * GAP_X + 40
    marker = (
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="head" d="M0 0 8 4 0 8z"/></marker></defs>'
    )
    return _svg(width, height, marker + edges + boxes, "the stages and what reads what")


def direct(graph: Graph, name: str) -> list[str]:
    """The stages that `name` needs and that none of its other needs already needs."""
    above = {node.name: set(node.needs) for node in graph.nodes}
    for node in graph.nodes:
        above[node.name] |= {far for near in node.needs for far in above[near]}
    needs = next(node.needs for node in graph.nodes if node.name == name)
    return [one for one in needs if not any(one in above[other] for other in needs)]


def _layers(graph: Graph) -> dict[str, int]:
    layers: dict[str, int] = {}
    for node in graph.nodes:
        layers[node.name] = 1 + max((layers[need] for need in node.needs), default=-1)
    return layers


def _places(layers: Mapping[str, int]) -> tuple[dict[str, Point], float]:
    rows = max(layers.values(), default=0) // COLUMNS + 1
    top = 6.0
    places: dict[str, Point] = {}
    for row in range(rows):
        columns = [
            [name for name, layer in layers.items() if layer == row * COLUMNS + column] for column in range(COLUMNS)
        ]
        tall = max(len(column) for column in columns)
        high = tall * NODE_HEIGHT + (tall - 1) * 14
        for column, names in enumerate(columns):
            own = len(names) * NODE_HEIGHT + (len(names) - 1) * 14
            for number, name in enumerate(names):
                places[name] = (
                    20 + column * (NODE_WIDTH + GAP_X),
                    top + (high - own) / 2 + number * (NODE_HEIGHT + 14),
                )
        top += high + GAP_Y
    return places, top - GAP_Y + 6


def _edge(source: Point, target: Point, *, wrapped: bool) -> str:
    x1, y1 = source[0] + NODE_WIDTH, source[1] + NODE_HEIGHT / 2
    x2, y2 = target[0] - 1, target[1] + NODE_HEIGHT / 2
    if wrapped:
        lane = y1 + NODE_HEIGHT / 2 + GAP_Y / 2
        path = f"M{x1} {y1} h7 q7 0 7 7 V{lane - 7} q0 7 -7 7 H{x2 - 5} q-8 0 -8 8 V{y2 - 7} q0 7 7 7 H{x2}"
    else:
        middle = (x1 + x2) / 2
        path = f"M{x1} {y1} C{middle} {y1} {middle} {y2} {x2} {y2}"
    return f'<path class="edge" d="{path}" marker-end="url(#arrow)"/>'


def _box(name: str, place: Point, time: str, figure: str) -> str:
    x, y = place
    return (
        f'<g transform="translate({x} {y})"><rect class="node" width="{NODE_WIDTH}" height="{NODE_HEIGHT}" rx="9"/>'
        f'<text class="name" x="12" y="22">{escape(name)}</text>'
        f'<text class="tick" x="12" y="40">{escape(time)}</text>'
        f'<text class="tick" x="12" y="56">{escape(figure)}</text></g>'
    )

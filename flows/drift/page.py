"""reports/drift.html: what changed, how much, since when and by what; one page that needs no other file, no network."""

import re
from dataclasses import asdict
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.drift import charts
from flows.reporting import rendering
from pipelines.artifacts import Display
from pipelines.core.drift import comparison

if TYPE_CHECKING:
    from rich.table import Table

    from flows.drift.verdict import Verdict

PATH = Display.DRIFT.path
LONGEST_SHOWN = 900

TESTS = {
    "tokens": "which tokens are used how often (Jensen-Shannon divergence)",
    "words": "which words occur in how many documents",
    "meaning": "how the released model sees the documents (maximum mean discrepancy of its hidden states)",
    "perplexity": "how well the released model predicts them (Kolmogorov-Smirnov)",
    "descriptors": "lengths, shares of characters and other shapes (largest Kolmogorov-Smirnov distance)",
}
UNITS = {"tokens": "bits", "words": "norm", "meaning": "MMD²", "perplexity": "KS", "descriptors": "KS"}


def write(verdict: "Verdict", root: Path = Path()) -> Path:
    """Draw the page of the workspace `root`."""
    return rendering.write(root / PATH, "drift.html.jinja", content(verdict))


def content(verdict: "Verdict") -> dict[str, Any]:
    """Everything the template shows."""
    changes = verdict.changes
    drawn = changes.get("map")
    windows = [asdict(row) for row in verdict.windows]
    return {
        "style": rendering.style("lifecycle.css", "drift.css"),
        "written": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "verdict": verdict,
        "mark": verdict.state.replace(" ", "-"),
        "tests": TESTS,
        "units": UNITS,
        "strongest": _strongest(verdict),
        "timeline": _svg(charts.timeline_chart(windows, _measured(windows))) if windows else None,
        "words": _svg(charts.words_chart(changes["words"])) if changes.get("words") else None,
        "tokens": changes.get("tokens", []),
        "map": _svg(charts.map_chart(drawn["reference"], drawn["window"], drawn["clusters"])) if drawn else None,
        "clusters": drawn["clusters"] if drawn else [],
        "examples": [_svg(_marked(item["text"], item["words"])) for item in changes.get("examples", [])],
        "quoted": "old_examples" in changes,
        "old_examples": [text[:LONGEST_SHOWN] for text in changes.get("old_examples", [])],
        "unmet": [row for row in verdict.schema if not row.met],
    }


def _measured(windows: list[dict[str, Any]]) -> list[str]:
    return [test for test in TESTS if any(test in window["ratios"] for window in windows)]


def _strongest(verdict: "Verdict") -> tuple[str, str] | None:
    """The test with the largest effect beside its own variation."""
    ratios = comparison.ratios(verdict.findings)
    if not ratios:
        return None
    test = max(ratios, key=ratios.__getitem__)
    return test, f"{ratios[test]:.1f} times"


def _svg(markup: str) -> Any:
    from markupsafe import Markup

    return Markup(markup)  # noqa: S704  our own markup, its texts escaped


def _marked(text: str, words: list[str]) -> str:
    """The text with the words that are new marked."""
    shown = text[:LONGEST_SHOWN] + ("…" if len(text) > LONGEST_SHOWN else "")
    if not words:
        return escape(shown)
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, words))})\b", re.IGNORECASE)
    parts = pattern.split(shown)
    return "".join(f"<mark>{escape(part)}</mark>" if number % 2 else escape(part) for number, part in enumerate(parts))


def table(verdict: "Verdict") -> "Table":
    """The tests as a table for the terminal."""
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("test", "result", "p", "for the alarm", "effect", "own variation", "most"):
        shown.add_column(name, justify="right" if name in ("p", "for the alarm", "effect", "own variation") else "left")
    for item in verdict.findings:
        numbers = (item.p_value, item.alarm_p_value, item.effect, item.own_variation)
        style = "bold red" if item.outcome == "differs" else "dim" if item.outcome == "insufficient data" else ""
        shown.add_row(
            item.test,
            item.outcome,
            *("" if value is None else f"{value:.3g}" for value in numbers),
            item.detail,
            style=style,
        )
    return shown


def show(verdict: "Verdict") -> None:
    """Print the verdict, the table, and where the page is."""
    from flows import terminal

    console = terminal.console()
    colour = {"ok": "green", "watch": "yellow", "drift": "red"}.get(verdict.state, "yellow")
    console.print(f"[bold {colour}]{verdict.state}[/bold {colour}]")
    console.print(verdict.words, markup=False, soft_wrap=True)
    if verdict.findings:
        console.print(f"\nCompared with {verdict.against}:", markup=False)
        console.print(table(verdict))
    console.print(f"\n{PATH.resolve()}", markup=False, soft_wrap=True)

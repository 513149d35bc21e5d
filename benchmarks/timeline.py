"""What happened when: printed as it happens, kept as JSON, drawn as a page."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flows.reporting import charts
from pipelines.adapters import files

TEMPLATES = Path(__file__).parent / "templates"
VERDICTS = {True: "[green]met[/green]", False: "[red]NOT MET[/red]", None: ""}
STYLE = Path(charts.__file__).parent / "templates" / "lifecycle.css"


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened."""

    at: float
    """Seconds since the beginning."""
    what: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """Something that must hold, and whether it did."""

    what: str
    figure: str
    limit: str = ""
    met: bool | None = None
    """None: a figure to know, without a limit."""


@dataclass
class Timeline:
    """The events of one run; every one is on the disk before the next."""

    folder: Path
    console: Console
    events: list[Event] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    began: float = field(default_factory=time.time)

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return time.time() - self.began

    def note(self, what: str, detail: str = "", *, at: float | None = None) -> Event:
        """Something happened, now or `at` seconds since the beginning."""
        event = Event(at=self.now if at is None else at, what=what, detail=detail)
        self.events.append(event)
        self.console.print(f"[bold]{clock(event.at)}[/bold]  {what}" + (f"  [dim]{detail}[/dim]" if detail else ""))
        self._keep({})
        return event

    def goal(self, what: str, figure: str, limit: str = "", met: bool | None = None) -> None:
        """Hold a figure against its limit, or keep it without one."""
        self.goals.append(Goal(what=what, figure=figure, limit=limit, met=met))
        self._keep({})

    def close(self, figures: Mapping[str, Any], answers: Sequence[tuple[float, float]]) -> Path:
        """Print the goals, write the page, and return it. `answers`: (sent at, seconds it took) each."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("", "figure", "limit", ""):
            table.add_column(name, overflow="fold")
        for one in self.goals:
            table.add_row(one.what, one.figure, one.limit, VERDICTS[one.met])
        self.console.print()
        self.console.print(table)
        self._keep(figures)
        page = self.folder / "timeline.html"
        with files.replacing(page) as fresh:
            fresh.write_text(self._page(answers), encoding="utf-8")
        return page

    def _keep(self, figures: Mapping[str, Any]) -> None:
        events = [{**asdict(one), "at": round(one.at, 1)} for one in sorted(self.events, key=lambda one: one.at)]
        goals = [asdict(one) for one in self.goals]
        files.write_json(self.folder / "timeline.json", {"events": events, "goals": goals, **figures})

    def _page(self, answers: Sequence[tuple[float, float]]) -> str:
        import jinja2
        from markupsafe import Markup

        environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True)
        return environment.get_template("timeline.html.jinja").render(
            style=STYLE.read_text(encoding="utf-8"),
            events=[(clock(one.at), one) for one in sorted(self.events, key=lambda one: one.at)],
            goals=self.goals,
            met=sum(one.met is True for one in self.goals),
            limited=sum(one.met is not None for one in self.goals),
            chart=Markup(latencies(answers)) if answers else "",  # noqa: S704  our own chart, escaped there
            requests=len(answers),
        )


def latencies(answers: Sequence[tuple[float, float]], seconds: float = 10.0) -> str:
    """Median and slowest answer of every few seconds over the time in minutes, as a chart."""
    slots: dict[int, list[float]] = {}
    for at, took in answers:
        slots.setdefault(int(at // seconds), []).append(took)
    shown = [(slot * seconds / 60, sorted(found)) for slot, found in sorted(slots.items())]
    median = charts.Series(name="median", points=[(at, found[len(found) // 2]) for at, found in shown], colour=3)
    slowest = charts.Series(name="slowest", points=[(at, found[-1]) for at, found in shown], colour=2)
    return charts.line_chart([slowest, median], "minutes", "seconds to the whole answer")


def clock(seconds: float) -> str:
    """Minutes and seconds, right-aligned: ` 3:07`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes:2d}:{rest:02d}"

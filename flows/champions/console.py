"""What `moteur promote`, `rollback` and `history` show a person."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows import terminal
from flows.champions import history, promotion
from flows.champions.history import Entry, Reign
from pipelines.adapters.alerts import Outbox
from pipelines.artifacts import State

REFUSED = 7
"""Exit code of a promotion that the gate refused."""

GROUPS = {"lineage": "Is it what was recorded?", "quality": "Is it good?", "service": "Is it usable?"}


def promote(root: Path, *, version: int | None, who: str | None, why: str, again: bool) -> int:
    """Promote and show the verdict; return the exit code."""
    console = terminal.console()
    outcome = promotion.promote(
        root, version=version, who=who, why=why, again=again, say=lambda text: _line(console, text)
    )
    if outcome.verdict:
        console.print(table(outcome.verdict))
    _line(console, outcome.words)
    if outcome.verdict:
        _line(console, f"Verdict {outcome.verdict['sha256'][:12]}... is kept with version {outcome.version}.")
    if outcome.already or outcome.verdict is None or outcome.verdict["passed"]:
        return 0
    key = f"promotion/refused/{outcome.version}/{outcome.verdict['sha256'][:12]}"
    Outbox(root / State.ALERTS).put(key, f"Version {outcome.version} is refused", outcome.words)
    return REFUSED


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)


def table(verdict: Mapping[str, Any]) -> Table:
    """Every rule in words, and whether it was met, by what it asks."""
    shown = Table(box=None, pad_edge=False, show_header=False)
    shown.add_column()
    shown.add_column(overflow="fold")
    for group, title in GROUPS.items():
        rules = [rule for rule in verdict["rules"] if rule["group"] == group]
        met = sum(rule["passed"] for rule in rules)
        shown.add_row("", f"[bold]{title}[/bold] {met} of {len(rules)}")
        for rule in rules:
            state = "[green]pass[/green]" if rule["passed"] else "[red]FAIL[/red]"
            shown.add_row(state, escape(rule["words"]))
    return shown


def rollback(root: Path, *, to: int | None, who: str | None, why: str) -> None:
    """Roll back and say how long it took."""
    console = terminal.console()
    began = time.monotonic()
    outcome = promotion.rollback(root, to=to, who=who, why=why, say=lambda text: _line(console, text))
    _line(console, f"{outcome.words} ({time.monotonic() - began:.1f} s)")


def history_of(root: Path, *, at: str | None, as_json: bool) -> None:
    """Print the history, or which version was live at a time."""
    console = terminal.console()
    entries = history.read(root)
    if at is not None:
        start, end = history.period(at, datetime.now().astimezone().date())
        for line in answer(history.reigns(entries), start, end):
            _line(console, line)
    elif as_json:
        for entry in entries:
            print(json.dumps(asdict(entry), ensure_ascii=False))  # noqa: T201  for programs
    elif entries:
        console.print(_table(entries))
    else:
        _line(console, "Nothing has been promoted yet: `moteur promote` makes the first champion.")


def answer(reigns: list[Reign], start: datetime, end: datetime) -> list[str]:
    """Which versions were live in [start, end), a line each."""
    named = f"On {_day(start)}" if end > start else f"At {_moment(start)}"
    live = history.live_during(reigns, start, end)
    if not live:
        first = f"; the first version came on {_moment(reigns[0].start)}" if reigns else ": none has been promoted"
        return [f"{named} no version was live{first}."]
    return [f"{named}: {_reign(reign, start, end)}" for reign in live]


def _reign(reign: Reign, start: datetime, end: datetime) -> str:
    """In words; times are told where the reign does not span the whole of what was asked."""
    entry = reign.entry
    how = f"{'rolled back to' if entry.action == 'rollback' else 'promoted'} by {entry.who} on {_moment(reign.start)}"
    until = f", until {_moment(reign.end)}" if reign.end else ", live to this day"
    why = f"; {entry.why}" if entry.why else ""
    whole = reign.start <= start and (reign.end is None or reign.end >= end)
    part = "" if whole else " for a part of it"
    return (
        f"version {reign.version} was live{part}: {how}{until}{why}. manifest sha256 {entry.manifest_sha256[:12]}...,"
        f" verdict: {entry.verdict or 'none'}"
    )


def _day(moment: datetime) -> str:
    local = moment.astimezone()
    return f"{local.day} {local:%B %Y}"


def _moment(moment: datetime) -> str:
    local = moment.astimezone()
    return f"{local.day} {local:%B %Y, %H:%M:%S}"


WORDS = {"promote": "promoted", "refuse": "refused", "rollback": "rolled back", "revert": "move taken back"}


def _table(entries: list[Entry]) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("when", "who", "what", "from", "to", "why", "verdict"):
        shown.add_column(name, overflow="fold", justify="right" if name in ("from", "to") else "left")
    for entry in entries:
        shown.add_row(
            _moment(entry.moment),
            escape(entry.who),
            WORDS[entry.action],
            "" if entry.from_version is None else str(entry.from_version),
            str(entry.to_version),
            escape(entry.why),
            escape(entry.verdict),
        )
    return shown

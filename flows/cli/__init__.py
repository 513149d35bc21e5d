"""The command `moteur`: a file of commands for each room, nothing heavy imported, so that its help comes at once."""

import os
import sys
from pathlib import Path

import typer

from flows.cli import (
    champions,
    comparisons,
    drift,
    feedback,
    lifecycle,
    planning,
    reporting,
    retraining,
    serving,
    supervision,
)
from pipelines.adapters import device, locks
from pipelines.artifacts import State
from pipelines.errors import MoteurError

app = typer.Typer(
    name="moteur",
    help="One versioned, orchestrated pipeline for the whole life of a language model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)

INTERRUPTED = 130
COMMANDS = (
    lifecycle.run,
    planning.plan,
    planning.scaling,
    lifecycle.status,
    reporting.report,
    reporting.diagnose,
    serving.chat,
    champions.promote,
    champions.rollback,
    champions.history,
    champions.verify,
    serving.serve,
    drift.drift,
    supervision.up,
    supervision.down,
    retraining.retrain,
    retraining.accept,
    supervision.alerts,
)
"""In the order of the help."""

for command in COMMANDS:
    app.command()(command)
for group in (feedback.app, comparisons.app):
    app.add_typer(group)


def share_the_machine() -> None:
    """Beside services of the workspace, or of the checkout whose code runs, all that a command starts heeds them."""
    for home in (Path.cwd(), Path(__file__).resolve().parents[2]):
        if locks.held(home / State.SUPERVISOR):
            for name, value in device.SHARED.items():
                os.environ.setdefault(name, value)


def main() -> None:
    """Run the command line; an error of the world is a sentence and an exit code, never a traceback."""
    try:
        share_the_machine()
        app()
    except MoteurError as error:
        typer.secho(f"moteur: {error}", err=True, fg=typer.colors.RED)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)

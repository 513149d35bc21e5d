"""`moteur report` and `moteur diagnose`."""

from typing import Annotated

import typer

from flows.cli.options import Workspace, enter


def report(workspace: Workspace = None) -> None:
    """Write reports/lifecycle.html: one page, no other files, no network.

    \b
    Examples:
      moteur report
      moteur report --workspace .moteur/workspaces/tinystories
    """
    from flows.lifecycle import run as running
    from flows.reporting import page

    enter(workspace)
    running.drain()
    typer.echo(page.write().resolve())


def diagnose(
    workspace: Workspace = None,
    as_json: Annotated[bool, typer.Option("--json", help="The verdicts as JSON.")] = False,
) -> None:
    """Say which of data, SFT, reward model, PPO and evaluation is at fault, why, and what to try.

    Reads reports and curves, and looks at pairs and models for a few seconds. A stage that only suffers from one
    before it is not blamed. Exit code 0: nothing is at fault. 8: something is.

    \b
    Examples:
      moteur diagnose
      moteur diagnose --workspace .moteur/workspaces/smoke
      moteur diagnose --json
    """
    from flows.reporting import diagnosis

    raise typer.Exit(diagnosis.show(enter(workspace), as_json=as_json))

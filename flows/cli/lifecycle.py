"""`moteur run` and `moteur status`."""

from typing import Annotated

import typer

from flows.cli.options import Profile, Variables, Workspace, enter


def run(
    profile: Profile = None,
    workspace: Workspace = None,
    var: Variables = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="Run STAGE and all below it again, changed or not.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Run every stage again, changed or not.")] = False,
) -> None:
    """Run the lifecycle: every stage whose code, params or inputs changed.

    With a profile the run has a workspace of its own (default: .moteur/workspaces/NAME); the checkout stays as it is.

    \b
    Examples:
      moteur run
      moteur run --from ppo
      moteur run --profile profiles/smoke.yaml
      moteur run --profile profiles/tinystories.yaml --var DATA=/data/text
    """
    from flows.lifecycle import run as running

    raise typer.Exit(running.run(enter(workspace, profile, var, make=True), start=start, force=force))


def status(workspace: Workspace = None) -> None:
    """Show which stages are up to date, which changed and why; what runs, the champion, what comes next, alerts.

    \b
    Examples:
      moteur status
      moteur status --workspace .moteur/workspaces/smoke
    """
    from flows.lifecycle import status as state

    enter(workspace)
    state.show()

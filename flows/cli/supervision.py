"""`moteur up`, `down` and `alerts`."""

from typing import Annotated

import typer

from flows.cli.options import Workspace, enter


def up(
    workspace: Workspace = None,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay, until Ctrl-C; for a service manager.")
    ] = False,
) -> None:
    """Start everything on this machine: Prefect, MLflow, serving, monitoring, the schedule, alerts.

    Each is kept alive. PREFECT_API_URL and MLFLOW_TRACKING_URI name servers of your own, which are used instead.
    Ports and hours are in params.yaml, sections services and schedule.

    \b
    Examples:
      moteur up
      moteur up --foreground
    """
    from flows.supervision import up as running

    running.up(enter(workspace), foreground=foreground)


def down(workspace: Workspace = None) -> None:
    """End everything that `moteur up` started; a running stage saves its state and goes on with the next `up`.

    \b
    Examples:
      moteur down
      moteur down --workspace /srv/moteur
    """
    from flows.supervision import up as running

    running.down(enter(workspace))


def alerts(
    workspace: Workspace = None,
    test: Annotated[bool, typer.Option("--test", help="Send a test alert to every sink, now.")] = False,
    close: Annotated[str | None, typer.Option("--close", metavar="KEY", help="Take this alert off the list.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show closed alerts too.")] = False,
) -> None:
    """Show open alerts and who was told; try the sinks.

    Where alerts go is set in params.yaml, section alerts.

    \b
    Examples:
      moteur alerts
      moteur alerts --test
      moteur alerts --close drift/2026-03-03
    """
    from flows.supervision import alerts as alerting

    enter(workspace)
    if test:
        alerting.test()
    elif close is not None:
        alerting.close(close)
    else:
        alerting.show(everything=everything)

"""`moteur retrain` and `moteur accept`."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import Workspace, enter


def retrain(
    workspace: Annotated[
        Path | None, typer.Option("--workspace", metavar="DIR", help="The checkout. Default: the one around you.")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="Run STAGE and all below it again, changed or not.")
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option("--profile", metavar="FILE", help="Instead of retraining.profile; a path in the checkout."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait while another retraining is under way.")] = False,
) -> None:
    """Train again at the last commit, with accepted data, and let the result go live if it is better.

    It works in a clone of its own; the checkout stays as it is. One that was killed is taken up where it was,
    unless the commit or the accepted data have changed.

    \b
    Examples:
      moteur retrain
      moteur retrain --from ppo
      moteur retrain --wait
    """
    from flows.retraining import records
    from flows.retraining import run as retraining

    order = records.Order(start=start, profile=profile)
    retraining.run(enter(workspace), order, typer.echo, wait=wait)


def accept(
    workspace: Workspace = None,
    kind: Annotated[
        str, typer.Option("--kind", help="corpus: what users sent. instructions: conversations with the answer.")
    ] = "corpus",
    answers: Annotated[
        bool, typer.Option("--answers", help="Take what the model wrote too: completions, instructions.")
    ] = False,
    since: Annotated[
        str | None, typer.Option("--since", metavar="DATE", help="Leave out, for good, what is older.")
    ] = None,
) -> None:
    """Take what users sent, out of the request log, into data/accepted, where retrainings find it.

    Each request is looked at once. Only what serving.log.text kept can be taken; what data_validation would reject,
    what looks like a secret and what was taken before is left out. A table says how much, and why.

    \b
    Examples:
      moteur accept
      moteur accept --since 2026-03-03
      moteur accept --kind instructions --answers
    """
    from flows.retraining import acceptance

    if kind not in ("corpus", "instructions"):
        raise typer.BadParameter(f"--kind is {kind!r}: give corpus or instructions")
    acceptance.show(
        enter(workspace), kind="corpus" if kind == "corpus" else "instructions", answers=answers, since=since
    )

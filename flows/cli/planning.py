"""`moteur plan` and `moteur scaling`."""

from typing import Annotated

import typer

from flows.cli.options import Profile, Variables, Workspace, enter
from pipelines import budget


def plan(
    profile: Profile = None,
    workspace: Workspace = None,
    var: Variables = None,
    apply: Annotated[
        str | None,
        typer.Option(
            "--apply",
            metavar="WHAT",
            help="Settle pretraining.budget in params.yaml or the profile. tokens: the model stays, and a time gets"
            " this machine's speed. size: the model is chosen too, by the scaling law.",
        ),
    ] = None,
) -> None:
    """Show, before a run, what it will cost: parameters, tokens, FLOPs, time, disk; and what the last runs did.

    Where nothing has been trained here yet, or only with settings of another speed, the speed of training is measured
    by a few steps (ten seconds).

    \b
    Examples:
      moteur plan
      moteur plan --apply tokens
      moteur plan --apply size
      moteur plan --profile profiles/tinystories.yaml --var DATA=/data/text
    """
    if apply not in (None, "tokens", "size"):
        raise typer.BadParameter(f"--apply is {apply!r}: give tokens or size")
    from flows.planning import plan as planning

    source = profile.resolve() if profile else None
    root = enter(workspace, profile, var, make=True)
    planning.show(source or root / "params.yaml", apply=apply)  # type: ignore[arg-type]  # checked above


def scaling(
    workspace: Workspace = None,
    flops: Annotated[
        float | None,
        typer.Option(
            "--flops",
            metavar="NUMBER",
            min=1.0,
            max=budget.MOST["FLOPs"],
            help="The greatest budget. Default: a third of planned pretraining.",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer sizes, a quarter of the compute: a first look.")
    ] = False,
) -> None:
    """Fit a scaling law from small runs: which size of a model is best for a compute, and how many tokens.

    At three budgets, each a third of the next, models of five or more sizes are pretrained on the tokens here. By
    default all of it costs about twice the FLOPs of planned pretraining. A run that is finished is not made again.
    Page, figures and law appear in reports/comparison; `moteur plan` uses the law.

    \b
    Examples:
      moteur scaling
      moteur scaling --quick
      moteur scaling --flops 1e12 --workspace .moteur/workspaces/tinystories
    """
    from flows.planning import scaling as fitting

    typer.echo(fitting.run(enter(workspace), typer.echo, flops=flops, quick=quick).resolve())

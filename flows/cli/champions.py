"""`moteur promote`, `rollback`, `history` and `verify`."""

from typing import Annotated

import typer

from flows.cli.options import Workspace, enter

Who = Annotated[
    str | None, typer.Option("--who", metavar="NAME", help="For the history. Default: git's user.name, or the login.")
]
Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="For the history.")]
VersionNumber = Annotated[
    int | None,
    typer.Argument(metavar="VERSION", min=1, show_default=False, help="Default: models/release, registered first."),
]


def promote(
    version: VersionNumber = None,
    workspace: Workspace = None,
    why: Why = "",
    who: Who = None,
    again: Annotated[bool, typer.Option("--again", help="Let a version stand that was rolled back before.")] = False,
) -> None:
    """Gate a release and, when it passes every rule, make it champion.

    Challenger and champion sit the same exam in sandbox processes. The verdict, with every rule, figure and limit,
    stays with the version in the registry. Exit code 0: it is champion. 7: refused.

    \b
    Examples:
      moteur promote
      moteur promote --why "more dialogues in the data"
      moteur promote 12
    """
    from flows.champions import console

    raise typer.Exit(console.promote(enter(workspace), version=version, who=who, why=why, again=again))


def rollback(
    to: Annotated[
        int | None, typer.Option("--to", metavar="VERSION", min=1, help="Default: the champion before this one.")
    ] = None,
    workspace: Workspace = None,
    why: Why = "",
    who: Who = None,
) -> None:
    """Make an earlier champion champion again, in seconds. Servers that follow the champion swap by themselves.

    The version that leaves is marked; the gate refuses it until `moteur promote VERSION --again`.

    \b
    Examples:
      moteur rollback --why "answers with nothing to long prompts"
      moteur rollback --to 9
    """
    from flows.champions import console

    console.rollback(enter(workspace), to=to, who=who, why=why)


def history(
    workspace: Workspace = None,
    at: Annotated[
        str | None,
        typer.Option(
            "--at", metavar="DATE", help="Which version was live then: 2026-03-03, 3 March, 2026-03-03T14:05."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show who put which version live, when, from what, why, and what the gate said.

    \b
    Examples:
      moteur history
      moteur history --at "3 March"
      moteur history --json
    """
    from flows.champions import console

    console.history_of(enter(workspace), at=at, as_json=as_json)


def verify(
    workspace: Workspace = None,
    mend: Annotated[
        bool,
        typer.Option("--mend", help="Replace bad objects of DVC's cache and bad releases where a good copy is found."),
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Every version in the registry, not only those with a name.")
    ] = False,
) -> None:
    """Hash again what was made, kept and promoted: DVC's cache, the release, the registry's copies, the history.

    Names every bad object and how to mend it. Exit code 0: all is well. 4: something is bad.

    \b
    Examples:
      moteur verify
      moteur verify --mend
      moteur verify --all
    """
    from flows.champions import verification

    if verification.show(enter(workspace), mend=mend, every=every):
        raise typer.Exit(4)

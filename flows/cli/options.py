"""Options that many commands have, and how they come to the workspace."""

import os
from pathlib import Path
from typing import Annotated

import typer

from pipelines.errors import ParamsError

Workspace = Annotated[
    Path | None,
    typer.Option("--workspace", metavar="DIR", help="Folder of the run. Default: the checkout around you."),
]
Profile = Annotated[
    Path | None,
    typer.Option("--profile", metavar="FILE", help="YAML of overrides over params.yaml."),
]
Variables = Annotated[
    list[str] | None,
    typer.Option("--var", metavar="NAME=VALUE", help="Value for ${NAME} in the profile; may be repeated."),
]


def enter(
    workspace: Path | None, profile: Path | None = None, var: list[str] | None = None, *, make: bool = False
) -> Path:
    """Settle the workspace and change into it; with `make` one that is not there is made."""
    from flows.workspaces import folders

    if var and profile is None:
        raise typer.BadParameter("--var fills in a profile: give --profile FILE too")
    if profile is None and (workspace is None or folders.is_one(workspace)):
        root = workspace.resolve() if workspace else folders.find(Path.cwd())
        folders.adopt(root)
    elif not make:
        raise ParamsError(
            f"--workspace {workspace} is neither a checkout nor a workspace (no dvc.yaml and params.yaml in it):"
            f" `moteur run --workspace {workspace}` makes one"
        )
    else:
        root = folders.make(Path.cwd(), workspace, profile, var or [])
    os.chdir(root)
    return root

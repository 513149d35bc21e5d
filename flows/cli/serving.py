"""`moteur chat` and `moteur serve`: processes of `serving`, which take over this one."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import Workspace, enter


def chat(
    workspace: Workspace = None,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="FOLDER", help="Model folder. Default: models/release.")
    ] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="Ask once, print the answer, leave.")] = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer in tokens.")] = 200,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, help="0: the likeliest token.")] = 0.7,
) -> None:
    """Talk to the release, or to any model folder, in the terminal.

    \b
    Examples:
      moteur chat
      moteur chat --prompt "Write a story with the words: boat, kind, rain."
      moteur chat --model models/sft
      echo "Who has the kite?" | moteur chat
    """
    folder = model.resolve() if model else None
    enter(workspace)
    arguments = [sys.executable, "-m", "serving.chat", "--max-new-tokens", str(max_new_tokens)]
    arguments += ["--temperature", str(temperature), *(["--prompt", prompt] if prompt is not None else [])]
    arguments += ["--model", str(folder)] if folder else []
    sys.stdout.flush()
    os.execv(sys.executable, arguments)  # noqa: S606  the console takes over this process


def serve(
    workspace: Workspace = None,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="FOLDER", help="Release to serve. Default: models/release.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Serve the registry's champion, and each new one without a pause.")
    ] = False,
    host: Annotated[str | None, typer.Option("--host", help="Default: serving.host.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Default: serving.port; 0: any free one.")] = None,
) -> None:
    """Serve a release over HTTP as OpenAI's API: any client for that API talks to it.

    Clients show the token of .moteur/token (made at the first start), or of the variable MOTEUR_TOKEN.

    \b
    Examples:
      moteur serve
      moteur serve --follow
      moteur serve --model models/release --port 8080
    """
    if model is not None and follow:
        raise typer.BadParameter("--model serves a folder, --follow the champion: give one of them")
    folder = model.resolve() if model else None
    enter(workspace)
    arguments = [sys.executable, "-m", "serving", *(["--follow"] if follow else [])]
    arguments += ["--model", str(folder)] if folder else []
    arguments += ["--host", host] if host is not None else []
    arguments += ["--port", str(port)] if port is not None else []
    sys.stdout.flush()
    os.execv(sys.executable, arguments)  # noqa: S606  the server takes over this process

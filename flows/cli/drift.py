"""`moteur drift`."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import Workspace, enter


def drift(
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="SOURCE", help="A batch: tales://..., a file or glob, hf://..., any fsspec URL."
        ),
    ] = None,
    requests: Annotated[
        Path | None,
        typer.Option("--requests", metavar="DIR", help="Folder of a request log. Default: .moteur/requests."),
    ] = None,
    kind: Annotated[
        str, typer.Option("--kind", help="What a batch holds: corpus, or requests (instruction records).")
    ] = "corpus",
    release: Annotated[
        Path | None,
        typer.Option(
            "--release",
            metavar="DIR",
            help="Compare with this release. Default: models/release for a batch, the champion for requests.",
        ),
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="First declare the latest windows of requests to be normal.")
    ] = False,
    workspace: Workspace = None,
) -> None:
    """Compare a batch of data, or the requests, with what the release was made from.

    Writes reports/drift.html and reports/drift.json. The exit code tells the state:
    0 ok, 10 watch, 11 drift, 12 insufficient data.

    \b
    Examples:
      moteur drift
      moteur drift --data "tales://?stories=1000&season=sea"
      moteur drift --data new/stories.jsonl --release models/release
      moteur drift --accept
    """
    if kind not in ("corpus", "requests"):
        raise typer.BadParameter(f"--kind is {kind!r}: give corpus or requests")
    if data is not None and (requests is not None or accept):
        raise typer.BadParameter("--data is a batch; --requests and --accept are about requests: give one or the other")
    source = str(Path(data).expanduser().resolve()) if data is not None and "://" not in data else data
    log, folder = (path.resolve() if path is not None else None for path in (requests, release))
    root = enter(workspace)
    from flows.drift import monitoring, page, watch
    from pipelines.artifacts import Artifact, State

    if folder is None and data is None:
        folder = watch.champion(root)
    verdict = monitoring.check(
        data=source,
        kind=kind,
        requests=log or State.REQUESTS.path,
        folder=folder or Artifact.RELEASE.path,
        accept=accept,
    )
    page.show(verdict)
    raise typer.Exit(verdict.exit_code)

"""`moteur feedback`: `import`, `export` and `rank`."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import Workspace, enter

app = typer.Typer(
    name="feedback",
    help="""Rankings and ratings by people, from which the reward model learns: bring them in, or make them here.

    \b
    Examples:
      moteur feedback rank --annotator ann
      moteur feedback export to_label.csv
      moteur feedback import labelled.csv
    """,
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("import")
def import_feedback(
    sources: Annotated[list[Path], typer.Argument(metavar="FILE...", help="JSON lines (.jsonl) or tables (.csv).")],
    workspace: Workspace = None,
    annotator: Annotated[
        str | None, typer.Option("--annotator", metavar="NAME", help="Who made the labels that name nobody.")
    ] = None,
    by_instructions: Annotated[
        bool,
        typer.Option(
            help="Whether labels that do not say how they were made were made by data/feedback/INSTRUCTIONS.md as it"
            " stands: its hash is noted with them."
        ),
    ] = True,
) -> None:
    """Bring labels into data/feedback: rankings with ties and 'F', ratings, choices between two.

    Each file becomes a new one, named by its content: the same file is imported once. Lines that cannot be used are
    set aside with their reasons; past feedback.max_bad_line_share nothing is imported.

    \b
    Examples:
      moteur feedback import labelled.csv
      moteur feedback import week1.jsonl week2.jsonl
      moteur feedback import --annotator ann sheet.csv
      moteur feedback import --no-by-instructions public_preferences.jsonl
    """
    from flows.feedback import exchange

    files = [path.expanduser().resolve() for path in sources]
    exchange.show_import(enter(workspace), files, annotator=annotator, by_instructions=by_instructions)


@app.command("export")
def export_feedback(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="New file, .jsonl or .csv.")],
    tasks: Annotated[
        list[str] | None, typer.Option("--tasks", metavar="TASK", help="Only of this task; may be repeated.")
    ] = None,
    num_prompts: Annotated[int | None, typer.Option("--num-prompts", min=1, help="Default: all.")] = None,
    workspace: Workspace = None,
) -> None:
    """Write responses of the instruction model to be ranked elsewhere; `import` reads them back with their ranks.

    They are those that the stage feedback sampled, in random order, without the ranks they have.

    \b
    Examples:
      moteur feedback export to_label.csv
      moteur feedback export --tasks continuation --num-prompts 100 to_label.jsonl
    """
    from flows.feedback import exchange

    file = target.expanduser().resolve()
    exchange.show_export(enter(workspace), file, tasks=tasks or [], num_prompts=num_prompts)


@app.command("rank")
def rank_feedback(
    annotator: Annotated[
        str | None,
        typer.Option("--annotator", metavar="NAME", help="Who ranks. Default: git's user.name, or the login."),
    ] = None,
    num: Annotated[int | None, typer.Option("--num", min=1, help="Stop after this many rankings.")] = None,
    workspace: Workspace = None,
) -> None:
    """Rank responses of the instruction model here, in the terminal.

    Shows data/feedback/INSTRUCTIONS.md, then prompts with responses in random order. Each answer is at once in
    data/feedback/NAME.jsonl; the next start goes on with what NAME has not ranked.

    \b
    Examples:
      moteur feedback rank
      moteur feedback rank --annotator ann --num 20
    """
    from flows.feedback import ranking

    ranking.show(enter(workspace), annotator=annotator, num=num)

"""The command `moteur`. Nothing heavy is imported here: `moteur --help` answers at once."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipelines.errors import MoteurError, ParamsError

app = typer.Typer(
    name="moteur",
    help="One versioned, orchestrated pipeline for the whole life of a language model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)

INTERRUPTED = 130

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


@app.command()
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
    from flows import run as running

    raise typer.Exit(running.run(_enter(workspace, profile, var, make=True), start=start, force=force))


@app.command()
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

    Where nothing has been trained here yet, the speed of training is measured by a few steps (ten seconds).

    \b
    Examples:
      moteur plan
      moteur plan --apply tokens
      moteur plan --apply size
      moteur plan --profile profiles/tinystories.yaml --var DATA=/data/text
    """
    if apply not in (None, "tokens", "size"):
        raise typer.BadParameter(f"--apply is {apply!r}: give tokens or size")
    from flows import plan as planning

    source = profile.resolve() if profile else None
    root = _enter(workspace, profile, var, make=True)
    planning.show(source or root / "params.yaml", apply=apply)  # type: ignore[arg-type]  # checked above


@app.command()
def scaling(
    workspace: Workspace = None,
    flops: Annotated[
        float | None,
        typer.Option(
            "--flops", metavar="NUMBER", min=1.0, help="The greatest budget. Default: a third of planned pretraining."
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
    from flows import scaling as fitting

    typer.echo(fitting.run(_enter(workspace), typer.echo, flops=flops, quick=quick).resolve())


@app.command()
def status(workspace: Workspace = None) -> None:
    """Show which stages are up to date, which changed and why; what runs, the champion, what comes next, alerts.

    \b
    Examples:
      moteur status
      moteur status --workspace .moteur/workspaces/smoke
    """
    from flows import status as state

    _enter(workspace)
    state.show()


@app.command()
def report(workspace: Workspace = None) -> None:
    """Write reports/lifecycle.html: one page, no other files, no network.

    \b
    Examples:
      moteur report
      moteur report --workspace .moteur/workspaces/tinystories
    """
    from flows import report as reporting
    from flows import run as running

    _enter(workspace)
    running.drain()
    typer.echo(reporting.write().resolve())


@app.command()
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
    from flows import diagnosis

    raise typer.Exit(diagnosis.show(_enter(workspace), as_json=as_json))


@app.command()
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
    _enter(workspace)
    arguments = [sys.executable, "-m", "serving.chat", "--max-new-tokens", str(max_new_tokens)]
    arguments += ["--temperature", str(temperature), *(["--prompt", prompt] if prompt is not None else [])]
    arguments += ["--model", str(folder)] if folder else []
    sys.stdout.flush()
    os.execv(sys.executable, arguments)  # noqa: S606  the console takes over this process


Who = Annotated[
    str | None, typer.Option("--who", metavar="NAME", help="For the history. Default: git's user.name, or the login.")
]
Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="For the history.")]
VersionNumber = Annotated[
    int | None,
    typer.Argument(metavar="VERSION", min=1, show_default=False, help="Default: models/release, registered first."),
]


@app.command()
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
    from flows import verdicts

    raise typer.Exit(verdicts.promote(_enter(workspace), version=version, who=who, why=why, again=again))


@app.command()
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
    from flows import verdicts

    verdicts.rollback(_enter(workspace), to=to, who=who, why=why)


@app.command()
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
    from flows import verdicts

    verdicts.history_of(_enter(workspace), at=at, as_json=as_json)


@app.command()
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
    from flows import verification

    if verification.show(_enter(workspace), mend=mend, every=every):
        raise typer.Exit(4)


@app.command()
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
    _enter(workspace)
    arguments = [sys.executable, "-m", "serving", *(["--follow"] if follow else [])]
    arguments += ["--model", str(folder)] if folder else []
    arguments += ["--host", host] if host is not None else []
    arguments += ["--port", str(port)] if port is not None else []
    sys.stdout.flush()
    os.execv(sys.executable, arguments)  # noqa: S606  the server takes over this process


@app.command()
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
    root = _enter(workspace)
    from flows import drift_report, drift_watch, monitoring
    from pipelines.artifacts import Artifact, State

    if folder is None and data is None:
        folder = drift_watch.champion(root)
    verdict = monitoring.check(
        data=source,
        kind=kind,
        requests=log or State.REQUESTS.path,
        folder=folder or Artifact.RELEASE.path,
        accept=accept,
    )
    drift_report.show(verdict)
    raise typer.Exit(verdict.exit_code)


@app.command()
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
    from flows import up as running

    running.up(_enter(workspace), foreground=foreground)


@app.command()
def down(workspace: Workspace = None) -> None:
    """End everything that `moteur up` started; a running stage saves its state and goes on with the next `up`.

    \b
    Examples:
      moteur down
      moteur down --workspace /srv/moteur
    """
    from flows import up as running

    running.down(_enter(workspace))


@app.command()
def retrain(
    workspace: Annotated[
        Path | None, typer.Option("--workspace", metavar="DIR", help="The checkout. Default: the one around you.")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="Run STAGE and all below it again, changed or not.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", metavar="FILE", help="Instead of retraining.profile in params.yaml.")
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
    from flows import retraining

    order = retraining.Order(start=start, profile=profile)
    retraining.run(_enter(workspace), order, typer.echo, wait=wait)


@app.command()
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
    from flows import acceptance

    if kind not in ("corpus", "instructions"):
        raise typer.BadParameter(f"--kind is {kind!r}: give corpus or instructions")
    acceptance.show(
        _enter(workspace), kind="corpus" if kind == "corpus" else "instructions", answers=answers, since=since
    )


feedback_app = typer.Typer(
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
app.add_typer(feedback_app)


@feedback_app.command("import")
def import_feedback(
    sources: Annotated[list[Path], typer.Argument(metavar="FILE...", help="JSON lines (.jsonl) or tables (.csv).")],
    workspace: Workspace = None,
    annotator: Annotated[
        str | None, typer.Option("--annotator", metavar="NAME", help="Who made the labels that name nobody.")
    ] = None,
) -> None:
    """Bring labels into data/feedback: rankings with ties and 'F', ratings, choices between two.

    Each file becomes a new one, named by its content: the same file is imported once. Lines that cannot be used are
    set aside with their reasons; past feedback.max_bad_line_share nothing is imported.

    \b
    Examples:
      moteur feedback import labelled.csv
      moteur feedback import week1.jsonl week2.jsonl
      moteur feedback import --annotator ann sheet.csv
    """
    from flows import feedback

    files = [path.expanduser().resolve() for path in sources]
    feedback.show_import(_enter(workspace), files, annotator=annotator)


@feedback_app.command("export")
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
    from flows import feedback

    file = target.expanduser().resolve()
    feedback.show_export(_enter(workspace), file, tasks=tasks or [], num_prompts=num_prompts)


@feedback_app.command("rank")
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
    from flows import ranking

    ranking.show(_enter(workspace), annotator=annotator, num=num)


compare_app = typer.Typer(
    name="compare",
    help="""Hold methods against each other on the data and models of a finished lifecycle.

    Each method works in a scratch workspace of its own below .moteur/comparisons; what the lifecycle made stays as it
    is. A command that is stopped and given again goes on: what is finished is not run again. Pages and figures appear
    in reports/comparison.

    \b
    Examples:
      moteur compare finetuning
      moteur compare finetuning --quick
      moteur compare alignment
      moteur compare architectures
    """,
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(compare_app)


@compare_app.command("finetuning")
def compare_finetuning(
    workspace: Workspace = None,
    quick: Annotated[bool, typer.Option("--quick", help="A part of the data: a first look.")] = False,
    single_task: Annotated[
        list[str] | None,
        typer.Option("--single-task", metavar="TASK", help="Also train on it alone; may be repeated. [the largest]"),
    ] = None,
) -> None:
    """Full, LoRA, prompt tuning, biases and norms, replay, one task alone: scores, forgetting, memory, time.

    Same base model, instructions and seed. Where several learning rates are tried, the split valid chooses; scores are
    of the split test, over all tasks and for each.

    \b
    Examples:
      moteur compare finetuning
      moteur compare finetuning --quick --workspace .moteur/workspaces/tinystories
      moteur compare finetuning --single-task mood --single-task continuation
    """
    from flows import finetuning_comparison

    root = _enter(workspace)
    page = finetuning_comparison.run(root, typer.echo, quick=quick, single_tasks_asked=single_task or ())
    typer.echo(page.resolve())


@compare_app.command("alignment")
def compare_alignment(
    workspace: Workspace = None,
    quick: Annotated[bool, typer.Option("--quick", help="A third of PPO's iterations: a first look.")] = False,
) -> None:
    """PPO, DPO, GRPO, RLOO and best-of-n: gold score, rewards, KL, length, share finished, time.

    Same instruction model, reward model, prompts and pairs; the others get as many floating-point operations as PPO
    spends, sampling included. Measured on held-out prompts.

    \b
    Examples:
      moteur compare alignment
      moteur compare alignment --quick --workspace .moteur/workspaces/tinystories
    """
    from flows import alignment_comparison

    typer.echo(alignment_comparison.run(_enter(workspace), typer.echo, quick=quick).resolve())


@compare_app.command("architectures")
def compare_architectures(
    workspace: Workspace = None,
    quick: Annotated[bool, typer.Option("--quick", help="A part of the tokens: a first look.")] = False,
) -> None:
    """Llama, LSTM, RNN and MLP, BERT and T5: bits per byte, accuracy, parameters, speed, time of pretraining.

    Same tokens, steps and seed, about the same size. The causal ones say the next token, BERT masked tokens, T5
    corrupted spans. Where two learning rates are tried, the split valid chooses; figures are of the split test.

    \b
    Examples:
      moteur compare architectures
      moteur compare architectures --quick --workspace .moteur/workspaces/tinystories
    """
    from flows import architecture_comparison

    typer.echo(architecture_comparison.run(_enter(workspace), typer.echo, quick=quick).resolve())


@app.command()
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
    from flows import alerts as alerting

    _enter(workspace)
    if test:
        alerting.test()
    elif close is not None:
        alerting.close(close)
    else:
        alerting.show(everything=everything)


def _enter(
    workspace: Path | None, profile: Path | None = None, var: list[str] | None = None, *, make: bool = False
) -> Path:
    """Settle the workspace and change into it; with `make` one that is not there is made."""
    from flows import workspaces

    if var and profile is None:
        raise typer.BadParameter("--var fills in a profile: give --profile FILE too")
    if profile is None and (workspace is None or workspaces.is_one(workspace)):
        root = workspace.resolve() if workspace else workspaces.find(Path.cwd())
        workspaces.adopt(root)
    elif not make:
        raise ParamsError(
            f"--workspace {workspace} is neither a checkout nor a workspace (no dvc.yaml and params.yaml in it):"
            f" `moteur run --workspace {workspace}` makes one"
        )
    else:
        root = workspaces.make(Path.cwd(), workspace, profile, var or [])
    os.chdir(root)
    return root


def main() -> None:
    """Run the command line; an error of the world is a sentence and an exit code, never a traceback."""
    try:
        app()
    except MoteurError as error:
        typer.secho(f"moteur: {error}", err=True, fg=typer.colors.RED)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()

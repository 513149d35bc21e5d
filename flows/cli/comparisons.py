"""`moteur compare`: `finetuning`, `alignment` and `architectures`."""

from typing import Annotated

import typer

from flows.cli.options import Workspace, enter

app = typer.Typer(
    name="compare",
    help="""Compare methods on the data and models of a finished lifecycle.

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


@app.command("finetuning")
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
    from flows.comparisons import finetuning

    root = enter(workspace)
    page = finetuning.run(root, typer.echo, quick=quick, single_tasks_asked=single_task or ())
    typer.echo(page.resolve())


@app.command("alignment")
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
    from flows.comparisons import alignment

    typer.echo(alignment.run(enter(workspace), typer.echo, quick=quick).resolve())


@app.command("architectures")
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
    from flows.comparisons import architectures

    typer.echo(architectures.run(enter(workspace), typer.echo, quick=quick).resolve())

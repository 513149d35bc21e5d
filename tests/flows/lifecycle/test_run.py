"""What `moteur run` says at its end."""

from pathlib import Path

import pytest

from flows.lifecycle import run
from flows.stages import graph, ledger
from tests.flows import examples


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(examples.checkout(tmp_path))
    return tmp_path


def test_the_closing_table_names_what_ran_and_what_did_not(workspace: Path) -> None:
    examples.fill(workspace)
    from rich.console import Console

    console = Console(width=150, record=True, file=(workspace / "out").open("w"))
    ran: dict[str, object] = {"ppo": examples.entry("ppo", 71.9)}
    console.print(run.table(graph.load(), ran))  # type: ignore[arg-type]
    rows = {line.split()[0]: line for line in console.export_text().splitlines()}
    assert "unchanged" in rows["ingestion"]
    assert "1 min 12 s" in rows["ppo"]
    assert "gold 0.668" in rows["ppo"]
    assert "72" not in rows["evaluation"]


def test_the_closing_table_has_planned_times_only_where_there_was_a_plan(workspace: Path) -> None:
    examples.fill(workspace)
    entry = examples.entry("ppo", 71.9)
    heads = lambda: [column.header for column in run.table(graph.load(), {"ppo": entry}).columns]  # noqa: E731
    assert heads() == ["stage", "time", "memory", "made"]
    ledger.plan([{"run": entry["run"], "stage": "ppo", "tokens": None, "flops": None, "seconds": 125.0}])
    assert heads() == ["stage", "time", "planned", "memory", "made"]
    shown = run.table(graph.load(), {"ppo": entry})
    assert "2 min 05 s" in list(shown.columns[2].cells)


def test_a_run_that_ends_with_the_base_model_says_so_and_offers_no_chat(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    examples.end_with_base(workspace)
    whole = graph.load()
    quiet = graph.Graph(nodes=whole.nodes, changes={"finetuning": ("params.yaml modified",)})
    monkeypatch.setattr(graph, "load", lambda: quiet)
    monkeypatch.setattr(run, "drain", lambda: None)
    assert run.run(workspace, start=None, force=False) == 0
    said = capsys.readouterr().out
    assert "Nothing to do" in said
    assert "The lifecycle ends with the base model: pretraining.objective is masked" in said
    assert "hidden tokens restored 31.2 %" in said
    assert "moteur chat" not in said
    assert "ppo" not in said

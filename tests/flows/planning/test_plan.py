"""The plan: what a run will cost, estimated on this machine; and the ledger, planned beside used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.planning import budgeting, plan, scaling, speed
from flows.planning.speed import Speed
from flows.stages import figures, graph, ledger
from pipelines import params as schema
from pipelines import stage
from pipelines.adapters import files
from pipelines.artifacts import Artifact, State
from pipelines.core.judging import budgets
from pipelines.core.learning import pace
from pipelines.errors import ParamsError
from pipelines.params import Params
from tests.flows.examples import ROOT

TINY = {"hidden_size": 16, "num_layers": 1, "num_heads": 1, "intermediate_size": 32}
SPEED = Speed(parameters=801_152, tokens_per_second=20_000, flops_per_second=1e11)


def test_a_base_model_on_which_nothing_is_built_is_named_with_its_key_and_about_its_size() -> None:
    params = stage.load_params(ROOT / "params.yaml")
    masked = params.model_copy(update={"pretraining": params.pretraining.model_copy(update={"objective": "masked"})})
    assert "parameters (3 layers of 128)." in plan.model_lines(params)[0]
    assert (
        "about as many as the llama of 3 layers of 128 has; pretraining.objective is masked"
        in (plan.model_lines(masked)[0])
    )


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Params]:
    """A folder with params.yaml, in which we stand; call it to change keys of section pretraining."""
    monkeypatch.chdir(tmp_path)

    def changed(model: dict[str, Any] | None = None, **pretraining: Any) -> Params:
        values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        values["pretraining"] |= pretraining
        values["model"] |= model or {}
        Path("params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        return stage.load_params()

    return changed


def pipeline(*names: str) -> graph.Graph:
    nodes = tuple(graph.Node(name=name, description="", needs=(), deps=(), outs=()) for name in names)
    return graph.Graph(nodes=nodes, changes={})


def entry(name: str, run: str = "run-1", **changes: Any) -> ledger.Entry:
    fixed: Any = {"status": "finished", "seconds": 10.0, "flops": 2e12, "tokens": 5}
    return {**fixed, "run": run, "stage": name, **changes}


def test_the_speed_of_training_is_measured_by_real_steps_once_for_one_model(workspace: Callable[..., Params]) -> None:
    params = workspace(TINY, context=32, batch_size=2)
    assert speed.known(params) is None
    found = speed.measured(params)
    assert found.parameters == plan.parameters(params)
    assert found.tokens_per_second > 0
    assert speed.known(params) == found
    assert speed.known(workspace(TINY, context=32, batch_size=4)) is None


def test_a_speed_that_cannot_be_measured_is_said_with_the_reason(workspace: Callable[..., Params]) -> None:
    params = workspace(TINY)
    Path("params.yaml").unlink()
    with pytest.raises(speed.NotMeasured, match=r"could not be measured: params\.yaml is missing"):
        speed.measured(params)


@pytest.mark.parametrize("other", [{"processes": 2}, {"microbatch_size": 1}, {"objective": "masked"}])
def test_the_speed_of_a_training_that_is_not_the_measured_one_is_not_told(
    workspace: Callable[..., Params], other: dict[str, Any]
) -> None:
    with pytest.raises(
        speed.NotMeasured, match=rf"but pretraining\.{next(iter(other))} is {next(iter(other.values()))}"
    ):
        speed.measured(workspace(TINY, batch_size=2, **other))


def test_the_time_is_from_the_speed_and_after_a_run_from_that_run(workspace: Callable[..., Params]) -> None:
    params, stages = workspace(), pipeline("tokenization", "pretraining")
    first = {cost.stage: cost for cost in plan.estimate(params, stages, {}, SPEED)}
    flops = 6.0 * plan.parameters(params) * 1_400_000
    assert first["pretraining"].flops == flops
    assert first["pretraining"].seconds == pytest.approx(flops / 1e11)
    assert first["tokenization"].seconds is None
    half = {"pretraining": entry("pretraining", flops=flops / 2, seconds=40.0, pace=pace.key(params))}
    later = {cost.stage: cost for cost in plan.estimate(params, stages, half, None)}
    assert later["pretraining"].seconds == pytest.approx(80)
    assert "times 2.00" in later["pretraining"].basis


@pytest.mark.parametrize("changes", [{"batch_size": 1}, {"context": 32}, {"model": {"architecture": "lstm"}}])
def test_a_last_run_with_another_speed_is_no_estimate(
    workspace: Callable[..., Params], changes: dict[str, Any]
) -> None:
    other = pace.key(workspace(**changes))
    params, stages = workspace(), pipeline("pretraining")
    for before in (entry("pretraining", pace=other), entry("pretraining")):  # the latter of an older version
        (unknown,) = plan.estimate(params, stages, {"pretraining": before}, None)
        assert (unknown.seconds, unknown.basis) == (None, "its last run here had other settings")
        (known,) = plan.estimate(params, stages, {"pretraining": before}, SPEED)
        assert known.seconds == pytest.approx(6.0 * plan.parameters(params) * 1_400_000 / 1e11)
        assert known.basis.endswith("measured")


def test_the_speed_is_measured_where_the_last_run_had_another(
    workspace: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {"pretraining": entry("pretraining", pace=pace.key(workspace(batch_size=8)))}
    params = workspace(batch_size=1)
    monkeypatch.setattr(speed, "measured", lambda _params: SPEED)
    assert plan._speed(params, before) == SPEED
    assert plan._speed(params, {"pretraining": entry("pretraining", pace=pace.key(params))}) is None


@pytest.mark.parametrize(
    ("budget", "tokens"), [(None, 1_400_000), ("2 tokens/parameter", 1_602_304), ("4.806912e12 FLOPs", 1_000_000)]
)
def test_the_plan_counts_the_tokens_that_the_budget_pays_for(
    workspace: Callable[..., Params], budget: str | None, tokens: int
) -> None:
    params = workspace(budget=budget)
    assert plan.tokens(params) == tokens
    said = "\n".join(plan.model_lines(params))
    assert f"by pretraining.budget: {budget}" in said or budget is None
    assert "compute-optimal at scale are 20 (Chinchilla)" in said
    assert "by Chinchilla's 20 tokens for each parameter, as no law has been fitted here" in said


def test_what_is_planned_is_for_the_vocabulary_that_tokenization_made(workspace: Callable[..., Params]) -> None:
    asked = workspace(budget="20 tokens/parameter")
    values = asked.model_dump()
    values["tokenization"]["vocab_size"] = 16_384
    Path("params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    params = stage.load_params()
    before = plan.parameters(params)
    files.write_json(Artifact.TOKENS.path / "index.json", {"vocab_size": 1536})
    lock = {"stages": {"tokenization": {"params": {"params.yaml": {"tokenization": values["tokenization"]}}}}}
    Path("dvc.lock").write_text(yaml.safe_dump(lock), encoding="utf-8")
    assert plan.parameters(params) == plan.parameters(asked) < before
    assert plan.tokens(params) == 20 * plan.parameters(asked)
    assert scaling.planned_flops(params) == 6.0 * plan.parameters(asked) * plan.tokens(asked)
    assert budgeting.best_shape(params, 1e13, scaling.law()) == budgeting.best_shape(asked, 1e13, scaling.law())
    assert speed._key(params, params.model) == speed._key(asked, asked.model)


def test_the_disk_is_for_the_seven_models_that_stages_keep_and_for_the_corpus_as_it_is_written(
    workspace: Callable[..., Params],
) -> None:
    assert len(plan.MODELS) == 7
    values = workspace().model_dump()
    values["tokenization"]["vocab_size"] = 2**16
    values["compression"]["sparsities"] = [0.2, 0.3, 0.5]
    values["ppo"] |= {"iterations": 9, "measure_every": 4}
    params = schema.parse(values)
    same: Any = {"parameters": plan.parameters(params), "token_bytes": 2, "models": 7, "candidates": 4 + 2 * 3 + 2}
    splits = {"train": {"tokens": 9_000_000}, "valid": {"tokens": 500_000}}
    files.write_json(Artifact.TOKENS.path / "index.json", {"vocab_size": 2**16, "splits": splits})
    need = budgets.disk(tokens=9_500_000, checkpoints=3, pinned=3, **same)
    assert f"about {figures.size(need.total)} (" in plan.disk_lines(params, Path())[0]
    assert f"data {figures.size(need.data)})" in plan.disk_lines(params, Path())[0]
    values["pretraining"]["objective"] = "masked"
    base = budgets.disk(tokens=9_500_000, checkpoints=3, pinned=None, **same)
    assert f"checkpoints {figures.size(base.checkpoints)}," in plan.disk_lines(schema.parse(values), Path())[0]


def test_before_tokenization_the_data_are_local_files_or_left_out_with_a_word(workspace: Callable[..., Params]) -> None:
    values = workspace().model_dump()
    assert "; the data are not counted, as their size is not known before" in plan.disk_lines(workspace(), Path())[0]
    values["ingestion"]["corpus"] = {"train": [{"uri": "*.txt"}]}
    folder = Path(values["ingestion"]["root"])
    folder.mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"x" * 4_000_000)
    assert f"data {figures.size(2 * 1_000_000 * (2 + 8))})" in plan.disk_lines(schema.parse(values), Path())[0]


def test_a_settled_budget_is_in_params_and_in_the_plan_that_follows(
    workspace: Callable[..., Params], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace(budget="10 minutes")
    monkeypatch.setattr(
        graph, "load", lambda: graph.Graph(nodes=pipeline("pretraining").nodes, changes={"pretraining": ()})
    )
    monkeypatch.setattr(speed, "measured", lambda _params, _shape=None: SPEED)
    plan.show(Path("params.yaml"), apply="tokens")
    assert stage.load_params().pretraining.budget == "10 minutes at 100 GFLOP/s"
    said = capsys.readouterr().out
    assert "Written to params.yaml: measured with 801k parameters." in said
    assert "by pretraining.budget: 10 minutes at 100 GFLOP/s" in said
    assert "10 min 00 s" in said


def test_a_budget_that_is_not_settled_is_said_in_the_plan_and_refused_before_a_run(
    workspace: Callable[..., Params],
) -> None:
    for settings in ({"budget": "10 minutes"}, {"budget": "10 minutes", "init": "models/mine"}, {"budget": "9 FLOPs"}):
        params = workspace(**settings)
        with pytest.raises(ParamsError, match=r"^pretraining\.budget is "):
            plan.refuse_unsettled(params)
    assert "Pretraining: not settled. pretraining.budget is '9 FLOPs', which pays for" in plan.model_lines(params)[1]
    assert plan.estimate(params, pipeline("pretraining"), {}, SPEED)[0].seconds is None
    plan.refuse_unsettled(workspace(budget="10 minutes at 100 GFLOP/s"))


def test_after_a_run_the_ledger_has_what_was_planned_beside_what_was_used(workspace: Callable[..., Params]) -> None:
    params, stages = workspace(), pipeline("tokenization", "pretraining", "ppo")
    State.EFFORT.path.parent.mkdir()
    with State.EFFORT.path.open("w") as file:
        file.write(json.dumps(entry("ppo", run="run-0", tokens=30)) + "\n")
    plan.record("run-1", params, stages, {"pretraining", "ppo"})
    with State.EFFORT.path.open("a") as file:
        used = [entry("tokenization", flops=0), entry("pretraining", tokens=1_000_000), entry("ppo", tokens=40)]
        file.writelines(json.dumps(line) + "\n" for line in used)
    Path("reports").mkdir()
    Path("reports/pretraining.json").write_text('{"num_parameters": 500000}')
    rows = {row.stage: row for row in plan.used(stages, ledger.last_finished())}
    assert list(rows) == ["pretraining", "ppo"]
    assert rows["pretraining"].tokens == "1.4M / 1M"
    assert rows["pretraining"].ratio == "2"
    assert rows["pretraining"].flops == "6.73e+12 / 2.00e+12"
    assert rows["pretraining"].time == "? / 10.0 s"
    assert rows["ppo"].tokens == "30 / 40"
    assert rows["ppo"].time == "10.0 s / 10.0 s"


def test_a_stage_that_ran_without_a_plan_is_not_compared(workspace: Callable[..., Params]) -> None:
    params, stages = workspace(), pipeline("pretraining")
    plan.record("run-1", params, stages, {"pretraining"})
    assert plan.used(stages, {"pretraining": entry("pretraining", run="manual")}) == []

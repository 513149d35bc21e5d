"""`moteur scaling`: which small runs are made, that none is made twice, and what is fitted to them."""

import json
import math

import pytest
import yaml

from flows import process
from flows.planning import scaling
from pipelines import budget, stage
from pipelines.artifacts import Artifact, State
from pipelines.core.judging import budgets, sizes
from pipelines.core.judging.scaling import CHINCHILLA, Surface
from pipelines.errors import ArtifactError, DataError, ParamsError
from tests.flows.examples import ROOT

TRUE = Surface(irreducible=0.7, a=90.0, alpha=0.45, b=700.0, beta=0.5)
FLOPS = 9e11


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A tokenized workspace whose runs of pretraining only say the loss of a known law."""
    for artifact in (Artifact.TOKENS, Artifact.TOKENIZER):
        (tmp_path / artifact).mkdir(parents=True)
        (tmp_path / artifact / "made.txt").write_text(artifact, encoding="utf-8")
    (tmp_path / Artifact.TOKENS / "index.json").write_text('{"vocab_size": 1536}', encoding="utf-8")
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "pipelines").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def started(monkeypatch):
    """(FLOPs, parameters) of each run that was started."""
    calls = []

    def fake(command, environment, *, folder):
        params = stage.load_params(folder / "params.yaml")
        size = sizes.parameters(params.model, 1536)
        flops = budget.parse(params.pretraining.budget).compute
        calls.append((flops, size))
        tokens = budgets.affordable(flops, size)
        loss = TRUE.loss(size, tokens)
        report = {"num_parameters": size, "num_tokens": int(tokens), "val_loss": loss, "val_bits_per_byte": loss / 3}
        path = folder / Artifact.PRETRAINING_REPORT
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report | {"num_epochs": tokens / 2.5e6}), encoding="utf-8")
        entry = {"stage": "pretraining", "status": "finished", "seconds": 3.0, "peak_memory_mib": 9.0, "flops": flops}
        (folder / State.EFFORT).parent.mkdir(exist_ok=True)
        (folder / State.EFFORT).write_text(json.dumps(entry) + "\n", encoding="utf-8")
        return 0

    monkeypatch.setattr(process, "run", fake)
    return calls


def fitted(workspace, **options):
    said = []
    page = scaling.run(workspace, said.append, **{"flops": FLOPS, "quick": False, **options})
    return page.read_text(encoding="utf-8"), "\n".join(said)


def test_five_sizes_or_more_at_three_budgets_reach_past_the_best_and_their_law_is_found(workspace, started):
    page, said = fitted(workspace)
    groups = {flops: [size for other, size in started if other == flops] for flops, _ in started}
    assert sorted(groups) == pytest.approx([FLOPS / 9, FLOPS / 3, FLOPS])
    for flops, tried in groups.items():
        best = min(tried, key=lambda size: TRUE.loss(size, budgets.affordable(flops, size)))
        assert min(tried) < best < max(tried)
        assert len(tried) >= 5
    known = scaling.law()
    assert known.law.exponent == pytest.approx(TRUE.law.exponent, abs=0.05)
    assert known.law.parameters(FLOPS) == pytest.approx(TRUE.law.parameters(FLOPS), rel=0.1)
    assert known.source == "the fit of `moteur scaling`, whose runs go up to 9e+11 FLOPs"
    assert "Chinchilla: 20" in said
    assert "Cross-check, approach 3: loss = 0." in page
    assert page.count("<svg") == 2


def test_a_run_that_is_finished_is_made_once_even_when_params_of_other_stages_change(workspace, started):
    fitted(workspace)
    once = len(started)
    assert len(set(started)) == once
    values = yaml.safe_load((workspace / "params.yaml").read_text(encoding="utf-8"))
    values["ppo"]["iterations"] += 1
    (workspace / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    assert "made before" in fitted(workspace)[1]
    assert len(started) == once
    values["pretraining"]["learning_rate"] *= 2
    (workspace / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    fitted(workspace)
    assert len(started) == 2 * once


def test_a_quick_look_makes_fewer_runs_and_says_so(workspace, started):
    page, _ = fitted(workspace, quick=True, flops=None)
    planned = scaling.planned_flops(stage.load_params())
    assert max(flops for flops, _ in started) == pytest.approx(planned / 12)
    assert "A quick look" in page
    assert scaling.law().source.startswith("the quick fit")
    assert (workspace / State.COMPARISONS / "scaling-quick").is_dir()


def test_without_a_fit_the_law_is_chinchillas_and_that_is_said(workspace):
    known = scaling.law()
    assert known.law == CHINCHILLA
    assert "no law has been fitted here (`moteur scaling` does)" in known.source
    scaling.FITTED.parent.mkdir(parents=True)
    scaling.FITTED.write_text('{"law": {"coef', encoding="utf-8")
    assert scaling.law() == known


def test_too_little_compute_is_refused_before_the_first_run_with_what_suffices(workspace, started):
    with pytest.raises(ParamsError, match=r"pays for fewer than 16 steps of 2,048 tokens") as caught:
        fitted(workspace, flops=1e9)
    assert not started
    fitted(workspace, flops=float(str(caught.value).split("--flops ")[1].split()[0]))


def alter(monkeypatch, falls):
    """Make the loss only fall with the size at the budgets for which `falls` says so."""
    true = Surface.loss

    def loss(self, parameters, tokens):
        flops = budgets.training_flops(parameters, tokens)
        return 9 - 0.1 * math.log(parameters) if falls(flops) else true(self, parameters, tokens)

    monkeypatch.setattr(Surface, "loss", loss)


def test_losses_that_show_no_best_size_are_an_error_with_the_remedy_and_the_runs_are_kept(
    workspace, started, monkeypatch
):
    alter(monkeypatch, lambda _flops: True)
    said = r"so that no law is fitted: .* Run `moteur scaling --flops 2\.7e\+12`; runs that are finished are not made"
    with pytest.raises(DataError, match=said):
        fitted(workspace)
    once = len(started)
    with pytest.raises(DataError, match=said):
        fitted(workspace)
    assert len(started) == once
    assert scaling.law().law == CHINCHILLA


def test_a_budget_whose_best_size_lies_beyond_its_runs_is_shown_and_left_out_of_the_law(
    workspace, started, monkeypatch
):
    alter(monkeypatch, lambda flops: flops < FLOPS / 5)
    page, said = fitted(workspace)
    assert "1.00e+11" in page
    assert "not between these" in said
    assert "At 1.00e+11 FLOPs the best size does not lie between those that were tried" in said
    kept = json.loads(scaling.FITTED.read_text(encoding="utf-8"))
    assert [valley["flops"] for valley in kept["valleys"]] == pytest.approx([FLOPS / 3, FLOPS])
    assert len({run["flops"] for run in kept["runs"]}) == 3


def test_a_budget_of_time_without_a_speed_is_refused_before_the_first_run(workspace, started):
    values = yaml.safe_load((workspace / "params.yaml").read_text(encoding="utf-8"))
    values["pretraining"]["budget"] = "10 minutes"
    (workspace / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(ParamsError, match="depends on the speed of the machine"):
        fitted(workspace)
    assert not started


def test_without_tokens_the_command_that_makes_them_is_said(workspace):
    (workspace / Artifact.TOKENIZER).rename(workspace / "elsewhere")
    with pytest.raises(ArtifactError, match=r"models/tokenizer is missing\. Run `moteur run`"):
        fitted(workspace)

import json

import pytest
import yaml

from flows import process
from flows.comparisons import alignment, architectures, finetuning, methods
from pipelines import stage
from pipelines.adapters import datasets, files
from pipelines.artifacts import Artifact, State
from pipelines.core.judging import sizes
from pipelines.errors import ArtifactError, ParamsError
from tests.flows.examples import ROOT

FINETUNING = {"trainable_parameters": 1000, "num_tokens": 5000, "rouge_l": 0.3}
EXACT = {"full": 0.7, "lora": 0.68, "bitfit": 0.3, "prompt_tuning": 0.2}
ALIGNED = {
    "reward_before": 0.0,
    "held_out_reward_before": -0.4,
    "held_out_reward_after": 0.3,
    "gold_before": 0.7,
    "gold_gain": 0.05,
    "gold_gain_low": 0.02,
    "gold_gain_high": 0.08,
    "gold_after": 0.75,
    "kl": 1.5,
    "length_before": 50.0,
    "length_after": 52.0,
    "finished_before": 0.95,
    "finished_after": 0.9,
    "steps": 9,
    "num_prompts": 20,
}


BITS = {"llama": 0.5, "lstm": 0.8, "rnn": 0.9, "mlp": 1.0}


def tokens_of(settings):
    """Mood has half of the records and a fifth of the tokens."""
    return round(1e5 * settings["epochs"] * (0.2 if settings["task_weights"].get("continuation") == 0 else 1.0))


def by_task(settings, exact):
    """What is left out is not learnt."""
    weights = settings["task_weights"]
    scores = {"continuation": ("rouge_l", 0.4), "mood": ("exact_match", exact)}
    means = {task: (name, 0.1 if weights.get(task) == 0 else mean) for task, (name, mean) in scores.items()}
    spread = {"low": 0.05, "high": 0.95, "count": 10}
    return {task: {name: {"mean": mean, **spread}} for task, (name, mean) in means.items()}


def settings_of(params):
    return params["pretraining"]["objective"] == "causal", params["model"]["architecture"]


def pretrained(params, folder):
    """The recurrent models learn more at the greater rate."""
    causal, name = settings_of(params)
    curve = folder / Artifact.PRETRAINING_CURVE
    curve.parent.mkdir(parents=True, exist_ok=True)
    curve.write_text(f"step,{'val_bits_per_byte' if causal else 'val_loss'}\n1,1.5\n2,1.0\n", encoding="utf-8")
    settings = params["pretraining"]
    loss = 2.0 if name in ("lstm", "rnn") and settings["learning_rate"] == 0.02 else 2.5 + settings["learning_rate"]
    return {"val_loss": loss, "num_tokens": settings["max_tokens"], "num_steps": 10}


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A finished lifecycle of empty artifacts, in which programs only say what they would have reported."""
    for artifact in Artifact:
        if "." not in artifact.path.name:
            (tmp_path / artifact).mkdir(parents=True)
            (tmp_path / artifact / "made.txt").write_text(artifact, encoding="utf-8")
    records = [{"task": task} for task in ("mood", "mood", "mood", "continuation", "continuation", "continuation")]
    files.write_jsonl(datasets.file(tmp_path / Artifact.VALIDATED, "instructions", "train"), records)
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines/finetuning.py").write_text("as it is", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def started(monkeypatch):
    """What was started: (method's folder, module, arguments)."""
    calls = []

    def fake(command, environment, *, folder):
        module, *arguments = [part.removeprefix("pipelines.") for part in command[2:]]
        calls.append((folder.name, module, *arguments))
        params = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
        settings = params["finetuning"]
        if module == "finetuning":
            report = {**FINETUNING, "exact_match": EXACT[settings["method"]] - settings["learning_rate"]}
            report["num_tokens"] = tokens_of(settings)
            place = folder / Artifact.FINETUNING_REPORT
        elif module == "finetuning_comparison":
            exact = 0.0 if folder.name == "base" else EXACT[settings["method"]]
            spread = {"exact_match_low": exact - 0.05, "exact_match_high": exact + 0.05}
            forgot = {"full": 0.2, "lora": 0.05}.get(settings["method"], 0.0)
            report = {"exact_match": exact, "exact_match_story_removed": 0.1, "rouge_l": 0.3, **spread}
            report |= {"forgetting": forgot, "by_task": by_task(settings, exact)}
            place = folder / State.MEASURED
        elif module == "pretraining":
            report, place = pretrained(params, folder), folder / Artifact.PRETRAINING_REPORT
        elif module == "architecture_comparison":
            causal, name = settings_of(params)
            report = {"bits_per_byte": BITS[name] if causal else None, "accuracy": 0.4, "loss": 2.0, "num_asked": 99}
            report |= {"num_parameters": 800_000, "objective": params["pretraining"]["objective"]}
            place = folder / State.MEASURED
        elif module == "ppo":
            report, place = {"iterations": 12}, folder / Artifact.PPO_REPORT
        else:
            method, flops = arguments
            count = 8 if method == "best-of-n" else 1
            report = {"method": method, "flops": float(flops), "candidates": count, "reward_after": 1.0, **ALIGNED}
            place = folder / State.MEASURED
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(report), encoding="utf-8")
        entry = {"stage": module, "status": "finished", "seconds": 3.0, "peak_memory_mib": 100.0, "flops": 1e12}
        (folder / State.EFFORT).parent.mkdir(exist_ok=True)
        with (folder / State.EFFORT).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        return 0

    monkeypatch.setattr(process, "run", fake)
    return calls


def test_each_method_of_finetuning_is_tried_and_the_best_on_valid_is_measured(workspace, started):
    said = []
    page = finetuning.run(workspace, said.append, quick=False)
    trained = [name for name, module, *_ in started if module == "finetuning"]
    alone = [f"full, mood alone{more}" for more in ("", ", as many tokens", ", as many tokens, replay 0%")]
    assert len(trained) == len(set(trained)) == sum(map(len, finetuning.METHODS.values())) + len(alone)
    measured = [name for name, module, *_ in started if module == "finetuning_comparison"]
    assert len(measured) == 1 + len(finetuning.METHODS) + len(alone)
    assert "bitfit_adamw_0.02" in measured
    assert "bitfit_adamw_0.05" not in measured
    assert any(line.startswith("LoRA keeps 97% of the gain") and "is met" in line for line in said)
    assert any(line.startswith("Without replay LoRA keeps 97% of the gain") for line in said)
    assert made(workspace, "lora_replay_0_train_embeddings_False_rank_64_alpha_128_merge_scale_0.88")["lora"] == {
        "rank": 64, "alpha": 128, "dropout": 0.0, "train_embeddings": False, "merge_scale": 0.88
    }  # fmt: skip
    assert "LoRA keeps 97%" in page.read_text(encoding="utf-8")
    rows = json.loads((workspace / "reports/comparison/finetuning.json").read_text(encoding="utf-8"))["rows"]
    assert [row["name"] for row in rows] == ["base", *finetuning.METHODS, *alone]


def test_the_largest_task_of_the_mixture_is_trained_on_alone_for_the_same_passes_and_for_as_many_tokens(
    workspace, started
):
    said = []
    page = finetuning.run(workspace, said.append, quick=False).read_text(encoding="utf-8")
    names = ("full", "full_mood_alone", "full_mood_alone_4_epochs", "full_replay_0_mood_alone_4_epochs")
    mixture, short, long, bare = (made(workspace, name) for name in names)
    assert short == {**mixture, "task_weights": {"continuation": 0.0, "mood": 1.0}}
    assert long == {**short, "epochs": 4.0}
    assert bare == {**long, "replay_share": 0.0}
    assert mixture["epochs"] == 0.8
    rows = json.loads((workspace / "reports/comparison/finetuning.json").read_text(encoding="utf-8"))["rows"]
    tokens = {row["name"]: row["num_tokens"] for row in rows}
    assert tokens["full, mood alone, as many tokens"] == tokens["full"] == 5 * tokens["full, mood alone"]
    words = "score 0.700, 0.700, 0.700; mean score of the other tasks 0.400, 0.100, 0.100 (base model 0.400)"
    assert any(words in line for line in said)
    assert words in page
    assert "0.700 (0.050 to 0.950)" in page
    assert not any("0.050 to 0.950" in line for line in said)


def made(workspace, name):
    path = workspace / State.COMPARISONS / "finetuning" / name / "params.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))["finetuning"]


def test_tasks_that_are_asked_for_are_trained_on_alone_with_the_weight_they_have_in_the_mixture(workspace, started):
    asked = ["continuation", "mood"]
    finetuning.run(workspace, lambda _line: None, quick=False, single_tasks_asked=asked)
    assert made(workspace, "full_continuation_alone")["task_weights"] == {"continuation": 0.4, "mood": 0.0}
    assert made(workspace, "full_mood_alone")["task_weights"] == {"continuation": 0.0, "mood": 1.0}


def test_a_single_task_that_the_data_lack_is_an_error_that_lists_the_tasks_before_anything_is_trained(
    workspace, started
):
    with pytest.raises(ParamsError, match=r"--single-task names \['joke'\].*\['continuation', 'mood'\]"):
        finetuning.run(workspace, lambda _line: None, quick=True, single_tasks_asked=["joke"])
    assert not started


def test_data_of_one_task_are_no_mixture_and_nothing_is_held_against_it(workspace, started):
    records = [{"task": "mood"}]
    files.write_jsonl(datasets.file(workspace / Artifact.VALIDATED, "instructions", "train"), records)
    finetuning.run(workspace, lambda _line: None, quick=True)
    assert not any("alone" in name for name, *_ in started)


@pytest.mark.parametrize("changed", [f"{Artifact.BASE}/made.txt", "pipelines/finetuning.py"])
def test_what_is_finished_is_not_run_again_until_inputs_or_code_change(workspace, started, changed):
    finetuning.run(workspace, lambda _line: None, quick=True)
    once = len(started)
    finetuning.run(workspace, lambda _line: None, quick=True)
    assert len(started) == once
    (workspace / changed).write_text("another", encoding="utf-8")
    finetuning.run(workspace, lambda _line: None, quick=True)
    assert len(started) == 2 * once


def test_the_models_of_the_workspace_are_read_through_links_and_never_written_to(workspace, started):
    finetuning.run(workspace, lambda _line: None, quick=True)
    place = workspace / State.COMPARISONS / "finetuning-quick" / "full"
    assert (place / Artifact.BASE).resolve() == workspace / Artifact.BASE
    assert not (place / Artifact.SFT).exists()
    assert (workspace / Artifact.SFT / "made.txt").read_text(encoding="utf-8") == Artifact.SFT


def test_the_other_methods_of_alignment_get_the_operations_that_ppo_spent(workspace, started):
    page = alignment.run(workspace, lambda _line: None, quick=False)
    budgets = {call[2]: call[3] for call in started if call[1] == "alignment_comparison"}
    assert budgets == dict.fromkeys(("ppo", "dpo", "grpo", "rloo", "best-of-n"), "1e+12")
    assert "best of 8" in page.read_text(encoding="utf-8")
    linked = workspace / State.COMPARISONS / "alignment/dpo" / Artifact.HELD_OUT_REWARD
    assert linked.is_symlink()


def test_each_architecture_and_objective_is_trained_on_the_same_tokens_and_its_best_on_valid_is_measured(
    workspace, started
):
    said = []
    page = architectures.run(workspace, said.append, quick=True)
    trained = [name for name, module, *_ in started if module == "pretraining"]
    assert len(trained) == len(set(trained)) == sum(map(len, architectures.METHODS.values()))
    measured = [name for name, module, *_ in started if module == "architecture_comparison"]
    assert len(measured) == len(architectures.METHODS)
    assert [name for name in measured if "muon" in name] == ["lstm_muon_0.02", "rnn_muon_0.02"]
    rows = json.loads((workspace / "reports/comparison/architectures.json").read_text(encoding="utf-8"))["rows"]
    assert [row["name"] for row in rows] == ["llama", "lstm", "rnn", "mlp", "bert", "t5"]
    assert {row["num_tokens"] for row in rows} == {500_000}
    assert [row["bits_per_byte"] for row in rows] == [0.5, 0.8, 0.9, 1.0, None, None]
    words = "With attention 38% fewer bits per byte than the best without, lstm: 0.500 and 0.800."
    assert words in said
    assert words in page.read_text(encoding="utf-8")
    table = next(line for line in said if line.startswith("model"))
    assert [line.split()[0] for line in table.splitlines()[1:]] == [row["name"] for row in rows]


@pytest.mark.parametrize("quick", [True, False])
def test_a_budget_is_what_it_pays_for_of_the_llama_and_the_same_tokens_for_all(workspace, started, quick):
    path = workspace / "params.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    values["pretraining"]["budget"] = "2 tokens/parameter"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    architectures.run(workspace, lambda _line: None, quick=quick)
    places = list((workspace / State.COMPARISONS / ("architectures-quick" if quick else "architectures")).iterdir())
    given = [yaml.safe_load((place / "params.yaml").read_text(encoding="utf-8"))["pretraining"] for place in places]
    assert {settings["budget"] for settings in given} == {None}
    params = stage.load_params()
    paid = 2 * sizes.parameters(params.model, params.tokenization.vocab_size)
    assert {settings["max_tokens"] for settings in given} == {500_000 if quick else paid}


def test_where_no_question_has_a_context_the_cell_of_what_is_guessed_is_empty():
    figures = {"exact_match": 0.5, "exact_match_low": 0.4, "exact_match_high": 0.6, "rouge_l": None, "forgetting": 0.0}
    measured = methods.Outcome(
        report={**figures, "exact_match_story_removed": None}, seconds=1.0, peak_memory_mib=1.0, flops=0.0, again=False
    )
    row = finetuning.Row(name="base", candidate=None, trained=None, measured=measured)
    assert finetuning._cells(row)[finetuning.COLUMNS.index("story removed")] == "-"


def test_all_begin_with_random_weights_and_the_llama_as_the_params_say(workspace, started):
    path = workspace / "params.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    values["pretraining"] |= {"init": "somewhere", "learning_rate": 0.007}
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    architectures.run(workspace, lambda _line: None, quick=True)
    for place in (workspace / State.COMPARISONS / "architectures-quick").iterdir():
        settings = yaml.safe_load((place / "params.yaml").read_text(encoding="utf-8"))["pretraining"]
        assert settings["init"] is None
        assert settings["learning_rate"] == (0.02 if place.name.endswith("0.02") else 0.007)


def test_a_program_that_fails_ends_the_comparison_with_its_exit_code(workspace, monkeypatch):
    monkeypatch.setattr(process, "run", lambda *_args, **_options: 6)
    with pytest.raises(methods.MethodFailed, match=r"ppo of ppo failed \(exit code 6\).*not run again") as caught:
        alignment.run(workspace, lambda _line: None, quick=False)
    assert caught.value.exit_code == 6


def test_a_missing_input_says_how_to_make_it(workspace):
    (workspace / Artifact.BASE).rename(workspace / "elsewhere")
    with pytest.raises(ArtifactError, match=r"models/base is missing\. Run `moteur run`"):
        finetuning.run(workspace, lambda _line: None, quick=False)

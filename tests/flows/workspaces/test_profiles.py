"""Profiles: merged strictly, filled with variables, every error with file, key and remedy."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.workspaces import profiles
from pipelines.errors import ParamsError
from tests.flows.examples import ROOT

BASE: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", sorted((ROOT / "profiles").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_tokens_of_a_profile_are_not_overridden_by_a_budget_in_params(path: Path) -> None:
    budgeted = {**BASE, "pretraining": {**BASE["pretraining"], "budget": "20 tokens/parameter"}}
    over = yaml.safe_load(path.read_text(encoding="utf-8"))
    merged = profiles.merge(budgeted, over, path.name)["pretraining"]
    assert (merged["max_tokens"], merged["budget"]) == (over["pretraining"]["max_tokens"], None)


def test_sections_are_merged_and_lists_are_replaced() -> None:
    over = {"model": {"num_layers": 1}, "evaluation": {"shots": [0]}}
    merged = profiles.merge(BASE, over, "profile p")
    assert merged["model"] == {**BASE["model"], "num_layers": 1}
    assert merged["evaluation"]["shots"] == [0]
    assert merged["ppo"] == BASE["ppo"]


def test_merging_leaves_the_base_alone() -> None:
    before = yaml.safe_dump(BASE)
    profiles.merge(BASE, {"model": {"num_layers": 1}}, "profile p")
    assert yaml.safe_dump(BASE) == before


def test_unknown_keys_are_named_with_the_profile_and_what_was_meant() -> None:
    with pytest.raises(ParamsError) as caught:
        profiles.merge(BASE, {"model": {"num_layer": 1}, "pro": {}}, "profile p.yaml")
    text = str(caught.value)
    assert text.startswith("profile p.yaml is not valid:")
    assert "model.num_layer: no such key; did you mean model.num_layers?" in text
    assert "pro: no such key; did you mean ppo?" in text


def test_a_key_that_params_yaml_leaves_out_but_the_schema_knows_may_be_given() -> None:
    over = {"ingestion": {"preferences": {"train": [{"uri": "a.jsonl"}]}}}
    assert profiles.merge(BASE, over, "p")["ingestion"]["preferences"] == {"train": [{"uri": "a.jsonl"}]}


def test_the_keys_of_task_weights_are_the_users_own() -> None:
    merged = profiles.merge(BASE, {"finetuning": {"task_weights": {"mood": 0.5}}}, "p")
    assert merged["finetuning"]["task_weights"] == {"mood": 0.5}


def test_a_wrong_type_in_a_profile_names_the_profile() -> None:
    with pytest.raises(ParamsError, match=r"profile p is not valid:\n  model\.num_layers is 'two'"):
        profiles.merge(BASE, {"model": {"num_layers": "two"}}, "profile p")


def profile(folder: Path, text: str) -> Path:
    path = folder / "p.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_variables_come_from_the_command_line_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAME", "from the environment")
    monkeypatch.setenv("OTHER", "other")
    path = profile(tmp_path, "a: ${NAME}\nb: ['x ${OTHER} y', 3]\n")
    assert profiles.read(path, {"NAME": "given"}) == {"a": "given", "b": ["x other y", 3]}


def test_a_folder_in_a_variable_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    path = profile(tmp_path, "root: ${DATA}\n")
    assert profiles.read(path, {"DATA": "here"}) == {"root": str(tmp_path / "here")}


def test_a_missing_variable_says_how_to_set_it(tmp_path: Path) -> None:
    path = profile(tmp_path, "root: ${DATA_THAT_NOBODY_SET}\n")
    with pytest.raises(ParamsError, match="add --var DATA_THAT_NOBODY_SET=VALUE, or set the environment variable"):
        profiles.read(path, {})


@pytest.mark.parametrize(
    ("text", "said"), [("a: [1\n", "is not YAML"), ("- 1\n", "must be a mapping"), ("", "mapping")]
)
def test_a_profile_that_is_no_mapping_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ParamsError, match=said):
        profiles.read(profile(tmp_path, text), {})


def test_a_missing_profile_comes_with_the_one_that_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(ParamsError, match=r"is not a file; did you mean profiles/smoke\.yaml\?"):
        profiles.read(Path("profiles/smok.yaml"), {})


def test_an_assignment_without_equals_is_refused() -> None:
    with pytest.raises(ParamsError, match="write --var NAME=VALUE"):
        profiles.variables(["DATA"])


@pytest.mark.parametrize("path", sorted((ROOT / "profiles").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_profiles_of_the_checkout_are_valid(path: Path) -> None:
    merged = profiles.merge(BASE, profiles.read(path, {"DATA": "/data"}), f"profile {path.name}")
    assert merged != BASE

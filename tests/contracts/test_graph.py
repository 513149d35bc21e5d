"""dvc.yaml and the code of each stage say the same."""

import re
from typing import Any

import pytest
import yaml

from pipelines.artifacts import Artifact
from pipelines.params import Params
from tests.contracts import source

GRAPH: dict[str, Any] = yaml.safe_load((source.ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
STAGES = list(GRAPH)
NAME = re.compile(r"\$\{Artifact\.(\w+)\}")


def listed(stage: str, *kinds: str) -> list[str]:
    """The paths in a stage's lists, as dvc.yaml writes them; settings of a path are left out."""
    entries = [entry for kind in kinds for entry in GRAPH[stage].get(kind, [])]
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def module(stage: str) -> str:
    return f"pipelines/{stage}.py"


def pasted(lines: set[str]) -> str:
    return "\n".join(f"      - {line}" for line in sorted(lines))


@pytest.mark.parametrize("stage", STAGES)
def test_the_artifacts_a_stage_names_are_its_deps_and_outs(stage: str) -> None:
    named = set().union(*(source.attributes(path, "Artifact") for path in source.closure(module(stage))))
    in_graph = set(NAME.findall(" ".join(listed(stage, "deps", "outs", "metrics", "plots"))))
    named &= set(Artifact.__members__)
    assert named == in_graph, (
        f"{stage}: the code names {sorted(named - in_graph)} that dvc.yaml lacks;"
        f" dvc.yaml lists {sorted(in_graph - named)} that the code does not name"
    )


@pytest.mark.parametrize("stage", STAGES)
def test_the_params_a_stage_reads_are_its_params(stage: str) -> None:
    read = source.attributes(module(stage), "params") & set(Params.model_fields)
    in_graph = {entry.split(".")[0] for entry in GRAPH[stage].get("params", [])}
    assert read == in_graph, f"in dvc.yaml, stage {stage}:\n    params: [{', '.join(sorted(read))}]"


@pytest.mark.parametrize("stage", STAGES)
def test_only_the_stage_itself_sees_all_params(stage: str) -> None:
    below = source.closure(module(stage)) - {module(stage)}
    assert not [path for path in sorted(below) if "Params" in source.names(path)]


@pytest.mark.parametrize("stage", STAGES)
def test_the_code_deps_of_a_stage_are_what_it_imports(stage: str) -> None:
    wanted = source.closure(module(stage))
    code = {path for path in listed(stage, "deps") if path.endswith(".py")}
    others = {path for path in listed(stage, "deps") if not path.endswith(".py")}
    assert code == wanted, f"in dvc.yaml, stage {stage}:\n    deps:\n{pasted(others)}\n{pasted(set(wanted))}"


@pytest.mark.parametrize("stage", STAGES)
def test_code_deps_are_files_and_never_folders(stage: str) -> None:
    code = [path for path in listed(stage, "deps") if path.startswith("pipelines")]
    assert all((source.ROOT / path).is_file() for path in code)


@pytest.mark.parametrize("stage", STAGES)
def test_the_description_is_the_first_line_of_the_docstring(stage: str) -> None:
    docstring = source.docstring(module(stage))
    assert GRAPH[stage]["desc"] == docstring.splitlines()[0]


@pytest.mark.parametrize("stage", STAGES)
def test_one_name_runs_through(stage: str) -> None:
    assert GRAPH[stage]["cmd"] == f"python -m pipelines.{stage}"
    assert Artifact[f"{stage.upper()}_REPORT"] == f"reports/{stage}.json"
    assert f"{stage.upper()}_REPORT" in NAME.findall(" ".join(listed(stage, "metrics")))


def test_every_artifact_has_one_maker() -> None:
    made = [name for stage in STAGES for name in NAME.findall(" ".join(listed(stage, "outs", "metrics", "plots")))]
    assert sorted(made) == sorted(
        set(Artifact.__members__) - {"CONSTITUTION", "FEEDBACK_BY_PEOPLE", "REWARD_FUNCTIONS"}
    )


def test_stages_never_import_one_another() -> None:
    files = {module(stage) for stage in STAGES}
    crossing = {path: sorted((source.closure(path) & files) - {path}) for path in sorted(files)}
    assert not {path: found for path, found in crossing.items() if found}

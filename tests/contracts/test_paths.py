"""Every path of the pipeline stands in pipelines/artifacts.py, once."""

import ast
import re

from pipelines.artifacts import Artifact, Display, State
from tests.contracts import source

PATH = re.compile(r"(\.moteur|reports|models)/[\w./-]+")
FILES = sorted(
    file.relative_to(source.ROOT).as_posix()
    for folder in ("pipelines", "flows", "serving")
    for file in (source.ROOT / folder).rglob("*.py")
    if file.name != "artifacts.py"
)


def literals(path: str) -> list[str]:
    """Strings that are a path of a workspace, and what is joined to the bare folder of its state."""
    found = []
    for node in ast.walk(source.tree(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and PATH.fullmatch(node.value):
            found.append(f"{path}:{node.lineno} {node.value}")
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            left = ast.unparse(node.left)
            if re.search(r"\bState\.ROOT\b", left):
                found.append(f"{path}:{node.lineno} {ast.unparse(node)}")
    return found


def test_no_other_file_writes_a_path_down() -> None:
    assert not [found for path in FILES for found in literals(path)]


def test_no_path_has_two_names() -> None:
    every = [place.value for kind in (Artifact, Display, State) for place in kind]
    assert len(every) == len(set(every))


def test_what_a_workspace_remembers_lies_in_one_folder() -> None:
    assert all(place == State.ROOT or place.startswith(f"{State.ROOT}/") for place in State)

"""What a module of ours says about itself, read from its syntax tree."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FRAME = {
    "pipelines/artifacts.py",
    "pipelines/stage.py",
    "pipelines/errors.py",
    "pipelines/adapters/tracking.py",
    "pipelines/adapters/lineage.py",
    "pipelines/adapters/quiet.py",
    *(file.relative_to(ROOT).as_posix() for file in (ROOT / "pipelines/params").glob("*.py")),
}
"""It cannot change the bytes of an output."""


LOADED_BY_PATH = {"pipelines/adapters/metrics.py": "pipelines/core/judging/answer_score.py"}
"""Files that a library loads by their path, beside who says so."""


@cache
def tree(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def module_file(name: str) -> str | None:
    """`pipelines.a.b` -> `pipelines/a/b.py` when there is such a file."""
    path = name.replace(".", "/") + ".py"
    return path if name.startswith("pipelines.") and (ROOT / path).is_file() else None


def imports(path: str) -> set[str]:
    """Files of `pipelines` that a file names: by import, also inside functions, or by its dotted name in a string."""
    found: set[str | None] = set()
    hidden = {id(node) for branch in ast.walk(tree(path)) if _only_for_types(branch) for node in ast.walk(branch)}
    for node in ast.walk(tree(path)):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            found |= {module_file(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {module_file(node.module), *(module_file(f"{node.module}.{alias.name}") for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(module_file(node.value))
    found.add(LOADED_BY_PATH.get(path))
    return {item for item in found if item}


def _only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@cache
def closure(path: str) -> frozenset[str]:
    """The file and all it imports, directly or not, less the frame."""
    seen: set[str] = set()
    waiting = [path]
    while waiting:
        current = waiting.pop()
        if current in seen or current in FRAME:
            continue
        seen.add(current)
        waiting += imports(current)
    return frozenset(seen)


def attributes(path: str, of: str) -> set[str]:
    """X for every `of.X` in the file."""
    return {
        node.attr
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == of
    }


def names(path: str) -> set[str]:
    """Every bare name and attribute in the file."""
    return {
        node.id if isinstance(node, ast.Name) else node.attr
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Name | ast.Attribute)
    }


def docstring(path: str) -> str:
    return ast.get_docstring(tree(path)) or ""

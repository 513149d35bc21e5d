"""Reward functions of the user's: Python below `reward_functions` in the checkout, imported and called in our process.

This runs the user's code, with all that this process may do, as running the checkout does.
"""

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.artifacts import Artifact
from pipelines.core.learning.reward_mixture import RewardFunction
from pipelines.errors import ParamsError
from pipelines.params import RewardFunction as Entry

TRIED = {"Tell me a story.": "Ann had a boat.", "Who had the boat?": ""}
"""Prompts and responses with which each function is tried before anything is trained."""


def load(entries: Sequence[Entry]) -> list[RewardFunction]:
    """Import the functions that `ppo.reward_functions` names and try each.

    Raises:
        ParamsError: when one cannot be imported or lies elsewhere.
        TrainingError: when it fails, or does not return one finite number for each response.
    """
    functions = []
    for number, entry in enumerate(entries):
        name = f"ppo.reward_functions[{number}].function, {entry.function},"
        function = RewardFunction(name=name, weight=entry.weight, call=_imported(name, *entry.function.split(":")))
        function.rewards(list(TRIED), list(TRIED.values()))
        functions.append(function)
    return functions


def sources() -> list[Path]:
    """Everything that the functions are made of or read: a training depends on its content."""
    found = Artifact.REWARD_FUNCTIONS.path.rglob("*")
    return sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts)


def _imported(name: str, module: str, attribute: str) -> Callable[[list[str], list[str]], Any]:
    folder = Artifact.REWARD_FUNCTIONS.path.resolve()
    with _importable(folder.parent):
        try:
            imported = importlib.import_module(module)
        except (Exception, SystemExit) as error:
            raise ParamsError(
                f"{name} cannot be imported ({type(error).__name__}: {error}): correct the name in params.yaml, or the"
                " module."
            ) from error
    if not Path(imported.__file__ or "/").resolve().is_relative_to(folder):
        raise ParamsError(f"{name} is {imported.__file__} and not below {folder}: give the module another name.")
    function: Any = getattr(imported, attribute, None)
    if not callable(function):
        raise ParamsError(f"{name} is no function: {imported.__file__} has no function {attribute}.")
    return function  # type: ignore[no-any-return]


@contextmanager
def _importable(root: Path) -> Iterator[None]:
    """Import from `root` first, and leave no compiled files there: they could be older than a module just changed."""
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    if sys.path[:1] != [str(root)]:
        sys.path.insert(0, str(root))  # for good: a function may import when it is called
    try:
        yield
    finally:
        sys.dont_write_bytecode = before

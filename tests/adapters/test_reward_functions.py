"""Functions of the user's: imported from the checkout, tried before anything is trained."""

import pytest

from pipelines.adapters import reward_functions
from pipelines.errors import ParamsError, TrainingError
from pipelines.params import RewardFunction
from tests import learning

MODULE = """
from reward_functions.helping import half

NUMBER = 3

def brief(prompts, responses):
    return [-half(len(text)) for text in responses]

def broken(prompts, responses):
    return []
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with learning.reward_functions(mine=MODULE, helping="def half(number):\n    return number / 2\n") as folder:
        yield folder


def load(*names):
    return reward_functions.load([RewardFunction(function=name, weight=0.5) for name in names])


def test_a_function_of_the_checkout_is_imported_with_what_it_needs(checkout):
    (function,) = load("reward_functions.mine:brief")
    assert function.weight == 0.5
    assert function.rewards(["p"], ["four"]).tolist() == [-2.0]
    assert not list(checkout.rglob("*.pyc"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("reward_functions.mein:brief", "cannot be imported (ModuleNotFoundError"),
        ("reward_functions.wrong:f", "cannot be imported (SyntaxError"),
        ("reward_functions.leaves:f", "cannot be imported (SystemExit"),
        ("reward_functions.mine:brie", "mine.py has no function brie"),
        ("reward_functions.mine:NUMBER", "mine.py has no function NUMBER"),
    ],
)
def test_what_is_no_function_is_an_error_with_the_key(checkout, name, words):
    (checkout / "wrong.py").write_text("def f(:\n")
    (checkout / "leaves.py").write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(ParamsError) as caught:
        load("reward_functions.mine:brief", name)
    assert f"ppo.reward_functions[1].function, {name}," in str(caught.value)
    assert words in str(caught.value)


def test_a_function_that_does_not_reward_every_response_is_refused_at_the_start(checkout):
    with pytest.raises(TrainingError, match=r"ppo\.reward_functions\[0\]\.function, .*returned 0 rewards for 2"):
        load("reward_functions.mine:broken")


def test_a_module_of_that_name_elsewhere_is_refused(checkout, tmp_path, monkeypatch):
    load("reward_functions.mine:brief")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    with pytest.raises(ParamsError, match="and not below"):
        load("reward_functions.mine:brief")


def test_all_that_functions_are_made_of_is_a_source(checkout):
    (checkout / "words.txt").write_text("kind\n")
    (checkout / "__pycache__").mkdir()
    (checkout / "__pycache__" / "mine.pyc").write_bytes(b"")
    assert [path.name for path in reward_functions.sources()] == ["helping.py", "mine.py", "words.txt"]

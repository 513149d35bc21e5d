"""The console: one conversation, in pieces, within the model's context."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.adapters import models
from pipelines.errors import MoteurError
from serving import chat
from tests.fixtures import tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model"
    tokenizer = tiny_tokenizer(["Ben had a boat.", "It began to rain."])
    models.save(tiny_model(tokenizer, context=64), tokenizer, path)
    return path


@pytest.fixture
def console(folder: Path) -> chat.Console:
    model, tokenizer = models.load_causal(folder), models.load_tokenizer(folder)
    return chat.Console(model, tokenizer, max_new_tokens=8, temperature=0.0)


def test_the_pieces_together_are_the_answer_that_is_remembered(console: chat.Console) -> None:
    said = "".join(console.ask("Ben had a boat."))
    assert console.messages == [
        {"role": "user", "content": "Ben had a boat."},
        {"role": "assistant", "content": said},
    ]


def test_greedy_answers_are_the_same_again(console: chat.Console) -> None:
    first = list(console.ask("Ben had a boat."))
    console.forget()
    assert list(console.ask("Ben had a boat.")) == first


def test_old_turns_make_room(console: chat.Console) -> None:
    for _ in range(8):
        list(console.ask("It began to rain."))
    assert len(console._fitted()) <= 56
    assert console.messages[0]["role"] == "user"
    assert len(console.messages) < 16


def test_a_prompt_that_never_fits_says_so(console: chat.Console) -> None:
    with pytest.raises(MoteurError, match=r"with 8 for the answer only 56 fit: shorten it"):
        list(console.ask("rain " * 200))
    assert not console.messages


def test_a_model_that_fails_is_told_at_once_and_its_prompt_is_taken_back(
    console: chat.Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(**_options: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(console._model, "generate", fails)
    with pytest.raises(MoteurError, match="the model could not answer: RuntimeError: out of memory"):
        list(console.ask("Ben"))
    assert not console.messages


def test_a_conversation_goes_on_after_a_prompt_that_never_fits(
    console: chat.Console, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = iter(["rain " * 200, "Ben", "/exit"])
    monkeypatch.setattr("builtins.input", lambda *_prompt: next(typed))
    chat._converse(console, Path("models/release"))
    assert "shorten it" in capsys.readouterr().out
    assert [message["role"] for message in console.messages] == ["user", "assistant"]


def test_one_prompt_is_one_answer_on_standard_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chat.main(["--model", str(folder), "--prompt", "Ben", "--temperature", "0", "--max-new-tokens", "4"])
    assert capsys.readouterr().out.endswith("\n")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [(["--model", "nowhere", "--prompt", "x"], 4, "nowhere is not a model folder"), (["--prompt", ""], 1, "is empty")],
)
def test_errors_are_sentences(
    arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        chat.main(arguments)
    assert stopped.value.code == code
    assert said in capsys.readouterr().err

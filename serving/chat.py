"""Talk to a model folder in the terminal: `python -m serving.chat`, which `moteur chat` starts.

At a terminal it is a conversation, streamed as it is written; with --prompt, or when standard input is a pipe, one
question and one answer on standard output.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.adapters import quiet, release
from pipelines.artifacts import Artifact
from pipelines.core.text.prompts import Message
from pipelines.errors import MoteurError

if TYPE_CHECKING:
    from rich.console import Console as Terminal
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LEAVE = {"/exit", "/quit", "/bye"}


class Console:
    """One model and one conversation with it."""

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        *,
        max_new_tokens: int,
        temperature: float,
    ) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._max_new_tokens, self._temperature = max_new_tokens, temperature
        self.messages: list[Message] = []

    def ask(self, text: str) -> Iterator[str]:
        """Say `text`; yield the answer piece by piece. Old turns are dropped when the context is full."""
        self.messages.append({"role": "user", "content": text})
        pieces = []
        try:
            for piece in self._generate(self._fitted()):
                pieces.append(piece)
                yield piece
        except MoteurError:
            self.messages.pop()
            raise
        self.messages.append({"role": "assistant", "content": "".join(pieces)})

    def forget(self) -> None:
        """Start over."""
        self.messages.clear()

    def _fitted(self) -> list[int]:
        room = self._model.config.max_position_embeddings - self._max_new_tokens
        while len(ids := self._ids()) > room and len(self.messages) > 1:
            del self.messages[:2]
        if len(ids) > room:
            raise MoteurError(
                f"the prompt has {len(ids)} tokens, but with {self._max_new_tokens} for the answer only {room} fit:"
                " shorten it, or give a lower --max-new-tokens"
            )
        return ids

    def _ids(self) -> list[int]:
        ids: list[int] = self._tokenizer.apply_chat_template(
            self.messages, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        return ids

    def _generate(self, ids: list[int]) -> Iterator[str]:
        from threading import Thread

        import torch
        from transformers import TextIteratorStreamer

        streamer: Any = TextIteratorStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True, timeout=300)
        row = torch.tensor([ids], device=self._model.device)
        sampling = {"do_sample": True, "temperature": self._temperature, "top_p": 0.95, "top_k": 0}
        options: dict[str, Any] = sampling if self._temperature > 0 else {"do_sample": False}
        failures: list[Exception] = []

        def work() -> None:
            try:
                self._model.generate(
                    input_ids=row,
                    attention_mask=torch.ones_like(row),
                    max_new_tokens=self._max_new_tokens,
                    pad_token_id=self._tokenizer.pad_token_id,
                    eos_token_id=self._tokenizer.eos_token_id,
                    streamer=streamer,
                    **options,
                )
            except Exception as error:  # raised again by the one who waits for the pieces
                failures.append(error)
                streamer.end()

        worker = Thread(target=work, daemon=True)
        worker.start()
        yield from streamer
        worker.join()
        if failures:
            raise MoteurError(f"the model could not answer: {type(failures[0]).__name__}: {failures[0]}")


def main(arguments: list[str] | None = None) -> None:
    """Load the model and talk; an error is a sentence and its exit code."""
    options = _parsed(arguments)
    quiet.settle()
    try:
        _run(options)
    except MoteurError as error:
        print(f"moteur chat: {error}", file=sys.stderr)  # noqa: T201  the user reads this
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, EOFError):
        print()  # noqa: T201  leave the prompt's line
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serving.chat", description="Talk to a model folder.")
    parser.add_argument("--model", type=Path, default=Artifact.RELEASE.path)
    parser.add_argument("--prompt")
    parser.add_argument("--max-new-tokens", type=int, default=200)
    parser.add_argument("--temperature", type=float, default=0.7)
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace) -> None:
    once = options.prompt if options.prompt is not None else None if sys.stdin.isatty() else sys.stdin.read().strip()
    if once == "":
        raise MoteurError("the prompt is empty: give --prompt TEXT, or text on standard input")
    model, tokenizer = release.load(options.model)
    room = model.config.max_position_embeddings // 2
    console = Console(
        model, tokenizer, max_new_tokens=min(options.max_new_tokens, room), temperature=options.temperature
    )
    if once is None:
        _converse(console, options.model)
        return
    for piece in console.ask(once):
        print(piece, end="", flush=True)  # noqa: T201  the answer
    print()  # noqa: T201


def _converse(console: Console, folder: Path) -> None:
    from rich.console import Console as Terminal

    terminal = Terminal(highlight=False)
    terminal.print(f"{folder}. /new starts over, /exit leaves.", style="dim", markup=False)
    while True:
        said = terminal.input("[bold]you> [/bold]").strip()
        if said in LEAVE:
            return
        if said == "/new":
            console.forget()
        elif said:
            _say(terminal, console.ask(said))


def _say(terminal: "Terminal", pieces: Iterator[str]) -> None:
    """Print an answer as it comes, or why there is none: the conversation goes on."""
    try:
        for piece in pieces:
            terminal.print(piece, end="", markup=False, soft_wrap=True)
    except MoteurError as error:
        terminal.print(f"moteur chat: {error}", style="red", markup=False, end="")
    terminal.print()


if __name__ == "__main__":
    main()

"""`moteur feedback rank`: rank sampled responses in the terminal.

Each answer is on the disk before the next prompt is shown. The file of an annotator is replaced as a whole, because a
workspace may hold a hard link to it, and so that no line of it is ever torn.
"""

import json
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flows import terminal
from flows.champions import history
from flows.feedback import exchange, labelling
from flows.feedback.labelling import Item
from pipelines import stage
from pipelines.adapters import files, rankings
from pipelines.artifacts import Artifact
from pipelines.core.learning import answers, labels
from pipelines.core.learning.preferences import Ranking
from pipelines.errors import DataError

COMMANDS = {"U": "undo", "S": "skip", "Q": "quit", "UNDO": "undo", "SKIP": "skip", "QUIT": "quit"}
HELP = (
    f"Answer like {answers.EXAMPLE}: > better, = a tie, F after a comma failed."
    "\nACDB is A>C>D>B; A alone is the best, the others tied. Or: undo (u), skip until the next start (s), quit (q)."
)


@dataclass(frozen=True, kw_only=True)
class Book:
    """The file of what one annotator ranked."""

    path: Path

    def add(self, ranking: Ranking) -> None:
        """Append a ranking; it is on the disk when this returns."""
        before = self._content()
        self._write(before + (b"\n" if before and not before.endswith(b"\n") else b"") + _line(ranking))

    def remove(self, ranking: Ranking) -> None:
        """Take a ranking back."""
        self._write(b"".join(line for line in self._content().splitlines(keepends=True) if line != _line(ranking)))

    def _content(self) -> bytes:
        return self.path.read_bytes() if self.path.exists() else b""

    def _write(self, content: bytes) -> None:
        with files.replacing(self.path) as fresh:
            fresh.write_bytes(content)


def _line(ranking: Ranking) -> bytes:
    return json.dumps(exchange.row(ranking.id, ranking), ensure_ascii=False).encode() + b"\n"


def waiting(folder: Path, items: Sequence[Item], annotator: str) -> list[Item]:
    """The items that this annotator has not ranked yet, in any file and any order of the responses."""
    ranked = {
        (line.record.prompt, frozenset(line.record.responses))
        for line in rankings.read(folder)
        if isinstance(line, rankings.Line) and isinstance(line.record, Ranking) and line.record.annotator == annotator
    }
    return [item for item in items if (item.prompt, frozenset(item.responses)) not in ranked]


def session(
    sheets: Sequence[Ranking],
    book: Book,
    ask: Callable[[str], str],
    say: Callable[[str], None],
    *,
    num: int | None = None,
) -> int:
    """Ask for the ranks of one sheet after the other, `num` at most; return how many were ranked.

    Args:
        sheets: Rankings whose ranks and ids are still to be given.
        book: Where they go.
        ask: Shows its argument and returns what the person wrote; EOFError is as good as quit.
        say: Shows a text.
        num: Rankings after which to stop.
    """
    given: list[Ranking | None] = []
    while True:
        if len(given) == len(sheets) or _count(given) == num:
            answer = _last(ask) if given else "quit"
        else:
            sheet = sheets[len(given)]
            say(shown(sheet, number=len(given) + 1, of=len(sheets)))
            answer = _answer(ask, say, len(sheet.responses))
        if answer == "quit":
            return _count(given)
        if answer == "undo":
            _undo(given, book, say)
        elif answer == "skip":
            given.append(None)
        else:
            ranking = identified(sheet, answers.parse(answer, len(sheet.responses)))
            book.add(ranking)
            given.append(ranking)
            say(f"Kept: {answers.words(ranking.ranks)}")


def _last(ask: Callable[[str], str]) -> str:
    """Whether even the last answer is to be taken back."""
    try:
        answer = ask("That was the last: Enter to end, undo (u) to take it back > ")
    except EOFError:
        answer = ""
    return "undo" if COMMANDS.get(answer.strip().upper()) == "undo" else "quit"


def _count(given: Sequence[Ranking | None]) -> int:
    return sum(ranking is not None for ranking in given)


def _undo(given: list[Ranking | None], book: Book, say: Callable[[str], None]) -> None:
    if not given:
        say("Nothing was answered since the start; what was before stands in the file.")
    elif (last := given.pop()) is not None:
        book.remove(last)


def _answer(ask: Callable[[str], str], say: Callable[[str], None], num: int) -> str:
    """A command, or an answer that can be read."""
    while True:
        try:
            answer = ask("> ").strip()
        except EOFError:
            return "quit"
        if command := COMMANDS.get(answer.upper()):
            return command
        try:
            answers.parse(answer, num)
        except ValueError as error:
            say(f"{visible(str(error))}.")
        else:
            return answer


def identified(sheet: Ranking, ranks: tuple[int | None, ...]) -> Ranking:
    """The ranking with an id made from its content."""
    ranking = replace(sheet, ranks=ranks)
    return replace(ranking, id=labels.content(ranking)[:16])


def shown(sheet: Ranking, *, number: int, of: int) -> str:
    """A prompt and the responses to it, each with its letter."""
    parts = [f"── {number} of {of} ──", visible(sheet.prompt)]
    parts += [
        f"{letter}: {visible(text) or '(empty)'}"
        for letter, text in zip(answers.LETTERS, sheet.responses, strict=False)
    ]
    return "\n" + "\n\n".join(parts)


def visible(text: str) -> str:
    """A text that commands no terminal: control characters, escapes among them, become a mark."""
    return "".join(
        "\ufffd" if unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\t" else char for char in text
    )


def show(checkout: Path, *, annotator: str | None, num: int | None) -> None:
    """Rank in the terminal, from where this annotator stopped.

    Raises:
        DataError: nothing was sampled, or the same annotator ranks in another terminal.
    """
    console = terminal.console()

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    params = stage.load_params(checkout / "params.yaml")
    name = labelling.checked_name(annotator if annotator is not None else history.someone(checkout))
    instructions = labelling.instructions(checkout)
    folder = checkout / Artifact.FEEDBACK_BY_PEOPLE
    with exchange.alone(checkout, f"rank as {name}"):
        every = labelling.sampled(checkout, seed=params.seed)
        items = waiting(folder, every, name)
        most = max((len(item.responses) for item in items), default=0)
        if most > len(answers.LETTERS):
            raise DataError(
                f"{most} responses to one prompt are more than there are letters ({len(answers.LETTERS)}): lower"
                " feedback.responses_per_prompt in params.yaml"
            )
        sheets = [_sheet(item, name, params.seed, instructions.sha256) for item in items]
        book = Book(path=folder / f"{name}.jsonl")
        say(f"{visible(instructions.text)}\n{HELP}\n")
        say(f"{name} has ranked {len(every) - len(items):,} of {len(every):,} prompts.")
        count = session(sheets, book, input, say, num=num)
    say(f"{count:,} rankings more in {book.path.relative_to(checkout)}; {len(items) - count:,} prompts wait.")


def _sheet(item: Item, annotator: str, seed: int, instructions: str) -> Ranking:
    responses = labelling.shuffled(item, seed=seed, annotator=annotator)
    return Ranking(
        id="",
        prompt=item.prompt,
        responses=tuple(responses),
        ranks=(),
        annotator=annotator,
        kind="human",
        task=item.task,
        instructions=instructions,
    )

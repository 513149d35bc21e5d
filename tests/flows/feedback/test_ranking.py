"""Ranking in the terminal: every answer is kept at once, and nothing is asked twice."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows.feedback import exchange, labelling, ranking
from flows.feedback.ranking import Book
from pipelines.adapters import files, rankings
from pipelines.core.learning.preferences import Ranking
from pipelines.errors import ParamsError
from tests.flows import toy
from tests.flows.examples import ROOT


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(path=tmp_path / "data/feedback/ann.jsonl")


def sheets(num: int = 3) -> list[Ranking]:
    return [
        Ranking(
            id="", prompt=f"Tell {number}.", responses=("w", "x", "y", "z"), ranks=(), annotator="ann", kind="human",
            instructions="a" * 64,
        )
        for number in range(num)
    ]  # fmt: skip


def typing(*answers: str) -> Callable[[str], str]:
    """A person who types these, and then closes the terminal."""
    left: Iterator[str] = iter(answers)

    def ask(_shown: str) -> str:
        try:
            return next(left)
        except StopIteration:
            raise EOFError from None

    return ask


def kept(book: Book) -> list[tuple[str, tuple[int | None, ...]]]:
    found = rankings.load(book.path.parent, max_bad_line_share=0.0)
    return [(one.prompt, one.ranks) for one in found.rankings]


def test_answers_become_rankings_that_the_stage_reads_with_their_instructions(book: Book) -> None:
    said: list[str] = []
    assert ranking.session(sheets(2), book, typing("A>C=D, B F", "dcba"), said.append) == 2
    assert kept(book) == [("Tell 0.", (1, None, 2, 2)), ("Tell 1.", (4, 3, 2, 1))]
    assert {one.instructions for one in rankings.load(book.path.parent, max_bad_line_share=0.0).rankings} == {"a" * 64}
    assert "Kept: A > C = D, B F" in said


def test_an_answer_is_on_the_disk_before_the_next_prompt_is_shown(book: Book) -> None:
    seen: list[int] = []

    def ask(_shown: str) -> str:
        seen.append(len(kept(book)))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return "ABCD"

    with pytest.raises(KeyboardInterrupt):
        ranking.session(sheets(), book, ask, lambda _: None)
    assert seen == [0, 1, 2]
    assert len(kept(book)) == 2


def test_what_cannot_be_read_is_asked_again_in_words(book: Book) -> None:
    said: list[str] = []
    assert ranking.session(sheets(1), book, typing("A>B", "\x1b[2J", "A=B=C=D"), said.append) == 1
    assert said[1].startswith("no place for C and D")
    assert "\x1b" not in "".join(said)


def test_undo_takes_back_the_last_answer_or_skip_and_asks_again(book: Book) -> None:
    answers = typing("undo", "ABCD", "u", "DCBA", "skip", "undo", "BACD", "ABCD", "u", "q")
    said: list[str] = []
    assert ranking.session(sheets(), book, answers, said.append) == 2
    assert kept(book) == [("Tell 0.", (4, 3, 2, 1)), ("Tell 1.", (2, 1, 3, 4))]
    assert said[1].startswith("Nothing was answered since the start")


def test_the_last_answer_can_be_taken_back_too(book: Book) -> None:
    assert ranking.session(sheets(1), book, typing("ABCD", "undo", "DCBA", ""), lambda _: None) == 1
    assert ranking.session(sheets()[1:], book, typing("ABCD", "u", "DCBA"), lambda _: None, num=1) == 1
    assert kept(book) == [("Tell 0.", (4, 3, 2, 1)), ("Tell 1.", (4, 3, 2, 1))]


def test_quit_and_the_end_of_the_input_end_it_and_so_does_the_number_asked_for(book: Book) -> None:
    assert ranking.session(sheets(), book, typing("ABCD", "Q", "DCBA"), lambda _: None) == 1
    assert ranking.session(sheets()[1:], book, typing(), lambda _: None) == 0
    assert ranking.session(sheets()[1:], book, typing("s", "ABCD", "ABCD"), lambda _: None, num=1) == 1
    assert [prompt for prompt, _ in kept(book)] == ["Tell 0.", "Tell 2."]


def test_a_line_whose_end_is_missing_and_odd_line_separators_do_no_harm_to_what_follows(book: Book) -> None:
    (odd,) = (ranking.identified(one, (1, 2, 3, 4)) for one in sheets(1))
    book.path.parent.mkdir(parents=True)
    line = json.dumps(exchange.row("x", odd) | {"prompt": "Tell\u2028me\x85."}, ensure_ascii=False)
    book.path.write_bytes(line.encode())
    book.add(odd)
    book.remove(odd)
    book.add(odd)
    assert [prompt for prompt, _ in kept(book)] == ["Tell\u2028me\x85.", "Tell 0."]


def test_a_workspace_that_holds_a_link_to_the_file_keeps_what_it_had(book: Book, tmp_path: Path) -> None:
    ranking.session(sheets(1), book, typing("ABCD"), lambda _: None)
    os.link(book.path, tmp_path / "linked.jsonl")
    before = (tmp_path / "linked.jsonl").read_bytes()
    ranking.session(sheets()[1:], book, typing("ABCD"), lambda _: None)
    assert (tmp_path / "linked.jsonl").read_bytes() == before
    assert [path.name for path in book.path.parent.iterdir()] == ["ann.jsonl"]


def test_responses_command_no_terminal() -> None:
    assert ranking.visible("a\x1b[31mb\r\tc\nd\x9b") == "a\ufffd[31mb\ufffd\tc\nd\ufffd"


def test_the_order_of_responses_is_random_and_of_each_annotator_their_own() -> None:
    items = [labelling.Item(prompt=f"p{number}", responses=("w", "x", "y", "z"), task=None) for number in range(50)]
    orders = {name: [labelling.shuffled(item, seed=1, annotator=name) for item in items] for name in ("ann", "ben")}
    assert orders["ann"] != orders["ben"]
    assert orders["ann"] == [labelling.shuffled(item, seed=1, annotator="ann") for item in items]
    assert {order.index("w") for order in orders["ann"]} == {0, 1, 2, 3}


@pytest.mark.parametrize("name", ["../ann", "a/b", ".ann", "", "a\nb", "x" * 81, "-ann"])
def test_a_name_that_cannot_be_that_of_a_file_is_refused(name: str) -> None:
    with pytest.raises(ParamsError, match=r"--annotator .*: give a name of letters"):
        labelling.checked_name(name)


@pytest.mark.parametrize("name", ["ann", "Anne-Marie O'Neill", "Jürgen", "ann@example.org", "7"])
def test_names_of_people_are_names(name: str) -> None:
    assert labelling.checked_name(name) == name


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout whose model answered three prompts."""
    root = toy.make(tmp_path / "checkout", git=False)
    for folder in ("feedback", "preferences"):
        (root / "data" / folder).mkdir()
    (root / labelling.INSTRUCTIONS).write_bytes((ROOT / labelling.INSTRUCTIONS).read_bytes())
    rows = [
        {
            "prompt": f"Tell {number}.",
            "responses": ["[b]la", "lo"],
            "ranks": [1, 2],
            "kind": "simulated",
            "task": "x",
            "gold": [0.5, 0.5],
        }
        for number in range(3)
    ]
    files.write_jsonl(root / labelling.RANKINGS, rows)
    return root


def rank(root: Path, typed: str, *more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        toy.command("feedback", "rank", "--annotator", "ann", *more),
        cwd=root, env=toy.environment(), input=typed, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_next_start_goes_on_with_what_this_annotator_has_not_ranked(root: Path) -> None:
    first = rank(root, "A>B\nskip\nquit\n")
    assert first.returncode == 0, first.stderr
    assert "Correctness first" in first.stdout
    assert ": [b]la" in first.stdout
    assert "1 rankings more in data/feedback/ann.jsonl; 2 prompts wait." in first.stdout
    second = rank(root, "B\nF\n")
    assert "ann has ranked 1 of 3 prompts." in second.stdout
    assert "2 rankings more" in second.stdout
    assert sorted(json.loads(line)["prompt"] for line in (root / "data/feedback/ann.jsonl").open()) == [
        "Tell 0.", "Tell 1.", "Tell 2."
    ]  # fmt: skip
    assert "ann has ranked 3 of 3 prompts." in rank(root, "").stdout


def test_what_was_ranked_elsewhere_and_imported_is_not_asked_again_but_of_others_it_is(root: Path) -> None:
    line = {"id": "1", "prompt": "Tell 1.", "responses": ["lo", "[b]la"], "ranks": [1, 2], "annotator": "ann"}
    files.write_jsonl(root / "data/feedback/import-1.jsonl", [line])
    items = labelling.sampled(root, seed=1)
    assert sorted(item.prompt for item in ranking.waiting(root / "data/feedback", items, "ann")) == [
        "Tell 0.",
        "Tell 2.",
    ]
    assert len(ranking.waiting(root / "data/feedback", items, "ben")) == 3


def test_one_annotator_ranks_in_one_terminal(root: Path) -> None:
    with exchange.alone(root, "rank as ann"):
        done = rank(root, "A>B\n", "--num", "1")
    assert (done.returncode, "(rank as ann) is at work" in done.stderr) == (3, True)


def test_what_labellers_read_keeps_its_colons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = toy.make(tmp_path / "checkout", git=False)
    (root / "data/feedback").mkdir()
    (root / labelling.INSTRUCTIONS).write_text("Rank by :100: alone.\n")
    row = {"prompt": "Say :heart:.", "responses": ["a:b:c", ":100:"], "gold": [0, 0], "kind": "simulated"}
    (root / "data/preferences").mkdir()
    files.write_jsonl(root / labelling.RANKINGS, [row])
    monkeypatch.setattr("builtins.input", typing())
    ranking.show(root, annotator="ann", num=None)
    shown = capsys.readouterr().out
    assert [text for text in ("Rank by :100: alone.", "Say :heart:.", "a:b:c", ": :100:\n") if text not in shown] == []

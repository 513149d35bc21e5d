"""Labels come in from elsewhere, once and whole; responses go out without what is known of them."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.feedback import exchange, labelling
from pipelines import stage
from pipelines.adapters import files, rankings
from pipelines.errors import ArtifactError, DataError, ParamsError
from pipelines.params import Params
from tests.flows import toy
from tests.flows.examples import ROOT

PARAMS: Params = stage.load_params(ROOT / "params.yaml")
INSTRUCTIONS = ROOT / labelling.INSTRUCTIONS
RANKED = {"prompt": "Sing.", "responses": ["la", "lo", "no"], "ranks": [1, 1, None], "annotator": "ann"}
CHOICE = {"prompt": "Hum.", "response_a": "mm", "response_b": "zz", "choice": "b", "annotator": "ben"}
RATED = {"prompt": "Hum.", "response": "mm", "score": 3, "annotator": "cleo"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with the instructions."""
    target = tmp_path / "checkout" / labelling.INSTRUCTIONS
    target.parent.mkdir(parents=True)
    target.write_bytes(INSTRUCTIONS.read_bytes())
    return tmp_path / "checkout"


def written(path: Path, *lines: Any) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def table(path: Path, *rows: dict[str, Any]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def take(root: Path, *sources: Path, share: float = 0.0, **options: Any) -> list[exchange.Made]:
    section = PARAMS.feedback.model_copy(update={"max_bad_line_share": share})
    return exchange.take(root, PARAMS.model_copy(update={"feedback": section}), sources, **options)


def held(root: Path) -> rankings.Feedback:
    """What the stage feedback finds."""
    return rankings.load(root / "data/feedback", max_bad_line_share=0.0)


def sample(root: Path, num: int = 3, num_responses: int = 4) -> None:
    rows: list[dict[str, Any]] = [
        {
            "id": f"{number}-{name}", "prompt": f"Tell {number}.", "ranks": [1, *[2] * (num_responses - 1)],
            "responses": [f"response {letter} to {number}" for letter in range(num_responses)], "kind": kind,
            "annotator": name, "task": "story" if number else "chess",
            "gold": [0.5] * num_responses if kind == "simulated" else None,
        }
        for number in range(num)
        for name, kind in (("simulated-1", "simulated"), ("simulated-2", "simulated"), ("ann", "human"))
    ]  # fmt: skip
    rows.append({**rows[-1], "prompt": "From elsewhere.", "kind": "simulated"})
    rows.append({**rows[-1], "prompt": "By others' rules.", "kind": "constitution", "task": None})
    (root / "data/preferences").mkdir(parents=True)
    files.write_jsonl(root / labelling.RANKINGS, rows)


class TestImport:
    def test_every_form_becomes_feedback_that_the_stage_reads(self, root: Path, tmp_path: Path) -> None:
        take(root, written(tmp_path / "a.jsonl", RANKED, CHOICE, RATED, RATED | {"response": "zz", "score": "F"}))
        found = held(root)
        assert {(one.annotator, one.responses, one.ranks) for one in found.rankings} == {
            ("ann", ("la", "lo", "no"), (1, 1, None)),
            ("ben", ("mm", "zz"), (2, 1)),
            ("cleo", ("mm", "zz"), (1, None)),
        }
        assert {one.instructions for one in found.rankings} == {files.sha256(INSTRUCTIONS)}

    def test_tables_say_the_same_as_json_lines(self, root: Path, tmp_path: Path) -> None:
        cells = {"responses": json.dumps(RANKED["responses"]), "ranks": "1 1 F"}
        take(root, table(tmp_path / "a.csv", RANKED | cells), table(tmp_path / "b.csv", CHOICE))
        take(root, table(tmp_path / "c.csv", RATED))
        (again,) = take(root, written(tmp_path / "d.jsonl", RANKED, CHOICE, RATED))
        assert again.left_out == {exchange.KNOWN: 3}
        assert len(held(root).rankings) == 2

    def test_the_same_file_is_imported_once_under_whatever_name(self, root: Path, tmp_path: Path) -> None:
        (first,) = take(root, written(tmp_path / "a.jsonl", RANKED))
        again, other = take(root, written(tmp_path / "b.jsonl", RANKED), written(tmp_path / "c.jsonl", CHOICE))
        assert (first.imported_before, again.imported_before, other.imported_before) == (False, True, False)
        assert again.target == first.target
        assert len(held(root).rankings) == 2

    def test_a_mended_file_brings_only_what_is_new(self, root: Path, tmp_path: Path) -> None:
        take(root, written(tmp_path / "a.jsonl", RANKED, "{"), share=0.5)
        (again,) = take(root, written(tmp_path / "a.jsonl", RANKED, CHOICE))
        assert (len(again.rows), again.left_out) == (1, {exchange.KNOWN: 1})
        assert len(held(root).rankings) == 2

    def test_lines_that_cannot_be_used_are_set_aside_with_file_line_and_reason(
        self, root: Path, tmp_path: Path
    ) -> None:
        source = written(tmp_path / "a.jsonl", RANKED, "{", RANKED | {"ranks": [1]})
        (made,) = take(root, source, share=0.7)
        aside = list(files.read_jsonl(exchange.rejects_of(root, made)))
        assert [(one["file"], one["line"]) for one in aside] == [(str(source), 2), (str(source), 3)]
        assert aside[1]["reason"] == "3 responses but 1 ranks"

    def test_too_many_of_them_and_nothing_is_imported_of_any_file(self, root: Path, tmp_path: Path) -> None:
        good, bad = written(tmp_path / "a.jsonl", RANKED), written(tmp_path / "b.jsonl", *["{"] * 5)
        with pytest.raises(DataError) as caught:
            take(root, good, bad, share=0.5)
        message = str(caught.value)
        assert message.startswith("5 of 6 lines of feedback by people cannot be used")
        assert message.count("b.jsonl:") == 3
        assert "Nothing was imported" in message
        assert held(root).num_lines == 0

    def test_what_is_not_labelled_yet_is_counted_and_is_no_bad_line(self, root: Path, tmp_path: Path) -> None:
        (made,) = take(root, written(tmp_path / "a.jsonl", RANKED, RANKED | {"ranks": None}, RANKED | {"ranks": []}))
        assert (len(made.rows), made.left_out, made.rejects) == (1, {exchange.UNLABELLED: 2}, [])

    def test_an_id_of_another_label_is_refused_and_without_ids_none_clash(self, root: Path, tmp_path: Path) -> None:
        take(root, written(tmp_path / "a.jsonl", RANKED | {"id": 1}))
        with pytest.raises(DataError, match=r"id '1' is that of another label, .*import-\w+\.jsonl:1"):
            take(root, written(tmp_path / "b.jsonl", CHOICE | {"id": 1}))
        take(root, written(tmp_path / "c.jsonl", CHOICE, RANKED | {"annotator": "ben"}))
        assert len(held(root).rankings) == 3

    def test_who_labels_the_same_responses_otherwise_must_say_which_label_counts(
        self, root: Path, tmp_path: Path
    ) -> None:
        take(root, written(tmp_path / "a.jsonl", RANKED, RATED))
        turned = RANKED | {"responses": RANKED["responses"][::-1], "ranks": [None, 2, 1]}
        for number, changed in enumerate((turned, RATED | {"score": 5})):
            with pytest.raises(
                DataError, match=r"'(ann|cleo)' labelled .* otherwise, .*import-\w+\.jsonl:[12]: keep one"
            ):
                take(root, written(tmp_path / f"b{number}.jsonl", changed))
        with pytest.raises(DataError, match=r"otherwise, .*c\.jsonl:1: keep one"):
            take(root, written(tmp_path / "c.jsonl", CHOICE, CHOICE | {"choice": "a"}))

    def test_a_spreadsheet_that_ends_lines_its_own_way_makes_no_other_prompt(self, root: Path, tmp_path: Path) -> None:
        take(root, written(tmp_path / "a.jsonl", RANKED | {"prompt": "Sing.\nAloud."}))
        (again,) = take(root, written(tmp_path / "b.jsonl", RANKED | {"prompt": "Sing.\r\nAloud."}))
        assert again.left_out == {exchange.KNOWN: 1}

    def test_names_may_be_numbers_and_letters_small(self, root: Path, tmp_path: Path) -> None:
        said = (CHOICE | {"choice": " B", "annotator": 7}, RANKED | {"ranks": [1, 1, "f"]})
        take(root, written(tmp_path / "a.jsonl", *said))
        assert {(one.annotator, one.ranks) for one in held(root).rankings} == {("7", (2, 1)), ("ann", (1, 1, None))}

    def test_labels_of_nobody_ask_for_a_name(self, root: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="name who made the labels by --annotator NAME"):
            take(root, written(tmp_path / "a.jsonl", RANKED | {"annotator": None}))

    def test_labels_made_by_other_instructions_are_not_said_to_be_made_by_ours(
        self, root: Path, tmp_path: Path
    ) -> None:
        take(root, written(tmp_path / "a.jsonl", RANKED), by_instructions=False)
        assert [one.instructions for one in held(root).rankings] == [None]

    def test_labels_that_name_nobody_are_of_the_annotator_who_is_named(self, root: Path, tmp_path: Path) -> None:
        nobody = {name: value for name, value in RANKED.items() if name != "annotator"}
        source = written(tmp_path / "a.jsonl", nobody, CHOICE)
        with pytest.raises(DataError, match="annotator is missing"):
            take(root, source)
        take(root, source, annotator="dan")
        take(root, source, annotator="eve")
        assert sorted(one.annotator for one in held(root).rankings) == ["ben", "dan", "eve"]

    def test_instructions_that_a_line_names_stay_those_of_the_line(self, root: Path, tmp_path: Path) -> None:
        take(root, written(tmp_path / "a.jsonl", RANKED | {"instructions": "a" * 64}))
        assert held(root).rankings[0].instructions == "a" * 64

    def test_without_instructions_nothing_is_imported(self, root: Path, tmp_path: Path) -> None:
        (root / labelling.INSTRUCTIONS).write_text(" \n")
        with pytest.raises(DataError, match=r"INSTRUCTIONS\.md, the labelling instructions, is missing or empty"):
            take(root, written(tmp_path / "a.jsonl", RANKED))

    def test_a_second_import_at_the_same_time_is_refused(self, root: Path, tmp_path: Path) -> None:
        with exchange.alone(root, "import"), pytest.raises(DataError, match="wait for its end"):
            take(root, written(tmp_path / "a.jsonl", RANKED))


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-1, 3), st.floats(), st.text(max_size=3), st.just("F")),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
LINES = st.one_of(
    st.fixed_dictionaries(
        {"prompt": st.sampled_from(["Sing.", "Hum.", "\ud83c"]), "annotator": st.sampled_from(["ann", "ben"])},
        optional={
            "id": st.one_of(st.integers(1, 3), VALUES),
            "kind": st.sampled_from(["human", "alien"]),
            "responses": st.one_of(st.just(["la", "no"]), VALUES),
            "ranks": st.one_of(st.sampled_from([[1, 2], [1, "F"], [2, None]]), VALUES),
            "response": VALUES,
            "score": VALUES,
            "instructions": st.sampled_from(["a" * 64, "a"]),
        },
    ),
    st.fixed_dictionaries({"prompt": VALUES, "annotator": VALUES, "chosen": VALUES, "rejected": VALUES}),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(st.lists(LINES, max_size=5))
def test_every_line_is_imported_left_out_or_set_aside_and_the_stage_can_use_what_was_imported(
    root: Path, tmp_path: Path, lines: list[dict[str, Any]]
) -> None:
    source = written(tmp_path / "a.jsonl", *lines)
    for file in (root / "data/feedback").glob("*.jsonl"):
        file.unlink()
    (made,) = take(root, source, share=1.0)
    assert len(made.rows) + made.left_out.total() + len(made.rejects) == len(lines)
    assert (held(root).num_lines, held(root).rejects) == (len(made.rows), [])


class TestExport:
    @pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
    def test_what_was_exported_is_read_back_when_ranks_are_filled_in(
        self, root: Path, tmp_path: Path, name: str
    ) -> None:
        sample(root)
        assert exchange.export(root, PARAMS, tmp_path / name) == 3
        filled = fill(tmp_path / name, ranks=[2, 1, 2, None])
        (made,) = take(root, filled, annotator="ann")
        assert (len(made.rows), made.left_out) == (1, {exchange.UNLABELLED: 2})
        (found,) = held(root).rankings
        assert found.ranks == (2, 1, 2, None)
        assert sorted(found.responses) == sorted(f"response {letter} to {found.prompt[5]}" for letter in range(4))

    def test_the_order_tells_nothing_of_the_ranks_and_is_the_same_again(self, root: Path, tmp_path: Path) -> None:
        sample(root, num=40)
        for name in ("a.jsonl", "b.jsonl"):
            exchange.export(root, PARAMS, tmp_path / name)
        assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
        rows = list(files.read_jsonl(tmp_path / "a.jsonl"))
        assert {row["responses"].index(f"response 0 to {row['prompt'][5:-1]}") for row in rows} == {0, 1, 2, 3}
        assert [row["prompt"] for row in rows] != sorted(row["prompt"] for row in rows)
        assert {(row["ranks"], row["annotator"]) for row in rows} == {(None, None)}
        assert not [row for row in rows if "gold" in row]

    def test_only_so_many_prompts_of_the_tasks_that_are_named(self, root: Path, tmp_path: Path) -> None:
        sample(root, num=9)
        assert exchange.export(root, PARAMS, tmp_path / "a.csv", num_prompts=4) == 4
        assert exchange.export(root, PARAMS, tmp_path / "b.csv", tasks=["chess"]) == 1
        with pytest.raises(ParamsError, match="--tasks go: no responses were sampled for it, but for chess, story"):
            exchange.export(root, PARAMS, tmp_path / "c.csv", tasks=["go"])

    def test_a_file_that_is_there_is_left_alone(self, root: Path, tmp_path: Path) -> None:
        sample(root)
        (tmp_path / "a.csv").write_text("somebody's work")
        with pytest.raises(ParamsError, match="is there already"):
            exchange.export(root, PARAMS, tmp_path / "a.csv")
        with pytest.raises(ParamsError, match=r"a\.xlsx ends neither in"):
            exchange.export(root, PARAMS, tmp_path / "a.xlsx")

    def test_without_samples_it_says_where_they_come_from(self, root: Path, tmp_path: Path) -> None:
        with pytest.raises(ArtifactError, match=r"rankings\.jsonl is missing. Run `moteur run`"):
            exchange.export(root, PARAMS, tmp_path / "a.csv")
        (root / "data/preferences").mkdir()
        written(root / labelling.RANKINGS, RANKED | {"kind": "human"})
        with pytest.raises(DataError, match="holds no responses of the instruction model"):
            exchange.export(root, PARAMS, tmp_path / "a.csv")


def fill(path: Path, *, ranks: list[int | None]) -> Path:
    """As a person would: the first line gets its ranks."""
    if path.suffix == ".jsonl":
        first, *others = files.read_jsonl(path)
        return written(path, first | {"ranks": ranks}, *others)
    with path.open(newline="") as file:
        first, *others = csv.DictReader(file)
    return table(path, first | {"ranks": ", ".join("F" if rank is None else str(rank) for rank in ranks)}, *others)


def test_git_keeps_the_instructions_and_no_labels_and_for_dvc_they_are_no_feedback(tmp_path: Path) -> None:
    root = toy.make(tmp_path / "checkout")
    (root / "data/feedback/.ann.jsonl.x").mkdir(parents=True)
    names = [labelling.INSTRUCTIONS, "data/feedback/ann.jsonl", "data/feedback/.ann.jsonl.x/ann.jsonl"]
    for name in names:
        (root / name).write_text("x\n")
    assert toy.run_git(root, "ls-files", "--others", "--exclude-standard").split() == [labelling.INSTRUCTIONS]
    assert toy.dvc(root, "check-ignore", *names).stdout.split() == [names[0], names[2]]


def test_the_commands_say_what_came_in_what_was_left_out_and_why(tmp_path: Path) -> None:
    root = toy.make(tmp_path / "checkout", git=False)
    (root / "data/feedback").mkdir()
    (root / labelling.INSTRUCTIONS).write_bytes(INSTRUCTIONS.read_bytes())
    sample(root)
    out = toy.moteur(root, "feedback", "export", "--tasks", "story", "sheet.csv")
    assert (out.returncode, out.stdout[:30]) == (0, f"2 prompts with responses in {root}"[:30]), out.stderr
    fill(root / "sheet.csv", ranks=[1, 2, 2, None])
    arguments = ("feedback", "import", "sheet.csv", "--annotator", "ann")
    said = [line.strip() for line in toy.moteur(root, *arguments).stdout.splitlines()]
    assert said[0].startswith(f"{root}/sheet.csv: 1 labels into data/feedback/import-")
    wanted = ["1  rankings", "0  ratings", "5  pairs in them", "1  ties", "1  failed responses", "1  annotators"]
    assert said[2:] == [*wanted, "1  left out: not labelled yet"]
    assert "was imported before" in toy.moteur(root, *arguments).stdout
    (root / "bad.jsonl").write_text("[/red]\n")
    bad = toy.moteur(root, "feedback", "import", "bad.jsonl")
    assert (bad.returncode, "bad.jsonl:1: not JSON" in bad.stderr) == (3, True)


def test_what_only_a_constitution_ranked_can_be_labelled_too(tmp_path: Path) -> None:
    row = {"prompt": "Sing.", "responses": ["la", "no"], "gold": None, "kind": "constitution", "task": "song"}
    (tmp_path / "data/preferences").mkdir(parents=True)
    files.write_jsonl(tmp_path / labelling.RANKINGS, [row])
    (item,) = labelling.sampled(tmp_path, seed=1)
    assert (item.prompt, item.responses, item.task) == ("Sing.", ("la", "no"), "song")

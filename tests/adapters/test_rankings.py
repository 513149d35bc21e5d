"""Feedback by people, well and badly written."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.adapters import rankings
from pipelines.errors import DataError

GOOD = {"id": "r1", "prompt": "Sing.", "responses": ["la", "no"], "ranks": [1, 2], "annotator": "ann", "kind": "human"}
RATING = {"id": "s1", "prompt": "Sing.", "response": "la", "score": 3, "annotator": "ben"}


def write(folder, *lines, name="a.jsonl"):
    texts = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    (folder / name).write_bytes(b"\n".join(texts) + b"\n")


def reasons(folder):
    return [reject.reason for reject in rankings.load(folder, max_bad_line_share=1.0).rejects]


def test_a_ranking_is_read_as_it_was_written(tmp_path):
    write(tmp_path, GOOD | {"ranks": [1, None]})
    (found,) = rankings.load(tmp_path, max_bad_line_share=0).rankings
    assert (found.id, found.prompt, found.responses, found.ranks) == ("r1", "Sing.", ("la", "no"), (1, None))
    assert (found.annotator, found.kind, found.gold) == ("ann", "human", None)


def test_the_instructions_that_a_ranking_was_made_by_are_kept_and_older_lines_have_none(tmp_path):
    write(tmp_path, GOOD | {"instructions": "a" * 64}, GOOD | {"id": "older", "prompt": "Hum."})
    assert [found.instructions for found in rankings.load(tmp_path, max_bad_line_share=0).rankings] == ["a" * 64, None]


def test_files_are_read_in_the_order_of_their_names_and_other_files_are_not(tmp_path):
    write(tmp_path, GOOD | {"id": "second"}, name="b.jsonl")
    write(tmp_path, GOOD | {"id": "first", "prompt": "Hum."}, name="a.jsonl")
    (tmp_path / "README.md").write_text("not feedback")
    found = rankings.load(tmp_path, max_bad_line_share=0)
    assert [ranking.id for ranking in found.rankings] == ["first", "second"]
    assert found.num_lines == 2


def test_ratings_of_one_prompt_become_a_ranking_across_files(tmp_path):
    write(tmp_path, RATING, name="a.jsonl")
    write(tmp_path, RATING | {"id": "s2", "response": "no", "score": 5.5}, name="b.jsonl")
    (found,) = rankings.load(tmp_path, max_bad_line_share=0).rankings
    assert dict(zip(found.responses, found.ranks, strict=True)) == {"no": 1, "la": 2}


def test_a_missing_or_empty_folder_holds_no_feedback(tmp_path):
    assert rankings.load(tmp_path, max_bad_line_share=0).rankings == []
    assert rankings.load(tmp_path / "missing", max_bad_line_share=0).rankings == []


def test_a_byte_order_mark_windows_line_ends_and_blank_lines_do_no_harm(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n\r\n")
    assert len(rankings.load(tmp_path, max_bad_line_share=0).rankings) == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON"),
        (b'{"id": "\xff"}', "not UTF-8"),
        (b"[1]", "a list instead of an object"),
        (b"[" * 100_000, "not JSON"),
        ({key: value for key, value in GOOD.items() if key != "id"}, "id is None"),
        (GOOD | {"prompt": " "}, "prompt is ' '"),
        (GOOD | {"responses": ["la"]}, "at least two texts"),
        (GOOD | {"responses": ["la", 3]}, "at least two texts"),
        (GOOD | {"ranks": [1]}, "2 responses but 1 ranks"),
        (GOOD | {"ranks": [1, True]}, "whole numbers"),
        (GOOD | {"ranks": [1, 1.5]}, "whole numbers"),
        (GOOD | {"kind": "alien"}, "one of human, constitution, simulated"),
        (GOOD | {"annotator": None}, "annotator is None"),
        (RATING | {"score": "good"}, "score is 'good'"),
        (RATING | {"score": True}, "score is True"),
        (b'{"id": "x", "prompt": "p", "response": "r", "score": NaN, "annotator": "a"}', "score is nan"),
        (RATING | {"response": None}, "response is None"),
        (GOOD | {"instructions": "INSTRUCTIONS.md"}, "the sha256 of the labelling instructions"),
        (RATING | {"instructions": 7}, "the sha256 of the labelling instructions"),
        (GOOD | {"responses": ["la", "\ud83c"]}, "half a character"),
    ],
)
def test_a_bad_line_is_quarantined_with_file_line_and_reason(tmp_path, line, reason):
    write(tmp_path, GOOD | {"id": "good"}, line)
    found = rankings.load(tmp_path, max_bad_line_share=0.5)
    (reject,) = found.rejects
    assert (reject.file, reject.line) == ((tmp_path / "a.jsonl").as_posix(), 2)
    assert reason in reject.reason
    assert len(found.rankings) == 1


def test_an_id_that_occurred_before_is_a_bad_line_also_across_files(tmp_path):
    write(tmp_path, GOOD, name="a.jsonl")
    write(tmp_path, GOOD, name="b.jsonl")
    assert reasons(tmp_path) == ["id 'r1' occurred before: give each line an id of its own"]


@pytest.mark.parametrize("again", [{}, {"responses": ["no", "la"], "ranks": [2, 1]}, {"ranks": [1, 3]}])
def test_what_an_annotator_says_again_by_another_id_is_counted_and_left_out(tmp_path, again):
    write(tmp_path, GOOD | {"id": "r1"}, name="a.jsonl")
    write(tmp_path, GOOD | {"id": "r2"} | again, GOOD | {"id": "r3", "annotator": "ben"}, name="b.jsonl")
    found = rankings.load(tmp_path, max_bad_line_share=0)
    assert [ranking.id for ranking in found.rankings] == ["r1", "r3"]
    assert (found.num_repeated, found.num_lines) == (1, 3)


def test_who_wrote_something_that_can_be_used_is_known_by_name(tmp_path):
    write(tmp_path, GOOD, RATING, GOOD | {"id": "bad", "ranks": [1], "annotator": "cleo"})
    assert rankings.load(tmp_path, max_bad_line_share=0.5).annotators == {"ann", "ben"}


def test_too_many_bad_lines_are_an_error_that_names_three_of_them_and_the_limit(tmp_path):
    write(tmp_path, GOOD, *[b"nonsense"] * 5)
    with pytest.raises(DataError) as caught:
        rankings.load(tmp_path, max_bad_line_share=0.1)
    message = str(caught.value)
    assert message.startswith("5 of 6 lines of feedback by people cannot be used")
    assert "feedback.max_bad_line_share (0.1)" in message
    assert message.count("a.jsonl:") == 3
    assert "a.jsonl:2: not JSON" in message


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_whatever_bring_the_reader_down(tmp_path, data):
    (tmp_path / "a.jsonl").write_bytes(data)
    found = rankings.load(tmp_path, max_bad_line_share=1.0)
    told = len(found.rejects) + len(found.rankings) + found.num_lone_ratings + found.num_repeated
    assert told <= found.num_lines

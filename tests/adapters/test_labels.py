"""Files of labels from elsewhere."""

import json
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.adapters import labels
from pipelines.adapters.rankings import Reject
from pipelines.errors import DataError

HEADER = "prompt,chosen,rejected,annotator"
LINE = {"prompt": "Sing.", "annotator": "ann", "responses": ["la", "no"], "ranks": [1, 2]}


def read(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(labels.read(path))


def test_json_lines_are_read_with_their_numbers_and_bad_ones_told(tmp_path):
    good = {"prompt": "Sing.", "chosen": "la", "rejected": "no", "annotator": "ann"}
    found = read(tmp_path / "a.jsonl", f"\ufeff{json.dumps(good)}\n\n{{\n{json.dumps(good | {'score': 1})}\n")
    assert found[0] == (1, LINE)
    assert [(reject.line, reject.reason[:8]) for reject in found[1:]] == [(3, "not JSON"), (4, "fields o")]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tables_are_read_as_spreadsheets_write_them(tmp_path, mark, delimiter, end):
    table = end.join([HEADER, "Sing.,la,no,ann", ",,,", ""]).replace(",", delimiter)
    assert read(tmp_path / "a.CSV", mark + table) == [(2, LINE)]


def test_a_cell_may_hold_several_lines_and_rows_are_told_by_the_line_they_begin_at(tmp_path):
    found = read(
        tmp_path / "a.csv", f'{HEADER}\n"Sing,\nand ""dance"".",la,no,ann\nSing.,la,no,ann,more\nSing.,la,,ann\n'
    )
    assert found[0] == (2, LINE | {"prompt": 'Sing,\nand "dance".'})
    assert found[1] == Reject(file=(tmp_path / "a.csv").as_posix(), line=4, reason="5 cells, but 4 columns")
    assert found[2] == (5, LINE | {"responses": ["la", ""]})


def test_a_cell_may_be_as_long_as_a_document(tmp_path):
    prompt = "Sing. " * 50_000
    assert read(tmp_path / "a.csv", f"{HEADER}\n{prompt},la,no,ann\n") == [(2, LINE | {"prompt": prompt})]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.json", "[]", "is neither .jsonl nor .csv"),
        ("a.csv", b"prompt,chosen\n\xe9,la\n", "is not UTF-8 .* save it as CSV UTF-8"),
        ("a.csv", f'{HEADER}\nSing.,"la,no,ann\nHum.,la,no,ann\n', "below line 1, is no CSV"),
        ("a.csv", "prompt,prompt\nx,y\n", "two columns of one name"),
    ],
)
def test_a_file_that_is_no_list_of_labels_is_an_error(tmp_path, name, content, reason):
    with pytest.raises(DataError, match=reason):
        read(tmp_path / name, content)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"a\.csv cannot be read: No such file"):
        list(labels.read(tmp_path / "a.csv"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(st.sampled_from(["a.jsonl", "a.csv"]), st.one_of(st.binary(max_size=200), st.text(max_size=200)))
def test_no_content_whatever_brings_the_reader_down(tmp_path, name, content):
    with suppress(DataError):
        read(tmp_path / name, content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)

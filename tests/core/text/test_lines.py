import json

from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.text.lines import Bad, Good, documents, objects, split_lines


def blocks_of(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@given(st.lists(st.binary(max_size=30).map(lambda data: data.replace(b"\n", b"").rstrip(b"\r"))), st.integers(1, 9))
def test_lines_are_the_same_wherever_the_blocks_are_cut(lines: list[bytes], size: int) -> None:
    data = b"".join(line + b"\n" for line in lines)
    found = list(split_lines(blocks_of(data, size), max_bytes=100))
    assert [line.data for line in found] == lines
    assert [line.number for line in found] == list(range(1, len(lines) + 1))


def test_windows_line_ends_are_taken_off_even_where_a_block_parts_them() -> None:
    for size in (1, 2, 3, 100):
        assert [line.data for line in split_lines(blocks_of(b"a\r\nb\r\n", size), 100)] == [b"a", b"b"]


def test_a_last_line_without_an_end_counts() -> None:
    assert [line.data for line in split_lines([b"a\nb"], 100)] == [b"a", b"b"]


def test_a_long_line_is_never_held_whole_and_the_next_ones_are_read() -> None:
    held = 0

    def blocks() -> list[bytes]:
        return [b"ok\n", *[b"x" * 1000] * 10_000, b"\nnext\n"]

    lines = list(split_lines(blocks(), max_bytes=5000))
    held = max(len(line.data) for line in lines)
    assert [line.size for line in lines] == [2, 10_000_000, 4]
    assert held <= 1000
    assert lines[2].number == 3


def read_objects(data: bytes, max_bytes: int = 1000) -> list[Good | Bad]:
    return list(objects(split_lines([data], max_bytes), max_bytes))


def test_each_kind_of_bad_json_line_has_its_reason_and_number() -> None:
    data = b'{"a": 1}\n\n{"a": \n[1]\n\xff\xfe\n{"a": "\x00"}\n' + b"x" * 2000 + b'\n{"a": 2}'
    rows = read_objects(data)
    assert [(row.line, getattr(row, "reason", "good")) for row in rows] == [
        (1, "good"),
        (3, "not JSON"),
        (4, "not an object"),
        (5, "not UTF-8"),
        (6, "NUL character"),
        (7, "line too long"),
        (8, "good"),
    ]


def test_a_deeply_nested_line_is_bad_and_no_crash() -> None:
    (row,) = read_objects(b'{"a": ' + b"[" * 200_000, max_bytes=10**6)
    assert isinstance(row, Bad)
    assert row.reason == "not JSON"


@given(st.binary(max_size=200))
def test_any_bytes_give_rows_and_excerpts_that_can_be_written(data: bytes) -> None:
    for row in [*read_objects(data), *documents(split_lines([data], 50), None, 50)]:
        json.dumps(row.excerpt if isinstance(row, Bad) else row.values, ensure_ascii=False)
        if isinstance(row, Bad):
            row.excerpt.encode()


def read_documents(text: bytes, separator: str | None, max_bytes: int = 1000) -> list[Good | Bad]:
    return list(documents(split_lines([text], max_bytes), separator, max_bytes))


def texts(rows: list[Good | Bad]) -> list[str]:
    return [row.values["text"] for row in rows if isinstance(row, Good)]


def test_a_separator_parts_documents_and_blank_lines_stay_inside() -> None:
    rows = read_documents(b"One.\n\nStill one.\n<|end|>\nTwo.\n<|end|>\n", "<|end|>")
    assert texts(rows) == ["One.\n\nStill one.", "Two."]
    assert [row.line for row in rows] == [1, 5]


def test_a_separator_within_a_line_parts_too() -> None:
    assert texts(read_documents(b"One.<|end|>Two.\nmore<|end|>", "<|end|>")) == ["One.", "Two.\nmore"]


def test_without_a_separator_blank_lines_part() -> None:
    assert texts(read_documents(b"\n\nOne.\nmore\n \nTwo.\n\n\n", None)) == ["One.\nmore", "Two."]


def test_a_bad_line_spoils_its_document_and_no_other() -> None:
    rows = read_documents(b"good\n\nhalf\n\xff\xff\nhalf\n\nNUL \x00\n\ngood too\n", None)
    assert texts(rows) == ["good", "good too"]
    assert [(row.line, row.reason) for row in rows if isinstance(row, Bad)] == [(4, "not UTF-8"), (7, "NUL character")]


def test_a_document_that_never_ends_is_bad_in_bounded_memory() -> None:
    rows = read_documents(b"line of text\n" * 1000, "<|end|>", max_bytes=500)
    assert [(row.line, row.reason) for row in rows if isinstance(row, Bad)] == [(1, "document too long")]

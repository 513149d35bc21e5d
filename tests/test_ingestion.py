import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines import ingestion, params
from pipelines.adapters import datasets, files
from pipelines.adapters.tracking import NullTracker
from pipelines.errors import DataError, ParamsError
from pipelines.params import Params

RAW = Path("data/raw")
VALUES = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("shelf").mkdir()
    return tmp_path


def settings(**ingestion: Any) -> Params:
    section = {**VALUES["ingestion"], "root": "shelf", "corpus": {}, "instructions": {}, "preferences": {}}
    return params.parse({**VALUES, "ingestion": {**section, **ingestion}})


def run(**sections: Any) -> ingestion.IngestionReport:
    return ingestion.main(settings(**sections), NullTracker())


def put(name: str, rows: list[Any] | str | bytes) -> None:
    path = Path("shelf") / name
    if isinstance(rows, list):
        rows = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(rows.encode() if isinstance(rows, str) else rows)


def records(kind: Any, split: Any) -> list[dict[str, Any]]:
    return list(datasets.records(RAW, kind, split))


def quarantine() -> list[dict[str, Any]]:
    return list(files.read_jsonl(RAW / "quarantine.jsonl"))


def numbered(count: int, start: int = 0) -> list[dict[str, str]]:
    return [{"id": f"t{number}", "text": f"Text {number}."} for number in range(start, start + count)]


def everywhere(uri: str, **more: Any) -> dict[str, Any]:
    return {"train": [{"uri": uri, **more}], "valid": [{"uri": uri, **more}], "test": [{"uri": uri, **more}]}


def test_the_built_in_corpus_fills_all_splits() -> None:
    report = run(corpus=everywhere("tales://?stories=20&seed=1"), instructions=everywhere("tales://?stories=5&seed=1"))
    assert report.num_records["corpus.train"] == report.num_records["corpus.test"] == 20
    assert report.sources["corpus.train tales://?stories=20&seed=1"] == 20
    written = {path.name for path in RAW.iterdir()}
    assert written == {f"{kind}.{split}.jsonl" for kind in datasets.KINDS for split in datasets.SPLITS} | {
        "quarantine.jsonl"
    }
    assert report.num_bytes == sum(path.stat().st_size for path in RAW.iterdir())
    record = records("instructions", "test")[0]
    assert list(record) == ["id", "task", "context", "prompt", "completion", "gold", "source"]


def test_the_same_sources_give_the_same_bytes() -> None:
    def contents() -> dict[str, bytes]:
        tales = {"train": [{"uri": "tales://?stories=30"}]}
        run(corpus=everywhere("tales://?stories=20&seed=1"), instructions=tales, held_out_share=0.2)
        return {path.name: path.read_bytes() for path in RAW.iterdir()}

    assert contents() == contents()


def test_splits_without_sources_are_drawn_from_train() -> None:
    put("a.jsonl", numbered(500))
    report = run(corpus={"train": [{"uri": "a.jsonl"}]}, held_out_share=0.1)
    parts = [{record["id"] for record in records("corpus", split)} for split in datasets.SPLITS]
    assert all(30 < len(part) < 70 for part in parts[1:])
    assert set.union(*parts) == {f"t{number}" for number in range(500)}
    assert sum(map(len, parts)) == 500
    assert report.sources == {"corpus.train a.jsonl": 500}


def test_only_the_lacking_split_is_drawn() -> None:
    put("a.jsonl", numbered(300))
    put("b.jsonl", numbered(10, start=1000))
    run(corpus={"train": [{"uri": "a.jsonl"}], "test": [{"uri": "b.jsonl"}]}, held_out_share=0.1)
    assert len(records("corpus", "test")) == 10
    assert len(records("corpus", "train")) + len(records("corpus", "valid")) == 300


def test_a_story_never_straddles_splits() -> None:
    rows = [
        {"task": "qa", "context": f"Story {number}.", "prompt": prompt, "completion": "x"}
        for number in range(200)
        for prompt in ("Who?", "Where?", "Why?")
    ]
    put("qa.jsonl", rows)
    run(instructions={"train": [{"uri": "qa.jsonl"}]}, held_out_share=0.2)
    parts = [{record["context"] for record in records("instructions", split)} for split in datasets.SPLITS]
    assert all(parts)
    assert sum(map(len, parts)) == 200


def test_too_small_a_draw_is_an_error_with_its_remedy() -> None:
    put("a.jsonl", numbered(3))
    with pytest.raises(DataError, match=r"held_out_share is 0\.02.*none of the 3 records.*ingestion\.corpus\.test"):
        run(corpus={"train": [{"uri": "a.jsonl"}]})
    assert not RAW.exists()


@pytest.mark.parametrize("text", ["One. \nTwo. \nThree.", "One.\r\rTwo.\r\rThree."], ids=["no blank line", "CR alone"])
def test_too_few_records_to_draw_from_are_told_with_why_a_text_may_be_one(text: str) -> None:
    put("a.txt", text.encode())
    with pytest.raises(
        DataError, match=r"ingestion\.corpus\.train gives is 1, too few to draw test and valid.* in CR alone, is one"
    ):
        run(corpus={"train": [{"uri": "a.txt"}]}, held_out_share=0.4)


BAD_LINES = {
    "not JSON": b'{"id": "x", "text": ',
    "not an object": b'["text"]',
    "not UTF-8": b'{"text": "\xff"}',
    "NUL character": b'{"text": "a\\u0000b"}',
    "line too long": b'{"text": "' + b"x" * 10_000_000 + b'"}',
    "field missing": b'{"txt": "a"}',
    "field of wrong type": b'{"text": ["a"]}',
    "duplicate id": b'{"id": "t1", "text": "Other."}',
}


@pytest.mark.parametrize("reason", BAD_LINES)
def test_a_bad_line_is_quarantined_with_file_line_and_reason(reason: str) -> None:
    good = "".join(json.dumps(row) + "\n" for row in numbered(200)).encode()
    put("a.jsonl", good + BAD_LINES[reason] + b"\n" + json.dumps({"id": "last", "text": "Last."}).encode())
    report = run(corpus={"train": [{"uri": "a.jsonl"}]}, held_out_share=0.1)
    (entry,) = quarantine()
    assert (entry["file"], entry["line"], entry["reason"]) == ("a.jsonl", 201, reason)
    assert len(entry["text"]) <= 200
    assert report.quarantined_by_reason == {reason: 1}
    assert report.num_quarantined == 1
    assert sum(report.num_records.values()) == 201


def test_gold_facts_that_our_scorer_does_not_know_are_set_aside_unless_the_source_names_another_column() -> None:
    rows = [{"task": "t", "prompt": f"{number}?", "completion": "c"} for number in range(40)]
    put("a.jsonl", "".join(json.dumps(row) + "\n" for row in [*rows, {**rows[0], "gold": {"label": 3}}]).encode())
    source = {"uri": "a.jsonl"}
    report = run(instructions={"train": [source]}, held_out_share=0.1, max_bad_line_share=0.1)
    assert report.quarantined_by_reason == {"unknown gold facts": 1}
    assert "`columns: {gold: none}`" in quarantine()[0]["detail"]
    report = run(instructions={"train": [source | {"columns": {"gold": "none"}}]}, held_out_share=0.1)
    assert (report.num_quarantined, sum(report.num_records.values())) == (0, 41)


@pytest.mark.parametrize("data", BAD_LINES.values(), ids=BAD_LINES)
def test_a_text_file_survives_the_same_bytes(data: bytes) -> None:
    put("a.txt", b"".join(b"Text %d.\n\n" % number for number in range(200)) + data + b"\n\nlast")
    run(corpus={"train": [{"uri": "a.txt"}]}, held_out_share=0.1, max_bad_line_share=0.1)
    texts = [record["text"] for split in datasets.SPLITS for record in records("corpus", split)]
    assert {"last", *(f"Text {number}." for number in range(200))} <= set(texts)


def test_too_many_bad_lines_stop_the_stage_and_name_three() -> None:
    put("ok.jsonl", numbered(100))
    put("bad.jsonl", "".join(json.dumps(row) + "\n" for row in numbered(96, 500)) + "{\n" * 4)
    with pytest.raises(DataError) as caught:
        run(corpus=everywhere("ok.jsonl") | {"train": [{"uri": "ok.jsonl"}, {"uri": "bad.jsonl"}]})
    message = str(caught.value)
    assert "bad.jsonl: 4 of 100 records are bad, more than ingestion.max_bad_line_share (0.01)" in message
    assert message.count("bad.jsonl:9") == 3
    assert "bad.jsonl:97  not JSON" in message
    assert len(list(files.read_jsonl(Path(".moteur/quarantine.jsonl")))) == 4
    assert not RAW.exists()


def test_what_was_there_stays_when_the_stage_fails() -> None:
    put("a.jsonl", numbered(200))
    run(corpus={"train": [{"uri": "a.jsonl"}]}, held_out_share=0.1)
    before = records("corpus", "train")
    put("a.jsonl", "{\n")
    with pytest.raises(DataError):
        run(corpus={"train": [{"uri": "a.jsonl"}]})
    assert records("corpus", "train") == before


def test_a_source_with_wrong_columns_is_given_up_early() -> None:
    put("a.jsonl", [{"body": f"{number}"} for number in range(50_000)])
    with pytest.raises(DataError, match=r"1,000 of 1,000 records are bad(.|\n)*field missing: text") as caught:
        run(corpus={"train": [{"uri": "a.jsonl"}]})
    assert "columns and constants" in str(caught.value)


def test_every_source_is_checked_before_any_is_read() -> None:
    put("good.jsonl", numbered(200))
    put("empty.jsonl", "")
    Path("shelf/folder").mkdir()
    uris = ["good.jsonl", "empty.jsonl", "folder", "nowhere.jsonl", "a*.jsonl", "x.csv"]
    with pytest.raises(DataError) as caught:
        run(corpus={"train": [{"uri": uri} for uri in uris]})
    message = str(caught.value)
    assert message.startswith("5 sources cannot be read:")
    for uri in uris[1:]:
        assert uri in message
    assert not RAW.exists()


def test_a_file_of_blank_lines_holds_no_records() -> None:
    put("a.jsonl", "\n\n")
    with pytest.raises(DataError, match=r"a\.jsonl holds no records"):
        run(corpus={"train": [{"uri": "a.jsonl"}]})


def test_an_unreadable_root_and_a_torn_gzip_leave_nothing_behind() -> None:
    whole = gzip.compress("".join(json.dumps(row) + "\n" for row in numbered(1000)).encode())
    put("a.jsonl.gz", whole[: len(whole) // 2])
    with pytest.raises(DataError, match="download is probably incomplete"):
        run(corpus={"train": [{"uri": "a.jsonl.gz"}]})
    assert not RAW.exists()
    assert not [path for path in Path("data").iterdir() if path.name.startswith(".raw")]


def test_whole_duplicates_pass_for_validation_to_count() -> None:
    put("a.jsonl", [*numbered(200), *numbered(2)])
    report = run(corpus={"train": [{"uri": "a.jsonl"}]}, held_out_share=0.1)
    assert sum(report.num_records.values()) == 202


def test_ids_that_mean_nothing_can_be_made_from_the_content() -> None:
    put("a.jsonl", [{"id": 0, "text": f"Text {number}."} for number in range(200)])
    with pytest.raises(DataError, match=r"duplicate id.*constants: \{id: ''\}"):
        run(corpus={"train": [{"uri": "a.jsonl"}]})
    report = run(corpus={"train": [{"uri": "a.jsonl", "constants": {"id": ""}}]}, held_out_share=0.1)
    assert report.num_quarantined == 0


def test_a_limit_holds_over_all_files_of_a_glob() -> None:
    put("a.jsonl", numbered(100))
    put("b.jsonl", numbered(100, 500))
    report = run(corpus=everywhere("a.jsonl") | {"train": [{"uri": "?.jsonl", "limit": 130}]})
    assert report.num_records["corpus.train"] == 130


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm() -> None:
    lines = "".join(json.dumps(row) + "\r\n" for row in numbered(200))
    put("a.jsonl", b"\xef\xbb\xbf" + lines.encode())
    report = run(corpus={"train": [{"uri": "a.jsonl"}]}, held_out_share=0.1)
    assert report.num_byte_order_marks == 1
    assert (report.num_quarantined, sum(report.num_records.values())) == (0, 200)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"columns": {"txt": "body"}}, r"columns names the field 'txt', which records of corpus do not have"),
        ({"constants": {"task": "qa"}}, r"constants names the field 'task'"),
        ({"columns": {"text": "a"}, "constants": {"text": "b"}}, r"the field 'text' is in columns and in constants"),
    ],
)
def test_fields_that_do_not_exist_are_errors_of_params(source: dict[str, Any], message: str) -> None:
    put("a.jsonl", numbered(5))
    with pytest.raises(ParamsError, match=message):
        run(corpus={"train": [{"uri": "a.jsonl", **source}]})


def test_a_path_outside_the_root_is_an_error_when_params_load() -> None:
    with pytest.raises(ParamsError, match=r"not below ingestion\.root"):
        settings(corpus={"train": [{"uri": "/somewhere/a.jsonl"}]})


REAL = Path(os.environ.get("MOTEUR_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
QUESTIONS = {
    "uri": "sft/fairytaleqa.val.jsonl.gz",
    "columns": {
        "prompt": "instruction",
        "context": "input",
        "completion": "output",
        "references": "other_answers",
    },
    "constants": {"task": "question_answering"},
}
DIALOGUES = {
    "uri": "sft/dialogsum.val.jsonl.gz",
    "columns": {"context": "dialogue", "completion": "summary"},
    "constants": {"task": "dialogue_summary", "prompt": "Summarise the dialogue."},
}


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the folder of real data is absent ({REAL}; MOTEUR_REAL_DATA names it)")
def test_real_data_read_without_a_bad_line() -> None:
    tales = [
        {"uri": f"pretrain/{name}.valid.txt.gz", "separator": "<|endoftext|>"} for name in ("tinystories", "fairytales")
    ]
    report = run(
        root=str(REAL),
        corpus={"train": tales},
        instructions={"train": [QUESTIONS, DIALOGUES]},
        preferences={"train": [{"uri": "preferences/convarg.val.jsonl.gz"}]},
        held_out_share=0.1,
    )
    assert list(report.sources.values()) == [202, 46, 1025, 500, 1742]
    assert report.num_quarantined == 0
    assert any(record.get("references") for record in records("instructions", "train"))

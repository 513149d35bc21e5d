import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipelines import data_validation, params
from pipelines.adapters import datasets, expectations, files
from pipelines.adapters.tables import Tables
from pipelines.adapters.tracking import NullTracker
from pipelines.core.text.screening import REASONS
from pipelines.data_validation import DataValidationReport
from pipelines.errors import DataError, ParamsError
from pipelines.params import Expectation, Params

RAW, VALIDATED, PROFILE = Path("data/raw"), Path("data/validated"), Path("data/reference_profile.json")
VALUES = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text(encoding="utf-8"))
ROWS_100 = {"records": "corpus", "name": "ExpectTableRowCountToBeBetween", "arguments": {"min_value": 100}}


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for kind in datasets.KINDS:
        for split in datasets.SPLITS:
            put(kind, split, [])
    return tmp_path


def settings(**section: Any) -> Params:
    return params.parse({**VALUES, "data_validation": {**VALUES["data_validation"], "expectations": [], **section}})


def run(**section: Any) -> DataValidationReport:
    return data_validation.main(settings(**section), NullTracker())


def put(kind: Any, split: Any, records: list[dict[str, Any]]) -> None:
    files.write_jsonl(datasets.file(RAW, kind, split), records)


def some_texts(count: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    words = [f"{a}{b}" for a in ("ba", "ko", "mi", "tu", "se", "la") for b in ("ra", "no", "li", "pu", "de", "vo")]
    return [
        {"id": f"s{seed}-{number}", "text": " ".join(rng.choices(words, k=60)) + ".", "source": "made"}
        for number in range(count)
    ]


def accepted(kind: Any, split: Any) -> list[dict[str, Any]]:
    return list(datasets.records(VALIDATED, kind, split))


def test_sound_records_pass_unchanged_to_the_byte() -> None:
    put("corpus", "train", some_texts(120))
    put("corpus", "test", some_texts(20, 1))
    report = run(expectations=[ROWS_100])
    for split in datasets.SPLITS:
        name = f"corpus.{split}.jsonl"
        assert (VALIDATED / name).read_bytes() == (RAW / name).read_bytes()
    assert (report.num_documents, report.num_rejected) == (140, 0)
    assert (report.expectations_met, report.expectations_total) == (1, 1)
    assert report.num_accepted["corpus.train"] == 120
    assert sorted(report.rejected_by_reason) == sorted(set(REASONS) - {"accepted"})
    assert len(list(VALIDATED.iterdir())) == 10


def test_rejects_are_kept_with_file_line_id_and_reason() -> None:
    texts = some_texts(100)
    texts[41]["text"] = "short"
    texts[77] = {**texts[3], "id": "again"}
    put("corpus", "train", texts)
    report = run()
    entries = list(files.read_jsonl(VALIDATED / "rejects.jsonl"))
    assert [(entry["file"], entry["line"], entry["id"], entry["reason"]) for entry in entries] == [
        ("data/raw/corpus.train.jsonl", 42, texts[41]["id"], "too short"),
        ("data/raw/corpus.train.jsonl", 78, "again", "exact duplicate"),
    ]
    assert [record["id"] for record in accepted("corpus", "train")] == [
        record["id"] for record in texts if record["id"] not in ("again", texts[41]["id"])
    ]
    assert report.num_rejected == 2


def test_too_many_rejects_stop_the_stage_with_reasons_and_rows() -> None:
    put("corpus", "train", [*some_texts(50), *({"id": f"x{n}", "text": f"x{n}", "source": "y"} for n in range(10))])
    with pytest.raises(DataError) as caught:
        run()
    message = str(caught.value)
    assert "data_validation.max_rejected_share is 0.1, but 10 of 60 records of corpus are rejected" in message
    assert "10  too short" in message
    assert "data/raw/corpus.train.jsonl:51  x0  too short" in message
    assert len(list(files.read_jsonl(Path(".moteur/rejects.jsonl")))) == 10
    assert not VALIDATED.exists()


def test_evaluation_text_in_the_training_corpus_is_found_across_kinds() -> None:
    story = some_texts(1, 9)[0]["text"]
    put("corpus", "train", [*some_texts(50), {"id": "leak", "text": f"Once more: {story}", "source": "y"}])
    put(
        "instructions",
        "test",
        [{"id": "q", "task": "t", "context": story, "prompt": "Who?", "completion": "Ann", "source": "y"}],
    )
    report = run()
    assert report.num_contaminated == 1
    assert "leak" not in {record["id"] for record in accepted("corpus", "train")}
    assert len(accepted("instructions", "test")) == 1


def test_redaction_reaches_the_validated_files() -> None:
    texts = some_texts(50)
    texts[7]["text"] += " Call 626-555-1739."
    put("corpus", "train", texts)
    report = run(personal_data="redact")
    lines = datasets.file(VALIDATED, "corpus", "train").read_text(encoding="utf-8")
    assert report.num_with_personal_data == 1
    assert "[phone]" in lines
    assert "626" not in lines
    assert accepted("corpus", "train")[7]["text"].endswith("Call [phone].")


def test_a_broken_expectation_says_which_how_many_and_shows_three_rows() -> None:
    texts = some_texts(100)
    for number in (4, 40, 60, 80):
        texts[number]["text"] = f"only six words stand in {number}"
    put("corpus", "train", texts)
    rule = {
        "records": "corpus",
        "name": "ExpectColumnValuesToBeBetween",
        "arguments": {"column": "words", "min_value": 10},
    }
    with pytest.raises(DataError) as caught:
        run(expectations=[ROWS_100, rule])
    message = str(caught.value)
    assert "1 of 2 expectations are not met" in message
    assert "ExpectColumnValuesToBeBetween of corpus (column words, min_value 10): found 4 of 100 rows" in message
    assert message.count("words 6") == 3
    assert "line 5" in message
    assert not VALIDATED.exists()
    assert not PROFILE.exists()
    assert Path(".moteur/data_docs/index.html").is_file()


def test_a_broken_aggregate_shows_what_was_found() -> None:
    put("corpus", "train", some_texts(30))
    rule = {
        "records": "corpus",
        "name": "ExpectColumnMeanToBeBetween",
        "arguments": {"column": "words", "max_value": 3},
    }
    with pytest.raises(DataError, match=r"max_value 3\): found 60\.0\n.*words 60"):
        run(expectations=[rule])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"name": "ExpectColumnValuesToBeUniqe", "arguments": {"column": "id"}}, "no such class. Did you mean"),
        ({"name": "ExpectColumnValuesToBeUnique", "arguments": {"colum": "id"}}, "colum"),
        ({"name": "ExpectColumnValuesToBeUnique", "arguments": {"column": "wrods"}}, "no column 'wrods'; there are id"),
    ],
)
def test_an_expectation_that_cannot_be_held_is_an_error_of_params(rule: dict[str, Any], message: str) -> None:
    put("corpus", "train", some_texts(30))
    with pytest.raises(ParamsError, match=r"data_validation\.expectations\.0") as caught:
        run(expectations=[{"records": "corpus", **rule}])
    assert message in str(caught.value)


def test_the_contract_of_params_can_be_held_against_a_corpus_without_instructions() -> None:
    put("corpus", "train", some_texts(120))
    report = run(expectations=VALUES["data_validation"]["expectations"])
    assert report.expectations_met == report.expectations_total


def test_the_results_come_in_the_order_of_the_contract() -> None:
    put("corpus", "train", some_texts(30))
    rules = [
        {"name": "ExpectColumnMeanToBeBetween", "arguments": {"column": "words", "max_value": limit}}
        for limit in (10, 100, 20, 200)
    ]
    contract = [Expectation.model_validate({"records": "corpus", **rule}) for rule in rules]
    run()
    columns = {"words": np.array([60])}
    with Tables({"corpus": columns}) as tables:
        tables.add("corpus", "train", ["a"], np.array([1]), columns)
        outcomes = expectations.check(tables, contract, expectations.compile_contract(contract), Path("docs"))
    assert [item.met for item in outcomes] == [False, True, False, True]


def test_the_same_records_give_the_same_bytes() -> None:
    texts = [*some_texts(100), *({**item, "text": f"{item['text']} end"} for item in some_texts(5))]
    put("corpus", "train", texts)

    def outputs() -> dict[str, bytes]:
        run()
        return {path.name: path.read_bytes() for path in [*VALIDATED.iterdir(), PROFILE]}

    assert outputs() == outputs()


def test_batches_do_not_change_the_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [
        *some_texts(60),
        *({**item, "id": f"{item['id']}b", "text": f"{item['text']} x"} for item in some_texts(6)),
    ]
    put("corpus", "train", texts)
    whole = run().rejected_by_reason, PROFILE.read_bytes()
    monkeypatch.setattr(data_validation, "BATCH_BYTES", 1000)
    assert (run().rejected_by_reason, PROFILE.read_bytes()) == whole
    assert whole[0]["near duplicate"] == 6


def test_the_profile_describes_the_accepted_training_data_alone() -> None:
    put("corpus", "train", [*some_texts(50), {"id": "bad", "text": "zzz", "source": "y"}])
    put("corpus", "test", [{"id": "t", "text": "qqq " * 30, "source": "y"}])
    run()
    profile = json.loads(PROFILE.read_text(encoding="utf-8"))
    assert profile["corpus"]["records"] == 50
    assert profile["corpus"]["descriptors"]["words"]["mean"] == 60
    assert not {"zzz", "qqq"} & profile["corpus"]["top_words"].keys()
    assert sum(profile["corpus"]["top_words"].values()) == pytest.approx(1, abs=1e-3)
    assert profile["preferences"]["records"] == 0

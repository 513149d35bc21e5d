import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipelines.adapters.expectations import check, compile_contract
from pipelines.adapters.tables import Tables
from pipelines.errors import ParamsError, ResourceError
from pipelines.params import Expectation

QUERY = "SELECT * FROM {batch} WHERE share > 1"


@pytest.fixture
def tables() -> Iterator[Tables]:
    columns = {"words": np.empty(0, dtype=np.int64), "share": np.empty(0, dtype=np.float32)}
    with Tables({"corpus": columns, "instructions": columns}) as made:
        yield made


def fill(tables: Tables, shares: list[float]) -> None:
    count = len(shares)
    columns = {"words": np.arange(count), "share": np.array(shares, dtype=np.float32)}
    tables.add("corpus", "train", [f"s{number}" for number in range(count)], np.arange(1, count + 1), columns)


def test_extremes_are_the_least_the_middle_and_the_greatest_and_a_missing_value_is_the_last(tables: Tables) -> None:
    fill(tables, [0.5, float("nan"), 0.25, 1.0, 0.75])
    assert [(row["line"], row["share"]) for row in tables.extremes("corpus", "share")] == [
        (3, 0.25),
        (5, 0.75),
        (2, None),
    ]
    assert list(tables.extremes("instructions", "share")) == []


def test_the_file_is_gone_afterwards() -> None:
    with Tables({}) as tables:
        assert tables.path.is_file()
    assert not tables.path.parent.exists()


def test_an_equal_id_in_two_batches_is_found(tables: Tables, tmp_path: Path) -> None:
    fill(tables, [0.0, 0.5])
    fill(tables, [1.0])
    rules = [
        {"name": "ExpectColumnValuesToBeUnique", "arguments": {"column": "id"}},
        {"name": "ExpectColumnMeanToBeBetween", "arguments": {"column": "share", "min_value": 0.5, "max_value": 0.5}},
        {"name": "UnexpectedRowsExpectation", "arguments": {"unexpected_rows_query": QUERY}},
    ]
    contract = [Expectation.model_validate({"records": "corpus", **rule}) for rule in rules]
    found = check(tables, contract, compile_contract(contract), tmp_path / "docs")
    assert [(item.met, item.num_unexpected) for item in found] == [(False, 2), (True, None), (True, None)]
    assert [row["id"] for row in found[0].rows] == ["s0", "s0"]


def test_a_full_disk_is_a_sentence_that_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def fill_a_full_disk() -> None:
        columns = {"words": np.empty(0, dtype=np.int64), "share": np.empty(0, dtype=np.float32)}
        with Tables({"corpus": columns}) as made:
            made._database.execute("PRAGMA max_page_count = 4")  # SQLite says the same when the disk has no more
            fill(made, [0.5] * 10_000)

    with pytest.raises(ResourceError, match=f"{tmp_path}.*TMPDIR"):
        fill_a_full_disk()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("ExpectColumnValuesToBeIncreasing", {}, r"expectations.0 .*cannot be computed.*in SQL.*another class"),
        (
            "ExpectColumnQuantileValuesToBeBetween",
            {"quantile_ranges": {"quantiles": [0.5], "value_ranges": [[0, 1]]}},
            "fails on one of ExpectColumnQuantileValuesToBeBetween, of corpus",
        ),
    ],
)
def test_what_the_library_cannot_do_in_sql_is_a_sentence(
    tables: Tables, tmp_path: Path, name: str, arguments: dict[str, object], said: str
) -> None:
    fill(tables, [0.5, 0.25])
    rule = {"records": "corpus", "name": name, "arguments": {"column": "share", **arguments}}
    contract = [Expectation.model_validate(rule)]
    with pytest.raises(ParamsError, match=said):
        check(tables, contract, compile_contract(contract), tmp_path / "docs")

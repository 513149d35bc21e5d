from pathlib import Path

import numpy as np
import pytest

from flows.drift import schema
from pipelines.core.drift.sample import PERPLEXITY, Sample


def sample(**columns: list[float]) -> Sample:
    return Sample(columns={name: np.array(values, dtype=np.float64) for name, values in columns.items()})


def test_a_column_beyond_the_reference_is_not_met_and_a_missing_value_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    nan = float("nan")
    reference = sample(words=[5, 10, nan], share=[0.25, 0.5, 0.75], **{PERPLEXITY: [1, 1, 1]})
    window = sample(words=[5, 10, nan, nan], share=[0.5, 0.9, 0.8, 0.75], **{PERPLEXITY: [9, 9, 9, 9]})
    rows = {row.column: row for row in schema.check(reference, window, expected_share=0.8)}
    assert {name: row.met for name, row in rows.items()} == {"words": True, "share": False}
    assert rows["share"].expected == "0.25 to 0.75 in 80 % of the documents"
    assert rows["share"].observed == "2 of 4 rows outside"
    assert (schema.DOCS / "index.html").is_file()

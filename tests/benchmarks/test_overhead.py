"""What Python says about imports, and what runs of different length say about a stage."""

import pytest

from benchmarks import overhead, runs

SAID = """
import time: self [us] | cumulative | imported package
import time:       500 |        500 |     json
import time:      3000 |       3000 |       sklearn.base
import time:      1000 |       4500 |     sklearn
import time:      2000 |       6500 |   transformers
import time:       100 |       6600 | pipelines.adapters.models
some other line
import time:      7000 |       7000 | torch
"""


def test_the_imports_of_a_stage_are_told_by_library_with_who_brought_them() -> None:
    found = list(overhead.imports(SAID.splitlines()))
    assert overhead.by_library(found) == {
        "torch": pytest.approx(0.007),
        "pipelines": pytest.approx(0.0001),
        "transformers": pytest.approx(0.002),
        "sklearn": pytest.approx(0.004),
    }
    assert {one.library: one.by for one in found} == {
        "torch": "",
        "pipelines": "",
        "transformers": "pipelines",
        "sklearn": "transformers",
    }


def test_a_stage_costs_what_more_stages_take_longer() -> None:
    many = overhead.MANY
    seconds = {f"{way}, 1 stage": 5.0 for way in (overhead.REPRO, overhead.RUN, overhead.SINK)}
    seconds |= {
        f"{way}, {many} stages": 5.0 + 2.0 * (many - 1) for way in (overhead.REPRO, overhead.RUN, overhead.SINK)
    }
    turns: runs.Runs = {
        name: [{"wall_seconds": value, "cpu_seconds": value / 2}]
        for name, value in {**seconds, overhead.FRAME: 0.5}.items()
    }
    assert overhead.costs(turns)[overhead.RUN] == [{"per_stage": 2.0, "cpu_per_stage": 1.0, "per_run": 3.0}]
    assert overhead.beyond_imports(turns) == {overhead.REPRO: 1.5, overhead.RUN: 1.5}

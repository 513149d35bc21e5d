"""The page of performance is made of the results, whatever of them there is."""

import json
from pathlib import Path

from benchmarks import report, runs

BUSY = {
    "cpu": "A chip",
    "cores": 2,
    "threads": 2,
    "memory_gib": 24,
    "gpu": None,
    "dtype": "bfloat16",
    "busy_cores": 3.5,
}


def test_the_page_says_what_has_not_been_measured_and_how_to_measure_it() -> None:
    empty = report.page({})
    assert empty.count("Not measured yet") == len(report.QUESTIONS)
    assert "`make bench BENCH=generation`" in empty


def test_a_section_names_program_and_machine_and_has_the_tables() -> None:
    one = runs.Comparison(title="Batch 1", runs={"Moteur": [{"s": 3.0}]}, figure="s", columns={"s": "tokens/s"})
    found = {
        "how": "Sampled.",
        "machine": BUSY | {"busy_cores": 0.1},
        "comparisons": [vars(one)],
        "aims": [{"what": "speed", "found": 3.0, "at_least": 2.0, "at_most": None}],
        "notes": ["A note."],
    }
    page = report.page({"generation": [found]})
    section = page.partition("## How fast is batched sampling?")[2].partition("##")[0]
    assert "`benchmarks/generation.py`. A chip, 2 cores, 2 threads, 24 GiB, no GPU, fast dtype bfloat16." in section
    for part in (
        "Sampled.",
        "**Batch 1**",
        "| Moteur | 3.000 |",
        "| speed | 3.000 | at least 2.000 | met |",
        "A note.",
    ):
        assert part in section


def test_other_machines_have_their_results_below(tmp_path: Path) -> None:
    found = {"how": "Sampled.", "machine": BUSY | {"busy_cores": 0.1}, "comparisons": [], "aims": [], "notes": []}
    (tmp_path / "other").mkdir()
    (tmp_path / "generation.json").write_text(json.dumps(found))
    other = found | {"how": "Sampled there.", "machine": {**BUSY, "cpu": "B chip", "busy_cores": 0.0}}
    (tmp_path / "other/generation.json").write_text(json.dumps(other))
    section = report.page(report.results(tmp_path)).partition("## How fast is batched sampling?")[2]
    first, _, second = section.partition("### The same on B chip")
    assert "A chip, 2 cores" in first
    assert "B chip, 2 cores" in second
    assert second.index("Sampled there.") < second.index("## How fast is the server?")


def test_figures_of_a_busy_machine_are_called_noise() -> None:
    assert "Others kept 3.5 cores busy when this began: the figures are noise." in report.machine(BUSY)
    assert "busy" not in report.machine(BUSY | {"busy_cores": 0.1})


def test_the_load_average_of_older_results_is_told_and_judged_by_nobody() -> None:
    old = {name: fact for name, fact in BUSY.items() if name != "busy_cores"} | {"load_average": 2.5}
    assert report.machine(old).endswith("Load average of the minute before: 2.5.")


def test_every_benchmark_that_the_page_asks_for_is_there() -> None:
    assert [name for name in report.QUESTIONS if not (runs.ROOT / "benchmarks" / f"{name}.py").is_file()] == []


def test_the_page_in_docs_is_that_of_the_results_that_are_kept() -> None:
    assert report.PAGE.read_text(encoding="utf-8") == report.page(report.results(runs.RESULTS))

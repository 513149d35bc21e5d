"""Turns, ratios, tables and the file of results."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import runs
from benchmarks.runs import Aim, Comparison, Side

TURNS: runs.Runs = {
    "Moteur": [{"speed": 300.0, "mib": 10.0}, {"speed": 200.0, "mib": 12.0}, {"speed": 400.0, "mib": 11.0}],
    "peer": [{"speed": 100.0, "mib": 50.0}, {"speed": 100.0, "mib": 50.0}, {"speed": 100.0, "mib": 50.0}],
    "limit": [{"mib": 1.0}, {"mib": 1.0}, {"mib": 1.0}],
}
COMPARED = Comparison(
    title="Speed", runs=TURNS, figure="speed", columns={"speed": "tokens/s", "mib": "MiB"}, ours="Moteur"
)


def python(code: str, name: str = "a side") -> Side:
    return Side(name=name, command=[sys.executable, "-c", code])


def test_sides_take_turns() -> None:
    order: list[str] = []

    def note(side: Side) -> runs.Figures:
        order.append(side.name)
        return {"place": len(order)}

    found = runs.alternate([python("", "one"), python("", "two")], 2, note)
    assert order == ["one", "two", "one", "two"]
    assert found == {"one": [{"place": 1}, {"place": 3}], "two": [{"place": 2}, {"place": 4}]}


def test_the_figures_of_a_side_are_its_last_line_of_json_and_what_it_cost() -> None:
    held = 300 * runs.MIB
    code = f"import time; held = bytearray(b'1' * {held}); print('loading'); time.sleep(0.5); print('{{\"speed\": 3}}')"
    found = runs.figures(python(code))
    assert found["speed"] == 3
    assert 300 < found["peak_mib"] < 1500
    assert found["wall_seconds"] >= 0.5
    assert found["cpu_seconds"] > 0


def test_the_memory_of_what_a_side_starts_is_counted() -> None:
    child = f"import time; held = bytearray(b'1' * {200 * runs.MIB}); time.sleep(0.5)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    assert runs.figures(python(code))["peak_mib"] > 200


def test_a_side_that_fails_ends_the_benchmark_with_what_it_said() -> None:
    with pytest.raises(SystemExit, match=r"a side ended with exit code 1:[\s\S]*no such token"):
        runs.figures(python("raise KeyError('no such token')"))


def test_ratios_are_taken_within_a_turn() -> None:
    assert runs.ratios(TURNS, "Moteur", "peer", "speed") == [3.0, 2.0, 4.0]
    assert runs.ratios(TURNS, "Moteur", "peer", "mib", lower_is_better=True) == [5.0, pytest.approx(50 / 12), 50 / 11]


def test_the_table_has_the_median_the_spread_and_how_many_times_better_ours_is() -> None:
    assert runs.table(COMPARED).splitlines() == [
        "|  | tokens/s | Moteur is | MiB |",
        "|---|---:|---:|---:|",
        "| Moteur | 300 (200 to 400) |  | 11.0 |",
        "| peer | 100 (100 to 100) | 3.00 (2.00 to 4.00) times | 50.0 |",
        "| limit |  |  | 1.000 |",
    ]


def test_a_figure_of_one_run_has_no_spread() -> None:
    once = {name: turns[:1] for name, turns in TURNS.items()}
    one = Comparison(title="", runs=once, figure="speed", columns={"speed": "tokens/s"})
    assert "| Moteur | 300 |" in runs.table(one)


@pytest.mark.parametrize(
    ("value", "text"), [(12345.6, "12,346"), (99.94, "99.9"), (1.1474, "1.147"), (0.0123, "0.012"), (None, "")]
)
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert runs.shown(value) == text


def test_an_aim_is_met_at_its_limit_and_missed_beyond() -> None:
    assert Aim(what="", found=2.0, at_least=2.0).met
    assert not Aim(what="", found=1.99, at_least=2.0).met
    assert Aim(what="", found=0.0, at_most=0.0).met
    assert not Aim(what="", found=0.01, at_most=0.0).met
    assert runs.aims_table([Aim(what="speed", found=1.5, at_least=2)]).endswith(
        "| speed | 1.500 | at least 2.000 | **missed** |"
    )


def test_results_come_back_from_their_file_as_they_were_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runs, "RESULTS", tmp_path / "results")
    aims = [Aim(what="speed", found=3.0, at_least=2)]
    runs.write(
        "speed", how="As fast as it goes.", comparisons=[COMPARED], machine={"cores": 2}, aims=aims, notes=["So."]
    )
    kept = json.loads((tmp_path / "results" / "speed.json").read_text())
    assert "\n".join(runs.body(kept)) == capsys.readouterr().out.rstrip("\n") + "\n"
    assert kept["comparisons"][0]["runs"] == TURNS
    assert kept["machine"] == {"cores": 2}

"""The history: appended, chained, and able to say which version was live on any day."""

import itertools
import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.champions import console, history
from flows.champions.history import Entry
from pipelines.errors import ParamsError

FIRST = Entry(
    id="1",
    time="2026-03-01T12:00:00+00:00",
    who="ops",
    action="promote",
    from_version=None,
    to_version=1,
    manifest_sha256="a" * 64,
    why="the first",
    verdict="Version 1 passed all 20 rules.",
    verdict_sha256="b" * 64,
)


def event(number: int, when: str, version: int, action: history.Action = "promote") -> Entry:
    return replace(FIRST, id=str(number), time=when, to_version=version, action=action, why="")


@pytest.fixture(autouse=True)
def in_utc(monkeypatch):
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def asked(entries: list[Entry], at: str) -> list[str]:
    start, end = history.period(at, date(2026, 11, 24))
    return console.answer(history.reigns(entries), start, end)


def test_which_version_was_live_on_the_third_of_march():
    entries = [
        FIRST,
        event(2, "2026-03-02T09:00:00+00:00", 2, "refuse"),
        event(3, "2026-03-03T14:12:00+00:00", 3),
        event(4, "2026-03-03T14:20:00+00:00", 1, "rollback"),
        event(5, "2026-03-05T08:00:00+00:00", 4),
    ]
    lines = asked(entries, "3 March")
    assert [line.split(":")[1].split(" was")[0] for line in lines] == [" version 1", " version 3", " version 1"]
    assert lines[0].startswith("On 3 March 2026: version 1 was live for a part of it: promoted by ops on 1 March 2026")
    assert "rolled back to by ops on 3 March 2026, 14:20:00, until 5 March 2026, 08:00:00" in lines[2]
    (line,) = asked(entries, "2026-03-04")
    assert line.startswith("On 4 March 2026: version 1 was live: rolled back to")
    (line,) = asked(entries, "2026-03-03T14:15")
    assert "version 3 was live: promoted" in line
    (line,) = asked(entries, "2026-11-23")
    assert "version 4 was live: promoted by ops on 5 March 2026, 08:00:00, live to this day" in line


def test_before_the_first_version_none_was_live():
    assert asked([FIRST], "28 Feb 2026") == [
        "On 28 February 2026 no version was live; the first version came on 1 March 2026, 12:00:00."
    ]
    assert asked([], "2026-03-03") == ["On 3 March 2026 no version was live: none has been promoted."]


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2026-03-03", date(2026, 3, 3)),
        ("3 March 2026", date(2026, 3, 3)),
        ("March 3, 2026", date(2026, 3, 3)),
        ("3 mar", date(2026, 3, 3)),
        ("3.3.2026", date(2026, 3, 3)),
        ("25 December", date(2025, 12, 25)),
        ("29 February", date(2024, 2, 29)),
    ],
)
def test_days_as_people_write_them(text, day):
    start, end = history.period(text, date(2026, 11, 24))
    assert (start.date(), end - start) == (day, timedelta(days=1))


@pytest.mark.parametrize("text", ["yesterday", "2026-02-30", "", "3", "2026-03-03T25:00"])
def test_what_is_no_day_is_refused_with_examples(text):
    with pytest.raises(ParamsError, match=r"give a day \(2026-03-03, 3 March\)"):
        history.period(text, date(2026, 11, 24))


def test_an_entry_is_written_once_and_chained_to_the_one_before(tmp_path):
    history.append(tmp_path, FIRST)
    history.append(tmp_path, FIRST)
    second = history.append(tmp_path, event(2, "2026-03-02T00:00:00+00:00", 2))
    assert history.read(tmp_path) == [FIRST, second]
    assert len(second.before) == 64
    assert history.faults(tmp_path) == []


@pytest.mark.parametrize("damage", ["changed", "taken out", "swapped"])
def test_a_line_that_was_changed_or_taken_out_is_noticed(tmp_path, damage):
    four(tmp_path)
    path = tmp_path / history.PATH
    lines = path.read_text().splitlines(keepends=True)
    if damage == "changed":
        lines[1] = json.dumps({**json.loads(lines[1]), "who": "Eve"}) + "\n"
    elif damage == "taken out":
        del lines[1]
    else:
        lines[1:3] = lines[2:0:-1]
    path.write_text("".join(lines))
    assert history.faults(tmp_path)


@pytest.mark.parametrize("kept", [1, 20, -2, -1])
def test_half_a_line_left_by_a_crash_is_passed_over_and_written_again(tmp_path, kept):
    history.append(tmp_path, FIRST)
    head = (tmp_path / history.HEAD).read_bytes()
    second = history.append(tmp_path, event(2, "2026-03-02T00:00:00+00:00", 2))
    path = tmp_path / history.PATH
    first, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + last[:kept])
    (tmp_path / history.HEAD).write_bytes(head)  # it is written after the line
    assert history.faults(tmp_path) == []
    history.append(tmp_path, event(2, "2026-03-02T00:00:00+00:00", 2))
    third = history.append(tmp_path, event(3, "2026-03-03T00:00:00+00:00", 3))
    assert history.read(tmp_path) == [FIRST, second, third]
    assert history.faults(tmp_path) == []


def four(root: Path) -> None:
    for number in range(1, 5):
        history.append(root, event(number, f"2026-03-0{number}T00:00:00+00:00", number))


def bad(root: Path) -> list[str]:
    return [fault.bad.removeprefix(f"{history.PATH}: ") for fault in history.faults(root)]


@pytest.mark.parametrize(
    ("kept", "words"),
    [(3, "the last 1 of 4 entries is"), (1, "the last 3 of 4 entries are"), (0, "the last 4 of 4 entries are")],
)
@pytest.mark.parametrize("gone", [False, True])
def test_what_is_missing_at_the_end_is_noticed_and_stays_noticed_when_the_history_goes_on(tmp_path, kept, words, gone):
    four(tmp_path)
    path = tmp_path / history.PATH
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:kept]))
    if gone and not kept:
        path.unlink()
    assert bad(tmp_path) == [f"{words} missing"]
    fifth = history.append(tmp_path, event(5, "2026-03-05T00:00:00+00:00", 5), seal=True)
    history.append(tmp_path, event(6, "2026-03-06T00:00:00+00:00", 6))
    assert bad(tmp_path) == [f"what stood before the entry of {fifth.time} (promote 5) was changed or taken out"]


def test_a_last_line_that_was_changed_is_noticed(tmp_path):
    four(tmp_path)
    path = tmp_path / history.PATH
    path.write_text(path.read_text().replace('"to_version": 4', '"to_version": 3'))
    assert bad(tmp_path) == ["entry 4 is not the one that was written there"]


@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_crash_between_a_line_and_the_head_is_no_fault(tmp_path, monkeypatch, number):
    with monkeypatch.context() as crashing:
        for one in range(1, number + 1):
            if one == number:
                crashing.setattr(history.files, "write_json", lambda *_: 1 / 0)
            try:
                history.append(tmp_path, event(one, f"2026-03-0{one}T00:00:00+00:00", one))
            except ZeroDivisionError:
                assert one == number
    assert len(history.read(tmp_path)) == number
    assert history.faults(tmp_path) == []
    last = event(number, f"2026-03-0{number}T00:00:00+00:00", number)
    history.append(tmp_path, last)
    path = tmp_path / history.PATH
    whole = path.read_text()
    path.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    assert bad(tmp_path)
    path.write_text(whole)
    history.append(tmp_path, event(9, "2026-03-09T00:00:00+00:00", 9))
    assert history.faults(tmp_path) == []


@pytest.mark.parametrize("head", [None, "", "{}", '{"entries": "4", "sha256": ""}', "[1]"])
def test_a_head_that_is_lost_is_written_again_only_when_somebody_has_looked(tmp_path, head):
    four(tmp_path)
    (tmp_path / history.HEAD).unlink() if head is None else (tmp_path / history.HEAD).write_text(head)
    (fault,) = history.faults(tmp_path)
    assert fault.bad.startswith(f"{history.HEAD} is missing or torn")
    assert "`moteur rollback --to VERSION`" in fault.remedy
    history.append(tmp_path, event(5, "2026-03-05T00:00:00+00:00", 5))
    assert [str(one) for one in history.faults(tmp_path)] == [str(fault)]
    history.append(tmp_path, event(6, "2026-03-06T00:00:00+00:00", 6), seal=True)
    assert history.faults(tmp_path) == []


def test_a_clock_set_back_does_not_make_a_reign_end_before_it_began():
    reigns = history.reigns([FIRST, event(2, "2026-02-01T00:00:00+00:00", 2)])
    assert [(reign.version, reign.start, reign.end) for reign in reigns] == [
        (1, FIRST.moment, FIRST.moment),
        (2, FIRST.moment, None),
    ]


MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(
    st.lists(st.tuples(MOMENTS, st.integers(1, 9), st.sampled_from(["promote", "refuse", "rollback", "revert"]))),
    MOMENTS,
)
@settings(max_examples=200, deadline=None)
def test_at_any_moment_at_most_one_version_is_live_and_from_the_first_on_exactly_one(events, moment):
    entries = [event(n, when.isoformat(), version, action) for n, (when, version, action) in enumerate(events)]
    reigns = history.reigns(entries)
    live = history.live_during(reigns, moment, moment)
    assert len(live) == (1 if reigns and reigns[0].start <= moment else 0)
    assert all(early.end == late.start for early, late in itertools.pairwise(reigns))


def test_who_is_the_user_of_git_or_the_login(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "none"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("LOGNAME", "ada")
    assert history.someone(tmp_path) == "ada"
    (tmp_path / "config").write_text("[user]\n  name = Moteur ops\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
    assert history.someone(Path(tmp_path)) == "Moteur ops"

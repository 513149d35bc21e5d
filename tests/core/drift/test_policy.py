"""When windows that differ are an alarm."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.drift import policy
from pipelines.core.drift.policy import Policy

LETTERS = {"s": "same", "d": "differs", "i": "insufficient data"}


def outcomes(letters):
    return [LETTERS[letter] for letter in letters]


@pytest.mark.parametrize(
    ("letters", "state"),
    [
        ("", "insufficient data"),
        ("i", "insufficient data"),
        ("sssi", "insufficient data"),
        ("ddi", "insufficient data"),
        ("s", "ok"),
        ("sssss", "ok"),
        ("d", "watch"),
        ("sd", "watch"),
        ("ds", "watch"),
        ("dss", "watch"),
        ("dsssss", "ok"),
        ("dd", "drift"),
        ("dsssd", "drift"),
        ("dssssd", "watch"),
        ("did", "drift"),
        ("diiiiiid", "drift"),
        ("ddds", "watch"),
    ],
)
def test_the_state_after_these_windows(letters, state):
    assert policy.state(outcomes(letters), Policy()) == state


@settings(deadline=None)
@given(st.text("sdi", max_size=12))
def test_drift_needs_the_latest_window_and_enough_of_the_recent_ones(letters):
    told = [letter for letter in letters if letter != "i"]
    alarm = policy.state(outcomes(letters), Policy(recent=4, needed=3)) == "drift"
    assert alarm == (letters[-1:] == "d" and told[-4:].count("d") >= 3)


@pytest.mark.parametrize(
    ("letters", "began"), [("", None), ("s", None), ("ds", None), ("sd", 1), ("sddd", 1), ("dsdid", 2), ("di", None)]
)
def test_a_run_of_differing_windows_begins_after_the_last_that_was_the_same(letters, began):
    assert policy.since(outcomes(letters)) == began

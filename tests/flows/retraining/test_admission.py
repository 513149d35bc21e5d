"""What an order starts: a new retraining, the one that was killed, or nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from flows.retraining import admission, records
from flows.retraining import run as retraining
from flows.retraining.records import Order, Record, Skipped
from flows.workspaces import clones
from pipelines import stage
from pipelines.adapters.alerts import NullOutbox, Outbox
from tests.flows import toy
from tests.flows.retraining.attempts import accepted_data, lifecycle_that_ends_with, record, recorded, silent


def test_row_28_a_key_that_was_seen_starts_nothing() -> None:
    why = admission.why_not(Order(reason="schedule", key="k"), [record()], None, 0.0, 9e9)
    assert why == "k has had its retraining"
    assert not admission.why_not(Order(reason="schedule", key="other"), [record()], None, 0.0, 9e9)


def test_row_27_drift_soon_after_drift_starts_nothing_and_a_schedule_does() -> None:
    before = [record(started=1e6)]
    assert "cooldown" in admission.why_not(Order(reason="drift", key="n"), before, None, 3600.0, 1e6 + 3599)
    assert not admission.why_not(Order(reason="drift", key="n"), before, None, 3600.0, 1e6 + 3601)
    assert not admission.why_not(Order(reason="schedule", key="n"), before, None, 3600.0, 1e6 + 1)


def test_row_51_a_clock_set_back_by_a_day_does_not_keep_drift_from_retraining() -> None:
    before = [record(started=1e6)]
    assert not admission.why_not(Order(reason="drift", key="n"), before, None, 3600.0, 1e6 - 86400)


def test_to_resume_when_nothing_was_interrupted_starts_nothing(checkout: Path) -> None:
    result = retraining.run(checkout, Order(reason="resume"), silent)
    assert result == Skipped(why="no retraining was interrupted")


def test_one_that_was_killed_too_often_is_given_up_with_an_alert(checkout: Path) -> None:
    killed = record(attempts=3, commit="0" * 40)
    records.save(checkout, killed)
    result = retraining.run(checkout, Order(reason="resume"), silent)
    assert isinstance(result, Skipped)
    assert recorded(checkout)[0].status == "given up"
    assert Outbox(checkout / ".moteur/alerts").open()[0].title == "Retraining r: given up"


def stopped(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    """A retraining that was stopped in its lifecycle."""
    lifecycle_that_ends_with(143, monkeypatch)
    with pytest.raises(SystemExit):
        retraining.run(checkout, Order(), silent, alerting=NullOutbox())
    return recorded(checkout)[-1]


def admitted(checkout: Path, order: Order, published: list[Record] | None = None) -> Record:
    there = published if published is not None else []
    chosen = admission.admit(checkout, order, stage.load_params(checkout / "params.yaml"), NullOutbox(), there.append)
    assert isinstance(chosen, Record)
    return chosen


def commit(checkout: Path) -> None:
    toy.run_git(checkout, "commit", "-q", "--allow-empty", "-m", "Later")


def test_one_that_was_stopped_is_taken_up_while_the_commit_and_the_data_are_the_same(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted_data(checkout / "data/accepted", "corpus/one.txt")
    one = stopped(checkout, monkeypatch)
    assert admitted(checkout, Order(reason="schedule", key="k")).id == one.id
    commit(checkout)
    assert admitted(checkout, Order(reason="resume")).id == one.id


@pytest.mark.parametrize("change", [commit, lambda root: accepted_data(root / "data/accepted", "corpus/two.txt")])
def test_one_that_was_stopped_is_begun_anew_when_the_commit_or_the_data_have_changed(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object]
) -> None:
    one = stopped(checkout, monkeypatch)
    change(checkout)
    new = admitted(checkout, Order())
    assert (new.id != one.id, new.commit) == (True, clones.head(checkout))
    assert recorded(checkout)[0].status == "replaced"


def test_what_was_trained_but_not_published_is_published_before_a_new_one_begins(checkout: Path) -> None:
    waits = record(commit="0" * 40, status="not published", attempts=1, done=["workspace", "lifecycle"])
    records.save(checkout, waits)
    published: list[Record] = []
    new = admitted(checkout, Order(), published)
    assert [one.id for one in published] == ["r"]
    assert new.commit == clones.head(checkout)

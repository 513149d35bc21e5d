"""What goes on by itself, in params.yaml."""

from pipelines import params
from tests.params.changes import changed, fault


def test_a_schedule_with_seconds_is_refused_for_they_would_be_read_in_two_ways() -> None:
    assert "is no cron expression (it has not five fields)" in fault(schedule__retraining="0 0 3 * * 1")
    assert params.parse(changed(schedule__retraining="0 3 * * MON")).schedule.timezone == "UTC"

"""Somebody is told."""

from pathlib import Path

import pytest

from flows.retraining import run as retraining
from flows.retraining.records import Order
from pipelines.adapters.alerts import Outbox
from pipelines.errors import ParamsError
from tests.flows.retraining.attempts import silent


def test_what_fails_before_there_is_a_record_is_alerted(checkout: Path) -> None:
    (checkout / "params.yaml").write_text("seed: x\n")
    with pytest.raises(ParamsError):
        retraining.run(checkout, Order(reason="schedule"), silent)
    (alert,) = Outbox(checkout / ".moteur/alerts").open()
    assert alert.key.startswith("retraining/not started/20")
    assert "is not valid" in alert.body


def test_an_order_by_hand_that_fails_at_once_alerts_nobody_and_takes_no_alert_from_the_schedule(
    checkout: Path,
) -> None:
    with pytest.raises(ParamsError):
        retraining.run(checkout, Order(start="tpyo"), silent)
    assert not Outbox(checkout / ".moteur/alerts").open()
    for start in ("tpyo", "typo", "typo"):
        with pytest.raises(ParamsError):
            retraining.run(checkout, Order(reason="schedule", start=start), silent)
    assert len(Outbox(checkout / ".moteur/alerts").open()) == 2

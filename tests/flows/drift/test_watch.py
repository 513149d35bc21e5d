"""What is done about drift: told once, retrained once, and nothing when there is none."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.drift import watch
from flows.drift.watch import Sight
from pipelines.adapters.alerts import Outbox
from pipelines.errors import ResourceError


@dataclass
class Verdict:
    state: str = "drift"
    words: str = "Drift: words of the sea."
    manifest_sha256: str = "a" * 64
    since: str | None = "2026-03-01T00:00:00+00:00"


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / ".moteur/alerts")


@pytest.mark.parametrize("state", ["ok", "watch", "insufficient data"])
def test_without_drift_nobody_is_told(outbox: Outbox, state: str) -> None:
    watch.act(Sight(state=state, words="", key="k"), outbox, "http://127.0.0.1:9")
    assert not outbox.alerts()


def test_an_episode_of_drift_is_told_once_and_a_new_champion_begins_a_new_one(outbox: Outbox) -> None:
    for verdict in (Verdict(), Verdict(words="Still drift."), Verdict(manifest_sha256="b" * 64)):
        watch.act(watch.seen(verdict), outbox, None)
    assert [alert.key for alert in outbox.alerts()] == [
        "drift/aaaaaaaaaaaa/2026-03-01T00:00:00+00:00",
        "drift/bbbbbbbbbbbb/2026-03-01T00:00:00+00:00",
    ]


def test_when_prefect_is_down_the_alert_is_kept_and_the_look_fails(outbox: Outbox) -> None:
    with pytest.raises(ResourceError, match="does not answer"):
        watch.act(watch.seen(Verdict()), outbox, "http://127.0.0.1:9/api")
    assert len(outbox.alerts()) == 1


class Registry:
    """A hand-made one with a champion."""

    @dataclass
    class Version:
        number: int
        manifest_sha256: str = "c" * 64

    def __init__(self) -> None:
        self.live, self.fetched = Registry.Version(1), 0

    def fetch(self, number: int, folder: Path) -> Path:
        self.fetched += 1
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(str(number))
        return folder


def test_the_champion_is_copied_out_once_and_again_when_it_changes(tmp_path: Path) -> None:
    registry = Registry()
    for _ in range(2):
        assert (watch._copy(registry, registry.live, tmp_path / "c") / "manifest.json").read_text() == "1"
    assert registry.fetched == 1
    registry.live = Registry.Version(2)
    assert (watch._copy(registry, registry.live, tmp_path / "c") / "manifest.json").read_text() == "2"


def test_the_champion_before_stays_for_a_look_that_still_reads_it_and_older_ones_go(tmp_path: Path) -> None:
    registry, copies = Registry(), []
    for number in (1, 2, 3):
        registry.live = Registry.Version(number)
        copies.append(watch._copy(registry, registry.live, tmp_path / "c"))
        os.utime(copies[-1], (number, number))
    assert [copy.is_dir() for copy in copies] == [False, True, True]

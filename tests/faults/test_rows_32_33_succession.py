"""Rows 32 and 33: promoters that race, and a promoter that is killed between any two writes.

Processes are really killed. Between any two writes, and after every recovery, `champion` names one version that loads.
"""

import itertools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.champions import history, succession
from pipelines.adapters import registry
from pipelines.adapters.registry import Registry
from pipelines.artifacts import State
from pipelines.core.judging import gates
from pipelines.errors import ArtifactError, ResourceError
from tests import releases
from tests.releases import ROOT

FORKS = """
# Imports what takes long once, then does one job after the other in forked processes. A job says what to do and before
# which of its writes the process kills itself; writes are the aliases, the tags, the journal and the history.
import json, os, pathlib, signal, sys
import mlflow.tracking, sqlalchemy
from flows.champions import history, promotion, succession
from pipelines.adapters import files, registry
from tests import releases

class Writes:
    def __init__(self, kill_before):
        self.left = kill_before

    def count(self, write):
        def counted(*arguments, **named):
            if self.left is not None:
                self.left -= 1
                if self.left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return write(*arguments, **named)
        return counted

    def watch(self):
        registry.Registry.set_alias = self.count(registry.Registry.set_alias)
        registry.Registry.set_tag = self.count(registry.Registry.set_tag)
        registry.Registry.write_verdict = self.count(registry.Registry.write_verdict)
        succession.files.write_json = self.count(files.write_json)
        history.append = self.count(history.append)
        pathlib.Path.unlink = self.count_journal(pathlib.Path.unlink)

    def count_journal(self, unlink):
        counted = self.count(unlink)
        def gone(path, *arguments, **named):
            return (counted if path.name == "journal.json" else unlink)(path, *arguments, **named)
        return gone

def do(job):
    root = pathlib.Path(job["root"])
    Writes(job["kill_before"]).watch()
    if job["what"] == "promote":
        sit = releases.sitting(job.get("score", 1.0))
        promotion.promote(root, version=job["version"], who=job["who"], why="a test", examine=sit, say=print)
    elif job["what"] == "rollback":
        promotion.rollback(root, who=job["who"], why="a test", say=print)
    else:
        with succession.holding(root):
            print(succession.recover(registry.open_registry(root=root), root))

registry.open_registry(root=pathlib.Path(sys.argv[1])).aliases()  # everything that is imported late

for line in sys.stdin:
    jobs, children = json.loads(line), []
    for job in jobs:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                sys.stdout = open(pathlib.Path(job["root"]) / f"said-{os.getpid()}.txt", "w")
                do(job)
                code = 0
            finally:
                sys.stdout.flush()
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    print(json.dumps(codes), flush=True)
"""

KILLED = -9


class Forks:
    """The process that forks."""

    def __init__(self, warm: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        environment.pop("MLFLOW_TRACKING_URI", None)
        self._process = subprocess.Popen(
            [sys.executable, "-c", FORKS, str(warm)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def do(self, *jobs: dict[str, Any]) -> list[int]:
        """Do jobs at the same time; return their exit codes."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        whole = [{"kill_before": None, "who": "ops", **job} for job in jobs]
        self._process.stdin.write(json.dumps(whole) + "\n")
        self._process.stdin.flush()
        codes: list[int] = json.loads(self._process.stdout.readline())
        return codes

    def close(self) -> None:
        self._process.stdin.close()  # type: ignore[union-attr]
        self._process.wait(30)


@pytest.fixture(scope="module")
def forks(tmp_path_factory, database):
    warm = tmp_path_factory.mktemp("warm")
    (warm / State.MLFLOW_DATABASE).parent.mkdir()
    shutil.copy2(database, warm / State.MLFLOW_DATABASE)
    one = Forks(warm)
    yield one
    one.close()


@dataclass(frozen=True)
class Scene:
    """A workspace: versions 1, 2 and 3 are registered; 1 went live first, and then 2 in those that `went_live`."""

    root: Path

    @property
    def found(self) -> Registry:
        return registry.open_registry(root=self.root)

    def job(self, what: str, **more: Any) -> dict[str, Any]:
        return {"root": str(self.root), "what": what, **more}

    def copy(self, to: Path) -> "Scene":
        """The same state elsewhere; the files of the versions are shared."""
        shutil.copytree(self.root, to, ignore=shutil.ignore_patterns("mlartifacts", "said-*"))
        return Scene(to)

    def aliases(self) -> dict[str, int]:
        """What the database says, past MLflow: its client takes long to open a file that it does not know."""
        with closing(sqlite3.connect(self.root / State.MLFLOW_DATABASE)) as database:
            return dict(database.execute("select alias, version from registered_model_aliases").fetchall())

    def champion(self) -> int:
        """The one champion; all three versions load, as `first` has seen."""
        return self.aliases()["champion"]


@pytest.fixture(scope="module")
def first(tmp_path_factory, database, forks) -> Scene:
    """Three versions with an exam; version 1 is champion."""
    root = tmp_path_factory.mktemp("scene")
    shutil.copy2(ROOT / "params.yaml", root / "params.yaml")
    (root / State.MLFLOW_DATABASE).parent.mkdir()
    shutil.copy2(database, root / State.MLFLOW_DATABASE)
    scene = Scene(root)
    exam = releases.exam(tmp_path_factory.mktemp("exam"))
    for number in (1, 2, 3):
        scene.found.register(releases.small(tmp_path_factory.mktemp("b") / "release", f"v{number}"), {}, exam=exam)
        succession.loadable(scene.found, number)
    assert forks.do(scene.job("promote", version=1)) == [0]
    return scene


@pytest.fixture(scope="module")
def second(tmp_path_factory, first, forks) -> Scene:
    """Version 2 is champion, 1 the one before."""
    scene = first.copy(tmp_path_factory.mktemp("second") / "root")
    assert forks.do(scene.job("promote", version=2)) == [0]
    return scene


def after(scene: Scene) -> dict[str, int]:
    return scene.aliases()


def moves(scene: Scene) -> list[tuple[str, int]]:
    return [(entry.action, entry.to_version) for entry in history.read(scene.root)]


def test_undisturbed_promotion_and_rollback_end_as_they_should(first, second, forks, tmp_path):
    assert after(first) == {"champion": 1}
    assert after(second) == {"champion": 2, "previous_champion": 1}
    scene = second.copy(tmp_path / "root")
    assert forks.do(scene.job("rollback")) == [0]
    assert after(scene) == {"champion": 1}
    assert moves(scene) == [("promote", 1), ("promote", 2), ("rollback", 1)]
    assert scene.found.version(2).tags["withdrawn"].endswith("by ops: a test")


@pytest.mark.parametrize("what", ["promote", "rollback"])
def test_row_33_killed_before_any_write_the_next_start_finishes_or_nothing_had_begun(
    what, first, second, forks, tmp_path
):
    start, old, new = (first, 1, 2) if what == "promote" else (second, 2, 1)
    expected = {"champion": 2, "previous_champion": 1} if what == "promote" else {"champion": 1}
    nested: Scene | None = None
    for write in itertools.count():
        scene = start.copy(tmp_path / f"{write}")
        (code,) = forks.do(scene.job(what, version=2, kill_before=write))
        assert scene.champion() in (old, new)
        begun = (scene.root / succession.JOURNAL).exists()
        if begun:
            recovered = [scene]
            if not nested:  # the first time every write is still to be done: kill the recovery before each of them
                recovered.append(nested := scene.copy(tmp_path / f"{write}-nested"))
                for again in range(7):
                    forks.do(nested.job("recover", kill_before=again))
                    assert nested.champion() in (old, new)
            assert forks.do(*(one.job("recover") for one in recovered)) == [0] * len(recovered)
            for one in recovered:
                assert after(one) == expected
                assert not (one.root / succession.JOURNAL).exists()
        if begun or code == 0:
            assert moves(scene) == [*moves(start), (what, new)]
        assert history.faults(scene.root) == []
        if code == 0:
            break
        assert code == KILLED
    assert write >= (12 if what == "promote" else 6)
    assert after(scene) == expected


def test_row_33_a_new_champion_that_cannot_be_loaded_is_taken_back(first, forks, tmp_path):
    for write in itertools.count(7):
        scene = first.copy(tmp_path / f"{write}")
        journal = scene.root / succession.JOURNAL
        assert forks.do(scene.job("promote", version=2, kill_before=write)) == [KILLED]
        if journal.exists() and after(scene)["champion"] == 2:
            break
    _swap_manifest(scene, 2)
    with succession.holding(scene.root):
        words = succession.recover(scene.found, scene.root)
    assert words is not None
    assert words.startswith("Took back a move that had been cut off: version 2 could not be loaded")
    assert scene.champion() == 1
    assert after(scene) == {"champion": 1}
    assert moves(scene) == [("promote", 1), ("revert", 2)]
    assert not journal.exists()


def test_row_33_a_registry_that_goes_down_in_the_middle_of_a_move_is_not_told_as_nothing_done(
    first, tmp_path, monkeypatch
):
    scene = first.copy(tmp_path / "root")
    event = succession.entry(scene.found.version(2), "promote", champion=1, who="ops", why="")

    def gone(*_):
        raise ResourceError("the registry does not do what is asked.")

    with monkeypatch.context() as down, succession.holding(scene.root):
        down.setattr(Registry, "set_tag", gone)
        down.setattr(succession, "_pardoned", lambda *_: {2: {succession.WITHDRAWN: ""}})
        with pytest.raises(ResourceError, match=r"asked\. The move to version 2 has begun, and it may be champion"):
            succession.crown(scene.found, scene.root, event)
    assert scene.champion() == 2
    with succession.holding(scene.root):
        assert succession.recover(scene.found, scene.root)
    assert moves(scene)[-1] == ("promote", 2)


def test_row_33_where_neither_the_new_nor_the_old_champion_loads_a_rollback_still_takes_a_third(
    second, forks, tmp_path
):
    for write in itertools.count(7):
        scene = second.copy(tmp_path / f"{write}")
        assert forks.do(scene.job("promote", version=3, kill_before=write)) == [KILLED]
        if (scene.root / succession.JOURNAL).exists() and after(scene)["champion"] == 3:
            break
    _swap_manifest(scene, 2)
    _swap_manifest(scene, 3)
    assert forks.do(scene.job("rollback")) == [0]
    assert after(scene) == {"champion": 1}
    assert moves(scene)[2:] == [("revert", 3), ("rollback", 1)]
    assert not (scene.root / succession.JOURNAL).exists()


def test_row_33_a_move_is_taken_back_though_the_old_champion_was_deleted_meanwhile(first, tmp_path):
    scene = first.copy(tmp_path / "root")
    event = succession.entry(scene.found.version(2), "promote", champion=1, who="ops", why="")
    steps = (succession.Step(alias="previous_champion", version=1), succession.Step(alias="champion", version=2))
    move = succession.Move(entry=event, before={"champion": 1}, steps=steps)
    succession.files.write_json(scene.root / succession.JOURNAL, succession._written(move))
    scene.found.set_alias("champion", 2)
    scene.found._client.delete_model_version("moteur", "1")
    _swap_manifest(scene, 2)
    with succession.holding(scene.root):
        assert succession.recover(scene.found, scene.root)
    assert after(scene) == {}


def _swap_manifest(scene: Scene, number: int) -> None:
    """As if the files of a version, which other tests share, had been swapped."""
    client = scene.found._client
    client.set_model_version_tag("moteur", str(number), registry.MANIFEST_TAG, "0" * 64)


def test_a_champion_moved_by_somebody_else_meanwhile_stays(first, forks, tmp_path):
    scene = first.copy(tmp_path / "root")
    event = succession.entry(scene.found.version(2), "promote", champion=1, who="ops", why="")
    move = succession.Move(entry=event, before={"champion": 1}, steps=(succession.Step(alias="champion", version=2),))
    succession.files.write_json(scene.root / succession.JOURNAL, succession._written(move))
    scene.found.set_alias("champion", 3)
    assert forks.do(scene.job("recover")) == [0]
    assert after(scene)["champion"] == 3
    assert moves(scene)[-1] == ("revert", 2)


def test_a_torn_journal_stops_everything_and_names_the_file(first, tmp_path):
    scene = first.copy(tmp_path / "root")
    (scene.root / succession.JOURNAL).write_text('{"entry": {}}')
    with pytest.raises(ArtifactError, match=r"journal\.json holds no entry of the history"):
        succession.recover(scene.found, scene.root)
    assert scene.champion() == 1


def test_row_32_two_promoters_race_and_the_second_is_compared_with_the_first(first, forks, tmp_path):
    scene = first.copy(tmp_path / "root")
    codes = forks.do(scene.job("promote", version=2, who="ops"), scene.job("promote", version=3, who="Ben"))
    assert codes == [0, 0]
    (_, winner), (_, last) = moves(scene)[1:]
    assert {winner, last} == {2, 3}
    assert after(scene) == {"champion": last, "previous_champion": winner}
    assert {entry.who for entry in history.read(scene.root)[1:]} == {"ops", "Ben"}
    assert history.read(scene.root)[-1].from_version == winner
    assert history.faults(scene.root) == []


def test_row_32_the_worse_of_two_racers_never_ends_as_champion(first, forks, tmp_path):
    """Both are better than the champion or equal, but one is worse than the other."""
    scene = first.copy(tmp_path / "root")
    forks.do(
        scene.job("promote", version=2, who="ops", score=0.0),
        scene.job("promote", version=3, who="Ben"),
    )
    assert after(scene)["champion"] == 3
    assert sorted(moves(scene)[1:]) == [("promote", 3), ("refuse", 2)]
    document = scene.found.read_verdict(2)
    assert document is not None
    assert document["sha256"] == gates.digest(document)
    assert not document["passed"]


def test_row_32_many_at_once_leave_one_champion_and_an_entry_each(second, forks, tmp_path):
    scene = second.copy(tmp_path / "root")
    jobs = [scene.job("promote", version=3, who=f"promoter {n}") for n in range(3)]
    codes = forks.do(*jobs, scene.job("rollback", who="Eve"))
    assert set(codes) == {0}
    assert scene.champion() in (1, 3)
    reigns = history.reigns(history.read(scene.root))
    assert reigns[-1].version == scene.champion()
    assert history.faults(scene.root) == []


def test_who_waits_too_long_for_the_lock_is_told_where_it_is(tmp_path):
    with (
        succession.holding(tmp_path),
        pytest.raises(ResourceError, match=r"has held .* for 0 s"),
        succession.holding(tmp_path, wait=0),
    ):
        pass

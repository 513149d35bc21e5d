"""Which ids were read before."""

from pathlib import Path

import pytest

from pipelines.adapters import intake


@pytest.fixture
def ids() -> intake.Ids:
    return intake.Ids()


def test_an_id_clashes_when_it_comes_back_with_other_content(ids: intake.Ids) -> None:
    assert not ids.clash("a", "one")
    assert not ids.clash("a", "one")
    assert ids.clash("a", "two")
    assert not ids.clash("a", "one")
    assert not ids.clash("b", "two")


def test_ids_of_different_kinds_are_different(ids: intake.Ids) -> None:
    assert not ids.clash(("corpus", "a"), "one")
    assert not ids.clash(("instructions", "a"), "two")


def test_ids_that_do_not_fit_the_memory_are_still_known(ids: intake.Ids) -> None:
    count = 200_000  # some 5 MiB of pages, of which 1 is held
    ids._table.execute("PRAGMA cache_size = -1024")
    assert not any(ids.clash(number * 7919, number) for number in range(count))
    assert not any(ids.clash(number * 7919, number) for number in range(0, count, 97))
    assert all(ids.clash(number * 7919, number + 1) for number in range(0, count, 97))


def test_nothing_is_left_behind(ids: intake.Ids, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))
    other = intake.Ids()
    other._table.execute("PRAGMA cache_size = -64")
    for number in range(20_000):
        other.clash(number * 7919, number)
    other.close()
    assert not list(tmp_path.iterdir())

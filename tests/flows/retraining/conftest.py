"""A checkout that may be retrained."""

from pathlib import Path

import pytest

from tests.flows import toy


@pytest.fixture
def checkout(tmp_path: Path, database: Path) -> Path:
    return toy.make(tmp_path / "checkout", database=database)

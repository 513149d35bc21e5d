"""One server for all tests that do not stop it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import live

LIMITS = {
    "choices": 4,
    "beams": 4,
    "max_tokens": 200,
    "queue": 12,
    "connections": 60,
    "header_seconds": 1.0,
    "body_seconds": 1.0,
    "send_seconds": 2.0,
}


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two releases under one name, with different weights."""
    folder = tmp_path_factory.mktemp("bundles")
    return live.write_bundle(folder / "one", seed=0), live.write_bundle(folder / "two", seed=1)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, bundles: tuple[Path, Path]) -> Iterator[live.Server]:
    """A server of four slots, that looks at its folder ten times a second."""
    root = tmp_path_factory.mktemp("server")
    shutil.copytree(bundles[0], root / "bundle")
    with live.serving(root, root / "bundle", slots=4, poll_seconds=0.1, limits=LIMITS) as one:
        yield one

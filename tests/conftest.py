"""Shared by all tests: no library calls home, and threads stay few."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import flows  # noqa: F401  before pytest takes tests/flows for the package of that name
import serving  # noqa: F401  likewise
from pipelines.adapters import device

os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
for name, value in device.SHARED.items():
    os.environ.setdefault(name, value)
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database, migrated, to be copied: the migration takes seconds."""
    from tests import mlflow_server

    return mlflow_server.template(tmp_path_factory.mktemp("mlflow-template") / "mlflow.db")


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Iterator[str]:
    """The URI of an MLflow server that lives as long as the tests."""
    from tests import mlflow_server

    with mlflow_server.running(tmp_path_factory.mktemp("mlflow-server"), database) as uri:
        yield uri

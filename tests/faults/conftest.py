"""What takes seconds to start, once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import mlflow_server


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database, migrated."""
    return mlflow_server.template(tmp_path_factory.mktemp("mlflow-template") / "mlflow.db")


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Iterator[str]:
    """The URI of an MLflow server that lives as long as the tests."""
    with mlflow_server.running(tmp_path_factory.mktemp("mlflow-server"), mlflow_template) as uri:
        yield uri

"""One answer to where MLflow is, and one way to an experiment."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, RESOURCE_ALREADY_EXISTS, ErrorCode

from pipelines.adapters import mlflow_store


class Client:
    """Another process makes the experiment between our look and our attempt."""

    def __init__(self, uri: str, fault: int | None = None) -> None:
        self.tracking_uri, self._fault = uri, fault
        self.made: dict[str, str | None] = {}
        self._there: set[str] = set()

    def get_experiment_by_name(self, name: str) -> SimpleNamespace | None:
        return SimpleNamespace(experiment_id=f"id of {name}") if name in self._there else None

    def create_experiment(self, name: str, artifact_location: str | None) -> str:
        self._there.add(name)
        if self._fault is not None:
            raise MlflowException("no", error_code=self._fault)
        self.made[name] = artifact_location
        return f"id of {name}"


def test_without_a_server_of_the_users_own_it_is_a_file_of_the_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for empty in (None, ""):
        monkeypatch.delenv(mlflow_store.VARIABLE, raising=False)
        if empty is not None:
            monkeypatch.setenv(mlflow_store.VARIABLE, empty)
        assert mlflow_store.uri(tmp_path) == f"sqlite:///{tmp_path}/.moteur/mlflow.db"
    monkeypatch.setenv(mlflow_store.VARIABLE, "http://mlflow:5000")
    assert mlflow_store.uri(tmp_path) == "http://mlflow:5000"


def test_of_two_that_make_an_experiment_at_once_both_get_it() -> None:
    client = Client("http://mlflow:5000", fault=RESOURCE_ALREADY_EXISTS)
    assert mlflow_store.experiment(client, "moteur") == "id of moteur"  # type: ignore[arg-type]


def test_another_fault_is_raised() -> None:
    with pytest.raises(MlflowException) as caught:
        mlflow_store.experiment(Client("http://mlflow:5000", fault=INTERNAL_ERROR), "moteur")  # type: ignore[arg-type]
    assert caught.value.error_code == ErrorCode.Name(INTERNAL_ERROR)


def test_artifacts_lie_beside_the_database_and_where_a_server_puts_them(tmp_path: Path) -> None:
    beside = Client(mlflow_store.local(tmp_path))
    mlflow_store.experiment(beside, "moteur")  # type: ignore[arg-type]
    assert beside.made == {"moteur": f"file://{tmp_path}/.moteur/mlartifacts"}
    server = Client("http://mlflow:5000")
    mlflow_store.experiment(server, "moteur")  # type: ignore[arg-type]
    assert server.made == {"moteur": None}

"""Where MLflow keeps what it is told: a server that the environment names, or files of the workspace."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.artifacts import State

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

VARIABLE = "MLFLOW_TRACKING_URI"
"""Names a server of the user's own."""
SQLITE = "sqlite:///"


def local(root: Path) -> str:
    """The SQLite file of the workspace `root`."""
    return f"{SQLITE}{(root / State.MLFLOW_DATABASE).resolve()}"


def uri(root: Path) -> str:
    """MLFLOW_TRACKING_URI, or the SQLite file of the workspace `root`; it may hold a password."""
    return os.environ.get(VARIABLE) or local(root)


def experiment(client: "MlflowClient", name: str) -> str:
    """The id of an experiment, which is made when it is not there; of two that make it at once both get the same.

    Without a server its artifacts lie beside the database.

    Raises:
        MlflowException: when MLflow does not do what is asked.
    """
    from mlflow.exceptions import MlflowException

    if found := client.get_experiment_by_name(name):
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name, artifact_location=_artifacts(client.tracking_uri)))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return str(client.get_experiment_by_name(name).experiment_id)


def _artifacts(where: str) -> str | None:
    """None: where the server decides."""
    if not where.startswith(SQLITE):
        return None
    return (Path(where.removeprefix(SQLITE)).resolve().parent / State.MLFLOW_ARTIFACTS.path.name).as_uri()

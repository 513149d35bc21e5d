"""A real `mlflow server`, and databases whose first migration (some seconds) is paid once."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import servers


def template(path: Path) -> Path:
    """An empty, migrated database."""
    from mlflow.tracking import MlflowClient

    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@contextmanager
def running(folder: Path, database: Path) -> Iterator[str]:
    """The URI of a server on a copy of `database`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mlflow.db").write_bytes(database.read_bytes())
    server = servers.mlflow(folder, f"sqlite:///{folder / 'mlflow.db'}")
    server.start()
    try:
        server.wait()
        yield server.uri
    finally:
        server.kill()
